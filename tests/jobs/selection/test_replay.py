"""The replay: what counts as a hit, that it is what the service answers, and what is chosen by."""

import json
import shutil
from dataclasses import replace
from itertools import combinations
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.release.catalog import Catalog
from api.release.recommender import Recommender
from api.service import Service
from api.settings import Settings
from jobs.contract import ids, storage, tables
from jobs.contract.blending import LISTED, RECENT_EVENTS, SOURCES, Blending, Neighbours
from jobs.contract.names import MANIFEST, REPLAY
from jobs.contract.results import BlendingChoice
from jobs.contract.storage import JobError
from jobs.selection import blending_choice, blending_search, hit_rates, replay_sessions
from jobs.selection.blending_choice import ALTERNATE, OFFLINE, WEIGHTED, Judged, choose_blending
from jobs.selection.replay_sessions import K
from jobs.selection.rule_scorer import RuleScorer
from tests.support import releases
from tests.support.workspace import rows, run

ALTERNATING = Blending()
SUBSETS = [names for n in (1, 2, 3) for names in combinations(SOURCES, n)]
FOLD_IN = Blending(sources=("fold_in",), neighbours=20)
WEIGHTED_RULE = Blending(
    rule="weighted",
    sources=SOURCES,
    events=3,
    neighbours=4,
    half_life=2,
    similar_weight=0.5,
    next_played_weight=0.75,
    fold_in_weight=2,
    offline_half_life=3,
    offline_half_place=5,
)


def window(folder, played):
    """A release's folder as a window, with what users played after its cut."""
    later = [(user, track) for user in sorted(played) for track in played[user]]
    columns = {
        "user_id": [user for user, _ in later],
        "track_id": [track for _, track in later],
        "started_at": range(len(later)),
        "track_seq": range(len(later)),
    }
    schema = tables.HOLDOUT.schema
    arrays = [releases.pa.array(columns[field.name], field.type) for field in schema]
    tables.write(tables.HOLDOUT, folder, releases.pa.table(arrays, schema=schema))
    return folder


@pytest.fixture(scope="module", params=["exclude", "include"])
def random_world(request, tmp_path_factory):
    """A folder that is a window and a release at once: 30 users, 90 tracks, random lists."""
    random = Random(7)
    some = lambda low, high: random.sample(range(90), random.randint(low, high))  # noqa: E731
    near = lambda: {t: {n: random.randint(1, 8) / 8 for n in some(0, 9)} for t in range(80)}  # noqa: E731
    ordered = lambda lists: {  # noqa: E731
        t: dict(sorted(scores.items(), key=lambda pair: -pair[1])) for t, scores in lists.items()
    }
    folder = releases.make(
        tmp_path_factory.mktemp("work"),
        tracks=range(90),
        top=some(90, 90),
        final={user: some(1, 12) for user in range(25)},
        heard={user: some(1, 8) for user in range(25)},
        similar=ordered(near()),
        next_played=ordered(near()),
        heard_rule=request.param,
    )
    played = {user: random.choices(range(90), k=random.randint(1, 9)) for user in range(5, 30)}
    return window(folder, played), request.param, played


@pytest.mark.parametrize("rule", [ALTERNATING, FOLD_IN, WEIGHTED_RULE])
def test_a_hit_is_a_play_that_the_service_would_have_recommended(random_world, rule):
    folder, heard, played = random_world
    found = replay_sessions.read(folder, heard, 10**6)
    hits = iter(found.hits(rule).tolist())
    offline = iter((found.offline_place < K).tolist())
    service = Service(Settings(journal="off"))
    service.releases.recommender = Recommender(
        Catalog(folder, msgspec.structs.asdict(rule)), RECENT_EVENTS
    )
    without = Service(Settings(journal="off"))
    without.releases.recommender = Recommender(Catalog(folder, {"rule": "offline"}), RECENT_EVENTS)
    history = {user: set() for user in played}
    for user, track in rows(tables.LISTENS, folder, "user_id", "track_id"):
        history.setdefault(user, set()).add(track)
    for user in sorted(played):
        for track in played[user]:
            if heard == "include" or track not in history[user]:
                assert next(hits) == (track in json.loads(service.recommend(user, K)))
                assert next(offline) == (track in json.loads(without.recommend(user, K)))
            history[user].add(track)
            for each in (service, without):
                each.store.add(user, track)
    assert [*hits, *offline] == []
    assert found.hits(rule).any()


def test_many_rules_tried_at_once_hit_what_each_of_them_hits(random_world):
    folder, heard, _ = random_world
    found = replay_sessions.read(folder, heard, 10**6)
    random = Random(1)
    contest = RuleScorer.of(found, WEIGHTED_RULE)
    for _ in range(40):
        rule = msgspec.structs.replace(
            WEIGHTED_RULE,
            sources=random.choice([names for names in SUBSETS if names != ("fold_in",)]),
            half_life=random.choice([None, 0.5, 3.0]),
            similar_weight=random.choice([0.1, 0.5, 4.0]),
            next_played_weight=random.choice([0.1, 0.5, 4.0]),
            fold_in_weight=random.choice([0.1, 0.5, 4.0]),
            score_exponent=random.choice([0.5, 1.0]),
            offline_half_life=random.choice([None, 0.5, 3.0]),
            offline_half_place=random.choice([1.0, 8.0, 50.0]),
        )
        hit = np.zeros(len(found), bool)
        hit[contest.plays] = contest.hits(rule)
        assert hit[found.at > 0].tolist() == found.hits(rule)[found.at > 0].tolist()


@pytest.fixture
def small(tmp_path):
    """User 1 has heard 10 and plays 20, 30, 10, 40; user 2 is new and plays 20, 40."""
    folder = releases.make(
        tmp_path,
        tracks=[*range(100, 130), 10, 20, 30, 40],
        top=[*range(100, 130), 10, 20, 30, 40],
        final={1: [*range(100, 112)]},
        heard={1: [10]},
        similar={},
        next_played={20: {30: 1.0}, 10: {40: 1.0}},
    )
    return window(folder, {1: [20, 30, 10, 40], 2: [20, 40]})


def test_a_play_is_foreseen_before_it_is_an_event_and_a_heard_one_is_an_event_only(small):
    found = replay_sessions.read(small, "exclude", 10**6)
    ids = np.array(sorted([*range(100, 130), 10, 20, 30, 40]))
    seen = [(int(ids[found.target[i]]), ids[found.events(i)].tolist()) for i in range(len(found))]
    assert seen == [
        (20, []), (30, [20]), (40, [10, 30, 20]), (20, []), (40, [20]),
    ]  # fmt: skip
    rule = Blending(sources=("next_played",))
    # 30 follows 20, and 40 follows the heard 10; nothing says that 40 follows 20
    assert found.hits(rule).tolist() == [False, True, True, False, False]
    assert found.hits(rule, alone=True).tolist() == [False, True, True, False, False]
    assert not (found.offline_place < K).any()


def test_exchanged_events_are_another_users_and_as_many_where_there_are(small):
    found = replay_sessions.read(small, "exclude", 10**6)
    other = found.exchanged()
    assert other.events_of.tolist() == [1, 0]
    assert [len(other.events(i)) for i in range(len(other))] == [0, 1, 2, 0, 1]
    assert other.out(1).tolist() == found.out(1).tolist()  # the user's own plays stay out
    rule = Blending(sources=("next_played",))
    # the others' first plays are 20 too, and 30 is played next by user 1 only
    assert other.hits(rule).tolist() == [False, True, False, False, False]


def test_users_are_drawn_until_they_have_the_plays_that_are_asked_for(random_world):
    folder, heard, played = random_world
    every = replay_sessions.read(folder, heard, 10**6)
    few = replay_sessions.read(folder, heard, 20)
    sizes = [len(tracks) for tracks in few.tracks]
    assert len(every.tracks) == len(played)
    assert sum(sizes) >= 20 > sum(sizes) - max(sizes)
    again = replay_sessions.read(folder, heard, 20)
    assert [t.tolist() for t in few.tracks] == [t.tolist() for t in again.tracks]


def test_long_sessions_do_not_decide():
    at = np.array([0, 1, 2] + [3] * 90 + [9] * 10)
    hit = np.zeros(len(at), bool)
    hit[1] = True
    assert hit_rates.mean_hit_rate(hit, at) == pytest.approx(1 / 3)
    assert hit_rates.hit_rates(hit, at) == {"0": 0.0, "1": 1.0, "2": 0.0, "3+": 0.0}


def test_a_chosen_rule_is_one_that_the_service_takes_and_can_afford(random_world, monkeypatch):
    folder, heard, _ = random_world
    monkeypatch.setattr(blending_choice, "ENOUGH_USERS", 20)
    choice = choose_blending(replay_sessions.read(folder, heard, 10**6))
    rule = choice.blending
    assert msgspec.convert(msgspec.to_builtins(rule), Blending) == rule
    assert (
        rule.events * rule.neighbours * len(rule.weights().keys() & {*LISTED})
        <= blending_search.MOST_PAIRS
    )
    rates = [tried.hit_rate for tried in choice.tried]
    assert rates == sorted(rates, reverse=True)
    served = [each for each in choice.why.judged if each.served]
    assert [each.rule for each in served] == [rule.rule] * (rule.rule != "offline")


def test_who_judges_a_rule_took_no_part_in_its_search(random_world, monkeypatch):
    """Each of the rules judged is the one that is found on the plays of all other users alone."""
    folder, heard, _ = random_world
    monkeypatch.setattr(blending_choice, "ENOUGH_USERS", 20)
    found = replay_sessions.read(folder, heard, 10**6)
    hashes = ids.hashes(found.user_ids, replay_sessions.SEED)
    fold = (hashes % np.uint64(blending_choice.FOLDS))[found.session]
    typical = blending_search.typical_scores(found)
    hits = np.zeros(len(found), bool)
    for i in range(blending_choice.FOLDS):
        alone = found.of(fold != i)
        [best] = blending_search.search(alone, [np.ones(len(alone), bool)], typical)
        rule = blending_search.weighted_rule(best.numbers, best.size, typical)
        hits[fold == i] = found.of(fold == i).hits(rule)
    judged = choose_blending(found).why.judged[0]
    assert (judged.rule, judged.share) == ("weighted", 1)
    assert judged.hit_rate == pytest.approx(hit_rates.mean_hit_rate(hits, found.at))
    offline = hit_rates.mean_hit_rate(found.offline_place < K, found.at)
    assert judged.gain.gain == pytest.approx(judged.hit_rate - offline, abs=1e-4)


def sessions_with(found, offline, *ours):
    """Gains of candidates over the offline list for 2,000 users with a play after an event."""
    rng = np.random.default_rng(0)
    found = replace(
        found,
        tracks=[np.arange(2)] * 2000,
        session=np.arange(2000).repeat(2),
        at=np.tile([0, 1], 2000),
    )
    luck = rng.random(4000)
    hits = {
        candidate: luck < offline + gain
        for candidate, gain in zip((*WEIGHTED, ALTERNATE), ours, strict=True)
    }
    return blending_choice.judge(hits, luck < offline, found)


@pytest.mark.parametrize(
    ("gains", "served"),
    [
        ((0.1, 0.02, 0), ("weighted", 1.0)),  # surely best
        ((0.0, 0.0, 0.0), ("weighted", 0.5)),  # nothing is known: the cautious blend
        ((-0.1, 0.0, -0.1), ("weighted", 0.5)),  # the only one that is not surely worse
        ((-0.1, -0.1, -0.1), ("offline", 0.0)),  # all are surely worse
        ((0.0, 0.0, 0.1), ("alternate", 1.0)),  # surely better than the weighted rule
        ((-0.1, -0.1, 0.0), ("alternate", 1.0)),  # the only one that is not surely worse
        ((0.001, 0.0, 0.001), ("weighted", 0.5)),  # alternate isn't surely better
    ],
)
def test_offline_is_served_alone_only_where_every_blend_is_surely_worse(
    random_world, gains, served
):
    folder, heard, _ = random_world
    found = replay_sessions.read(folder, heard, 10**6)
    assert blending_choice.decide(sessions_with(found, 0.2, *gains))[0] == served


gains_of_draws = st.lists(st.floats(-0.1, 0.1), min_size=20, max_size=20)


@given(gains=st.lists(gains_of_draws, min_size=3, max_size=3))
def test_what_is_served_is_neither_surely_worse_than_offline_nor_far_below_the_best(gains):
    names = (*WEIGHTED, ALTERNATE)
    judged = {
        name: Judged(float(np.mean(each)), np.array(each))
        for name, each in zip(names, gains, strict=True)
    }
    served, reason = blending_choice.decide(judged)
    if served == OFFLINE:
        assert reason == "worse"
        assert all(each.surely_worse for each in judged.values())
        return
    assert not judged[served].surely_worse
    if served == ALTERNATE:
        others = [judged[each] for each in WEIGHTED]
        assert all(other.surely_worse for other in others) or judged[served].gain > others[0].gain
        return
    possible = [each for each in WEIGHTED if not judged[each].surely_worse]
    best = max(possible, key=lambda each: judged[each].gain)
    assert (reason == "best") == (served == best)
    lost = judged[best].drawn - judged[served].drawn
    assert judged[best].gain - judged[served].gain <= lost.std(ddof=1) + 1e-12


@given(share=st.sampled_from(blending_choice.SHARES), weight=st.floats(1e-9, 1e9))
def test_a_cautious_rule_differs_by_its_weights_only(share, weight):
    rule = msgspec.structs.replace(WEIGHTED_RULE, similar_weight=weight)
    less = blending_choice.cautious(rule, share)
    assert less.similar_weight == pytest.approx(share * weight, rel=1e-3)
    assert less.fold_in_weight == share * rule.fold_in_weight
    same = {f"{source}_weight": getattr(rule, f"{source}_weight") for source in SOURCES}
    assert msgspec.structs.replace(less, **same) == rule


def test_a_gain_that_looks_like_nothing_is_nothing():
    gain = hit_rates.gain_of(0.00004, np.array([-0.00003, 0.00004, 0.00002]))
    assert (gain.gain, gain.low, gain.high) == (0, 0, 0)
    assert str(gain.low) == "0.0"


def test_of_few_users_no_rule_is_chosen(random_world):
    folder, heard, _ = random_world
    choice = choose_blending(replay_sessions.read(folder, heard, 10**6))
    assert (choice.blending, choice.tried) == (Blending(), [])
    assert choice.why == BlendingChoice("few users", choice.why.users)


def test_without_a_second_play_in_a_session_the_default_serves(small):
    found = replay_sessions.read(small, "exclude", 10**6)
    choice = choose_blending(found.of(found.at == 0))
    assert (choice.blending, choice.tried, choice.why.users) == (Blending(), [], 0)


NOTHING_LISTED = Neighbours(np.zeros(91, np.int64), np.zeros(0, np.int32), np.zeros(0))


@pytest.mark.parametrize("missing", [("similar",), ("next_played",), LISTED, ("fold_in",), SOURCES])
def test_a_source_that_brings_nothing_is_in_no_rule_and_named(random_world, monkeypatch, missing):
    folder, heard, _ = random_world
    monkeypatch.setattr(blending_choice, "ENOUGH_USERS", 20)
    found = replay_sessions.read(folder, heard, 10**6)
    lists = {
        name: NOTHING_LISTED if name in missing else each for name, each in found.lists.items()
    }
    found = replace(found, lists=lists)
    if "fold_in" in missing:
        order = replace(found.model.order, vectors=found.model.order.vectors * 0)
        found = replace(found, model=replace(found.model, order=order))
    choice = choose_blending(found)
    assert choice.why.missing == [name for name in SOURCES if name in missing]
    nominal = {LISTED[0]} if {*LISTED} <= {*missing} else set()
    for rule in (choice.blending, *(tried for tried in choice.tried if tried.rule != "offline")):
        assert not {*rule.sources} & {*missing} - nominal
    if missing == SOURCES:  # then all lists are the offline list, and none is surely worse
        assert choice.blending.rule == "weighted"
        assert {each.gain.high for each in choice.why.judged} == {0}


@pytest.fixture
def work(finished, tmp_path):
    """A finished folder to change."""
    return shutil.copytree(finished, tmp_path / "work", symlinks=True)


def test_the_rule_of_the_release_is_the_one_chosen_and_knows_nothing_of_the_report(work):
    before = storage.read_json(work / REPLAY, "jobs.replay")
    manifest = storage.read_json(work / "current" / MANIFEST, "jobs.publish")
    assert manifest["settings"]["blending"] == before["blending"]
    assert Catalog((work / "current").resolve(), {}).blending.rule == before["blending"]["rule"]
    held = tables.read(tables.HOLDOUT, work / "windows" / "test")
    tracks = np.random.default_rng(0).permutation(held["track_id"].to_numpy())
    place = held.schema.names.index("track_id")
    tables.write(
        tables.HOLDOUT, work / "windows" / "test", held.set_column(place, "track_id", [tracks])
    )
    run("replay", work)
    after = storage.read_json(work / REPLAY, "jobs.replay")
    assert (after["blending"], after["validation"]) == (before["blending"], before["validation"])
    assert after["test"] != before["test"]


def test_on_the_sample_events_help_and_another_users_events_do_not(finished):
    content = storage.read_json(finished / REPLAY, "jobs.replay")
    by_seen = {row["events seen"]: row for row in content["test"]}
    assert by_seen["0"]["blend"] == by_seen["0"]["offline"]
    assert by_seen["3+"]["blend"] > 1.1 * by_seen["3+"]["offline"]
    assert by_seen["3+"]["exchanged"] < 0.9 * by_seen["3+"]["blend"]
    assert content["gains"]["blend"]["gain"] > 0
    gains = {seen: row["gains"]["blend"] for seen, row in by_seen.items()}
    assert gains["0"] == {"gain": 0, "low": 0, "high": 0}
    assert all(each["low"] <= each["gain"] <= each["high"] for each in gains.values())
    html = (finished / "report" / "replay.html").read_text()
    assert "<svg" in html and "events of another user, as a control" in html


def test_without_a_replay_the_default_is_published_and_nonsense_is_refused(work):
    (work / REPLAY).unlink()
    run("publish", work)
    manifest = storage.read_json(work / "current" / MANIFEST, "jobs.publish")
    assert manifest["settings"]["blending"] == msgspec.json.decode(msgspec.json.encode(Blending()))
    storage.write_json(work / REPLAY, {"blending": {"rule": "best"}})
    current = (work / "current").readlink()
    with pytest.raises(JobError, match=r"replay\.json can't be used .*rule"):
        run("publish", work)
    assert (work / "current").readlink() == current


def test_a_replay_of_before_the_sources_were_a_list_is_published_in_the_present_form(work):
    storage.write_json(work / REPLAY, {"blending": {"rule": "weighted", "source": "both"}})
    run("publish", work)
    manifest = storage.read_json(work / "current" / MANIFEST, "jobs.publish")
    assert manifest["settings"]["blending"]["sources"] == ["similar", "next_played"]
    assert "source" not in manifest["settings"]["blending"]


def test_the_number_of_plays_must_be_one_at_least(work):
    with pytest.raises(JobError, match="--plays is 0: expected at least 1"):
        run("replay", work, "--plays", 0)


@pytest.mark.parametrize("length", [1e-3, 1e-7, 1e-12, 1e-18])
def test_the_rule_is_valid_whatever_the_length_of_the_vectors(random_world, length):
    """ALS gives vectors of nearly zero length where it finds nothing in the plays."""
    folder, heard, _ = random_world
    known = replay_sessions.read(folder, heard, 1000)
    order = replace(
        known.model.order,
        vectors=(known.model.order.vectors * length).astype(np.float32),
        norms=(known.model.order.norms * length).astype(np.float32),
    )
    shrunk = replace(known, model=replace(known.model, order=order))
    typical = blending_search.typical_scores(shrunk)
    for exponent in (0.5, 1.0):
        numbers = blending_search.START | {"score_exponent": exponent}
        rule = blending_search.weighted_rule(numbers, (5, 50), typical)
        assert msgspec.convert(msgspec.to_builtins(rule), Blending) == rule
