"""What `explain=true` says of a track is true."""

from dataclasses import replace
from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.release.catalog import Catalog
from api.release.explanations import named
from api.release.recommender import Recommender
from jobs.contract.blending import RECENT_EVENTS, SOURCES, WEIGHED, near
from jobs.contract.top_k import NormOrder
from tests.api.release.test_answers import UNKNOWN, client_of
from tests.support import releases

TRACKS = range(26)
SUBSETS = [names for n in (1, 2, 3) for names in combinations(SOURCES, n)]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    releases.make(work)
    return work


def test_each_track_has_its_name_and_where_it_comes_from(work):
    with client_of(work) as client:
        client.put(47, 5, UNKNOWN, 7)
        plain = client.answer("/recommendations", user_id=47, k=4)
        assert plain == {"recs": [8, 200, 6, 199]}
        before = client.answer("/get_statistics")
        answer = client.answer("/recommendations", user_id=47, k=4, explain="true")
        assert answer["recs"] == plain["recs"]
        found = [tuple(reason.values()) for reason in answer["reasons"]]
        assert found == [
            (8, "track 8", None, None, 8, ["similar"], [7, 5]),
            (200, "track 200", None, 1, None, [], []),
            (6, "track 6", None, None, 6, ["similar"], [5]),
            (199, "track 199", None, 2, None, [], []),
        ]
        assert client.answer("/recommendations", user_id=47, explain="false")["recs"][:1] == [8]
        after = client.answer("/get_statistics")
        counted = after["request_personal_count"] - before["request_personal_count"]
        assert counted == 2
        refused = client.get("/recommendations?user_id=47&explain=why").json()["detail"]
        assert refused == "explain: expected true or false, found 'why'"


@pytest.fixture(scope="module", params=range(4))
def world(request, tmp_path_factory):
    """A release of random lists; the neighbours and their scores; its blending."""
    random = Random(request.param)
    some = lambda most: random.sample(TRACKS, random.randint(0, most))  # noqa: E731
    scores = [0.01, 0.05, 0.25, 0.5, 1.0]
    neighbours = {
        source: {
            track: {near: random.choice(scores) / (rank + 1)
                    for rank, near in enumerate(some(8)) if near != track}
            for track in random.sample(TRACKS, 20)
        }
        for source in ("similar", "next_played")
    }  # fmt: skip
    blending = {
        "rule": random.choice(["alternate", "weighted"]),
        "sources": [["similar"], ["similar", "next_played"]][request.param % 2],
        "half_life": [None, 2.0][request.param // 2],
        "next_played_weight": 0.5,
        "events": 4,
        "neighbours": 5,
    }
    final, heard = ({user: some(most) for user in range(5)} for most in (12, 6))
    folder = releases.make(
        tmp_path_factory.mktemp("work"),
        tracks=TRACKS,
        top=some(26),
        final=final,
        heard=heard,
        blending=blending,
        **neighbours,
    )
    return Recommender(Catalog(folder, {}), RECENT_EVENTS), neighbours, blending, heard


def online_scores(neighbours, blending, events, out):
    """A plain reading: by track the sum of what the last events give, but for the tracks out."""
    result = {}
    weights = {"similar": 1.0, "next_played": 0.5}
    sources = {name: weights[name] for name in blending["sources"]}
    for age, event in enumerate(events[: blending["events"]]):
        fading = 2 ** -(age / blending["half_life"]) if blending["half_life"] else 1
        for source, weight in sources.items():
            near = neighbours[source].get(event, {})
            allowed = [(track, score) for track, score in near.items() if track not in out]
            for track, score in allowed[: blending["neighbours"]]:
                stored = float(np.float32(score))
                result[track] = result.get(track, 0) + stored * weight * fading
    return result


@settings(max_examples=60, deadline=None)
@given(
    user=st.integers(0, 5), events=st.lists(st.integers(0, 28), max_size=8), k=st.integers(1, 30)
)
def test_the_events_named_are_those_that_bring_most_and_none_that_brings_next_to_nothing(
    world, user, events, k
):
    recommender, neighbours, blending, heard = world
    out = {*heard.get(user, []), *events}
    row = recommender.catalog.row(user)
    _, reasons = recommender.explained(row, k, tuple(events))
    recs = recommender.catalog.ids(recommender.recommended(row, k, tuple(events)))
    assert [reason.track_id for reason in reasons] == recs
    scores = online_scores(neighbours, blending, events, out)
    offline = [
        track for track in recommender.catalog.ids(recommender.recommended(row, 26, ()))
        if track not in out
    ]  # fmt: skip
    for reason in reasons:
        track = reason.track_id
        assert reason.name == f"track {track}"
        assert reason.final_rank or reason.top_rank or reason.sources
        assert bool(reason.sources) == (track in scores)
        losses = {}
        for event in {*events[: blending["events"]]}:
            rest = [e for e in events if e != event]
            others = online_scores(neighbours, blending, rest, out)
            losses[event] = scores.get(track, 0) - others.get(track, 0)
        place = 20 / (20 + offline.index(track)) if track in offline else 0
        most = max([*losses.values(), place if blending["rule"] == "weighted" else 0])
        # what is a tenth up to the rounding of sums may be named or not
        least = max(most / 10, 1e-9)
        much = {event for event, loss in losses.items() if loss > least * (1 + 1e-6)}
        enough = {event for event, loss in losses.items() if loss > least * (1 - 1e-6)}
        assert {*reason.events} <= enough
        assert min(len(much), 3) <= len(reason.events) <= 3
        named = [losses[event] for event in reason.events]
        assert named == pytest.approx(sorted(named, reverse=True))
        left_out = [losses[event] for event in much.difference(reason.events)]
        assert not left_out or max(left_out) <= min(named) + 1e-9


costs = st.floats(1e-6, 1e3)


@given(by_event=st.dictionaries(st.integers(), costs), offline=costs)
def test_no_more_than_three_events_are_named_and_each_brings_a_tenth_of_the_most(by_event, offline):
    lost = [(loss, event) for event, loss in by_event.items()]
    for place in (0.0, offline):
        events = named(lost, place)
        assert len(events) <= 3 and len({*events}) == len(events)
        most = max([place, *by_event.values()])
        assert all(10 * by_event[event] >= most * (1 - 1e-9) for event in events)
        told = [by_event[event] for event in events]
        assert told == sorted(told, reverse=True)
        if lost and most > place:  # the event that brings most is always named
            assert told[0] == most
        untold = [by_event[event] for event in by_event.keys() - {*events}]
        if untold and len(events) < 3:
            assert max(untold) <= most / 10 * (1 + 1e-9)
        elif untold:
            assert max(untold) <= min(told)
    assert {*named(lost, offline)} <= {*named(lost, 0.0)}


def test_what_is_there_by_its_place_alone_has_no_event_for_a_reason(tmp_path):
    """Track 3 gains by the event a thousandth of its place; track 9 is there by the event alone."""
    folder = releases.make(
        tmp_path,
        tracks=TRACKS,
        top=TRACKS,
        final={1: [3, 4]},
        heard={1: [0]},
        similar={5: {3: 0.001, 9: 0.9}},
        next_played={},
        blending={"rule": "weighted"},
    )
    recommender = Recommender(Catalog(folder, {}), RECENT_EVENTS)
    reasons = recommender.explained(recommender.catalog.row(1), 3, (5,))[1]
    assert {reason.track_id: reason.events for reason in reasons} == {3: [], 4: [], 9: [5]}


def test_a_track_that_fits_the_taste_is_there_because_of_the_events(work):
    with client_of(work, online_source=("fold_in",)) as client:
        before = client.recs(16)
        client.put(16, UNKNOWN)
        assert client.recs(16) == before
        client.put(16, 5, 7)
        reasons = client.answer("/recommendations", user_id=16, explain="true")["reasons"]
        online = [reason for reason in reasons if reason["sources"]]
        assert {tuple(reason["sources"]) for reason in online} == {("fold_in",)}
        assert any(reason["events"] for reason in online)
        assert all({*reason["events"]} <= {5, 7} for reason in reasons)


def test_places_are_those_in_the_final_and_in_the_top_list(world):
    recommender, *_ = world
    for user in range(5):
        row = recommender.catalog.row(user)
        final = recommender.catalog.ids(recommender.catalog.final(row))
        top = recommender.catalog.ids(recommender.catalog.top(100))
        for reason in recommender.explained(row, 30, ())[1]:
            track = reason.track_id
            if track in final:
                assert (reason.final_rank, reason.top_rank) == (final.index(track) + 1, None)
            else:
                assert (reason.final_rank, reason.top_rank) == (None, top.index(track) + 1)


def test_events_are_not_the_reason_of_what_only_continues_the_offline_list(work):
    chosen = {"rule": "weighted", "sources": SOURCES}
    recommender = Recommender(Catalog(work / "releases" / "first", chosen), RECENT_EVENTS)
    row, events = recommender.catalog.row(47), (50, 7)
    _, reasons = recommender.explained(row, 250, events)
    offline = recommender.recommended(row, 250, ())
    later = {*recommender.catalog.ids(offline[WEIGHED + len(events) :])}
    catalog = recommender.catalog
    positions = catalog.positions(events)
    brought = near(catalog.neighbours, positions, catalog.blending, lambda tracks: tracks >= 0)
    later -= {*catalog.ids(brought.tracks)}
    assert len(later) > 50
    assert not any(reason.events for reason in reasons if reason.track_id in later)


@pytest.mark.parametrize("rule", ["alternate", "weighted"])
def test_a_taste_of_which_nothing_is_known_brings_nothing(work, rule):
    catalogs = [
        Catalog(work / "releases" / "first", {"rule": rule, "sources": sources})
        for sources in (("fold_in",), SOURCES, SOURCES[:2])
    ]
    for catalog in catalogs[:2]:
        vectors = np.zeros((len(catalog.model.order.position), len(catalog.model.gram)), np.float32)
        vectors[catalog.model.order.items] = catalog.model.order.vectors
        vectors[4] = 0
        catalog.model = replace(catalog.model, order=NormOrder.of(vectors))
    recommenders = [Recommender(catalog, 5) for catalog in catalogs]
    answers = [recommender.answer(-1, 20, (5,)).text for recommender in recommenders]
    only_top, *others = [[int(track) for track in answer[1:-1].split(b",")] for answer in answers]
    assert only_top == [track for track in range(1, 22) if track != 5]
    assert others[0] == others[1]
    for recommender in recommenders[:2]:
        reasons = recommender.explained(-1, 20, (5,))[1]
        assert not any("fold_in" in reason.sources for reason in reasons)


@pytest.mark.parametrize("sources", SUBSETS)
@pytest.mark.parametrize("rule", ["alternate", "weighted"])
def test_each_source_explains_what_it_brings(work, rule, sources):
    chosen = {"rule": rule, "sources": sources}
    recommender = Recommender(Catalog(work / "releases" / "first", chosen), RECENT_EVENTS)
    catalog, events = recommender.catalog, (50, 7, 50, UNKNOWN)
    for user in (47, 9):
        row = catalog.row(user)
        text, reasons = recommender.explained(row, 20, events)
        assert text == recommender.answer(row, 20, events).text
        brought = [reason for reason in reasons if reason.sources]
        assert brought and any(reason.events for reason in brought)
        for reason in reasons:
            assert reason.final_rank or reason.top_rank or reason.sources
            assert {*reason.sources} <= catalog.blending.weights().keys()
            assert {*reason.events} <= {*events} - {UNKNOWN}
