from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.contract.blending import (
    LISTED,
    NOTHING_NEAR,
    WEIGHED,
    Blending,
    Exclusion,
    Near,
    Neighbours,
    blend,
    first_neighbours,
    first_of,
    in_growing_blocks,
    merge_neighbours,
    near,
    parse_sources,
    upgraded,
    without,
)
from jobs.contract.ids import ties_of

track = st.integers(0, 30)


distinct = st.lists(track, max_size=20, unique=True)


gains = st.integers(-4, 16).map(lambda n: n / 8)


neighbours = st.dictionaries(track, gains, max_size=12)


# The neighbours of each of eight tracks.
neighbours_of_eight = st.lists(
    st.dictionaries(st.integers(0, 7), gains, max_size=4), min_size=8, max_size=8
)


some_neighbours = st.dictionaries(track, gains, min_size=1, max_size=12)


rules = st.builds(
    Blending,
    rule=st.sampled_from(["alternate", "weighted", "offline"]),
    sources=st.sampled_from([("similar",), ("next_played",), LISTED]),
    events=st.integers(1, 5),
    neighbours=st.integers(1, 8),
    half_life=st.none() | st.floats(0.5, 8),
    similar_weight=st.sampled_from([0, 0.25, 1, 3]),
    next_played_weight=st.sampled_from([0, 0.25, 1, 3]),
    score_exponent=st.sampled_from([0.5, 1, 2]),
    offline_half_life=st.none() | st.floats(0.5, 8),
    offline_half_place=st.floats(0.5, 50),
)


TIES = ties_of(np.arange(1000)).places
ALTERNATE, WEIGHTED = Blending(rule="alternate"), Blending(rule="weighted")


def tracks(values):
    return np.array([*values], np.int32)


def together(per_event):
    """The neighbours of several events, each a mapping of tracks to scores."""
    pairs = [pair for scores in per_event for pair in scores.items()]
    return Near(tracks(t for t, _ in pairs), np.array([s for _, s in pairs], np.float32))


def merged(per_event, most=None):
    return merge_neighbours(*together(per_event), TIES, most).tolist()


def but(out):
    """What may be recommended where `out` may not."""
    return lambda listed: ~np.isin(listed, [*out])


def blended(online, offline, out=(), k=100, rule=ALTERNATE, n_events=1):
    """The answer for lists in their order, or for neighbours with scores."""
    online = online if isinstance(online, dict) else {t: 1 / (i + 1) for i, t in enumerate(online)}
    near = together([{t: gain for t, gain in online.items() if t not in out}])
    answer = blend(near, [tracks(offline)], but(out), k, rule, n_events, TIES)
    return answer.tolist()


@given(st.lists(neighbours, max_size=6), st.none() | st.integers(1, 20))
def test_neighbours_are_merged_by_their_summed_scores(per_event, most):
    gains = {}
    for scores in per_event:
        for t, score in scores.items():
            gains[t] = gains.get(t, 0) + max(score, 0)
    expected = sorted(gains, key=lambda t: (-gains[t], TIES[t]))
    assert merged(per_event, most) == expected[:most]


@given(st.lists(neighbours, min_size=1, max_size=6), st.data())
def test_a_track_near_one_more_event_never_falls(per_event, data):
    before = merged(per_event)
    risen = data.draw(st.sampled_from(before)) if before else 0
    after = merged([*per_event, {risen: 0.5}])
    assert after.index(risen) <= (before.index(risen) if before else 0)


def test_the_order_of_events_does_not_change_the_merge():
    per_event = [{1: 0.5, 2: 0.25}, {2: 0.5, 3: 0.75}, {1: 0.25}]
    assert merged(per_event) == merged(per_event[::-1]) == sorted([1, 2, 3], key=TIES.__getitem__)


def test_neighbours_bring_their_score_by_source_and_age_of_the_event():
    near_each = {0: {5: 1.0, 6: 0.5, 7: 0.25}, 1: {}, 2: {6: 1.0}}
    similar = lists_of([near_each[t] for t in range(3)])
    following = lists_of([{}, {}, {8: 2.0}])
    rule = Blending(
        sources=LISTED, events=3, neighbours=2, half_life=1, similar_weight=3, next_played_weight=10
    )
    found = near(
        {"similar": similar, "next_played": following}, tracks([2, -1, 0, 2]), rule, but([])
    )
    # 2 is of age 0, the unknown track of age 1, 0 of age 2; the fourth no longer counts
    assert found.tracks.tolist() == [6, 5, 6, 8]
    assert found.gains == pytest.approx([3.0, 3.0 / 4, 1.5 / 4, 20.0])
    squared = msgspec.structs.replace(rule, sources=("similar",), score_exponent=2)
    found = near({"similar": similar}, tracks([2, -1, 0]), squared, but([]))
    assert found.gains == pytest.approx([3.0, 3.0 / 4, 0.75 / 4])
    # the second and the third neighbour of 0 take the place of the first, which is left out
    found = near({"similar": similar}, tracks([2, -1, 0]), squared, but([5]))
    assert found.tracks.tolist() == [6, 6, 7]


def lists_of(per_track):
    sizes = [len(scores) for scores in per_track]
    flat = together(per_track)
    return Neighbours(np.cumsum([0, *sizes]), flat.tracks, flat.gains)


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=5),
    neighbours_of_eight,
    st.sets(st.integers(0, 7)),
    st.integers(1, 5),
)
def test_a_list_is_filtered_before_it_is_cut(rows, listed, out, n):
    found, scores, counts = first_neighbours(lists_of(listed), rows, n, but(out))
    expected = [[t for t in listed[row] if t not in out][:n] for row in rows]
    assert found.tolist() == [t for each in expected for t in each]
    row_of_each = [row for row, n_found in zip(rows, counts, strict=True) for _ in range(n_found)]
    pairs = zip(row_of_each, found.tolist(), strict=True)
    assert scores.tolist() == [listed[row][t] for row, t in pairs]
    assert counts.tolist() == [*map(len, expected)]


@given(st.lists(st.lists(st.integers(-1, 30), max_size=20), max_size=4), distinct)
def test_what_was_excluded_is_allowed_again_afterwards(excluded, asked):
    exclusion = Exclusion(31)
    for out in excluded:
        with exclusion.of(tracks(out)) as allowed:
            assert allowed(tracks(asked)).tolist() == [t not in out for t in asked]
    with exclusion.of(tracks([])) as allowed:
        assert allowed(tracks(asked)).all()


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("times", [1, 3])
def test_any_number_of_tracks_is_merged_and_equal_ones_are_in_the_order_of_ties(kind, times):
    ties = ties_of(np.arange(30_000))
    positions = np.tile(np.arange(30_000, dtype=kind), times)[::-1]
    scores = np.ones(len(positions))
    scores[-1] += 1  # of track 0
    merged = merge_neighbours(positions, scores, ties.places)
    assert merged.dtype == kind
    assert merged.tolist() == [0, *(track for track in ties.at[:-1].tolist() if track)]
    assert np.array_equal(merge_neighbours(positions, scores, ties.places, most=5), merged[:5])


@given(distinct, distinct)
def test_without_keeps_the_order_of_what_was_not_heard(listed, heard):
    left = without(tracks(listed), tracks(sorted(heard)))
    assert left.tolist() == [t for t in listed if t not in heard]


@given(st.lists(distinct, max_size=4), st.sets(track), st.integers(1, 40))
def test_the_first_of_blocks_are_the_first_of_them_joined(blocks, out, n):
    joined = dict.fromkeys(t for block in blocks for t in block if t not in out)
    found = first_of([tracks(block) for block in blocks], but(out), n)
    assert found.tolist() == [*joined][:n]


@given(st.integers(0, 1000))
def test_growing_blocks_are_the_whole_list(n):
    blocks = [*in_growing_blocks(np.arange(n))]
    assert np.concatenate([[], *blocks]).tolist() == [*range(n)]
    assert all(len(a) <= len(b) for a, b in pairwise(blocks[:-1]))


@given(distinct, distinct, st.sets(track), st.integers(1, 60), rules)
@example([1, 2], [1, 2], set(), 2, ALTERNATE)
@example([1, 2], [1, 2], set(), 2, WEIGHTED)
def test_an_answer_has_what_it_may_and_nothing_twice(online, offline, out, k, rule):
    answer = blended(online, offline, out, k, rule)
    possible = set(offline).union(() if rule.rule == "offline" else online) - out
    assert len(answer) == len(set(answer)) == min(k, len(possible))
    assert possible.issuperset(answer)


@given(distinct, distinct, st.sets(track), st.integers(1, 30), rules)
def test_a_longer_answer_begins_with_the_shorter(online, offline, out, k, rule):
    shorter = blended(online, offline, out, k, rule)
    assert blended(online, offline, out, k + 5, rule)[:k] == shorter


@given(st.lists(st.integers(0, 7), max_size=4), neighbours_of_eight, distinct, rules)
def test_blending_changes_nothing_that_it_reads_and_repeats_itself(events, listed, offline, rule):
    lists = dict.fromkeys(["similar", "next_played"], lists_of(listed))
    given = [*lists["similar"], tracks(events), tracks(offline)]
    before = [array.tobytes() for array in given]
    answers = [
        blend(
            near(lists, given[3], rule, but(events)),
            [given[4]],
            but(events),
            9,
            rule,
            len(events),
            TIES,
        )
        for _ in range(2)
    ]
    assert answers[0].tolist() == answers[1].tolist()
    assert [array.tobytes() for array in given] == before


@given(distinct, st.sets(track), st.integers(0, 9), rules)
def test_where_nothing_is_near_the_offline_list_is_the_answer(offline, out, n_events, rule):
    answer = blend(NOTHING_NEAR, [tracks(offline)], but(out), 100, rule, n_events, TIES)
    assert answer.tolist() == [t for t in offline if t not in out]


@given(st.lists(st.integers(0, 7), max_size=4), neighbours_of_eight, distinct, rules)
def test_neighbours_of_weight_0_leave_the_offline_list_as_it_is(events, listed, offline, rule):
    lists = dict.fromkeys(["similar", "next_played"], lists_of(listed))
    rule = msgspec.structs.replace(rule, similar_weight=0, next_played_weight=0)
    online = near(lists, tracks(events), rule, but([]))
    answer = blend(online, [tracks(offline)], but([]), 100, rule, len(events), TIES)
    assert answer.tolist() == offline


@given(distinct, distinct)
def test_turns_alternate_while_both_lists_have_something_new(online, offline):
    online = [t for t in online if t not in offline]
    answer = blended(online, offline)
    turns = min(len(online), len(offline))
    assert answer[: 2 * turns : 2] == online[:turns]
    assert answer[1 : 2 * turns : 2] == offline[:turns]
    assert answer[2 * turns :] == online[turns:] + offline[turns:]


def test_a_track_of_both_lists_costs_neither_its_turn():
    assert blended([1, 2], [1, 3, 4], k=5) == [1, 3, 2, 4]


@given(some_neighbours, distinct, rules, st.integers(1, 9))
def test_weighted_tracks_stand_by_gain_and_place(online, offline, rule, n_events):
    rule = msgspec.structs.replace(rule, rule="weighted")
    faded = 1.0
    if rule.offline_half_life is not None:
        faded = 2.0 ** (-min(n_events, rule.events) / rule.offline_half_life)
    worth = {t: max(gain, 0) for t, gain in online.items()}
    for place, t in enumerate(offline):
        half = rule.offline_half_place
        worth[t] = worth.get(t, 0) + half / (half + place) * faded
    values = [worth[t] for t in blended(online, offline, rule=rule, n_events=n_events)]
    assert len(values) == len(worth)
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(values))


@given(some_neighbours, distinct, rules, track, st.floats(0.01, 3))
def test_a_track_that_gains_more_never_falls(online, offline, rule, risen, more):
    rule = msgspec.structs.replace(rule, rule="weighted")
    before = blended(online, offline, rule=rule)
    after = blended({**online, risen: max(online.get(risen, 0), 0) + more}, offline, rule=rule)
    if risen in before:
        assert after.index(risen) <= before.index(risen)
    assert [t for t in after if t != risen] == [t for t in before if t != risen]


def test_what_lies_behind_the_weighed_places_follows_after_all_others():
    answer = blended({500: 1e-6, 150: 1e-7}, range(200), k=1000, rule=WEIGHTED)
    assert answer == [*range(WEIGHED), 500, 150, *range(WEIGHED, 150), *range(151, 200)]


def test_the_top_list_is_read_only_as_far_as_needed():
    read = []
    blocks = (tracks([t, t + 1]) for t in range(0, 1000, 2) if not read.append(t))
    blend(NOTHING_NEAR, blocks, but([]), 10, ALTERNATE, 0, TIES)
    assert len(read) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "random"}, {"sources": ["any"]}, {"sources": []}, {"source": "both"},
        {"events": 0}, {"neighbours": 101},
        {"half_life": 0.0}, {"half_life": -1.0}, {"similar_weight": -0.5},
        {"offline_half_place": 0},
        {"next_played_weight": 1e13}, {"next_played_weight": float("nan")}, {"unknown": 1},
    ],
)  # fmt: skip
def test_a_blending_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Blending)


def test_a_blending_of_before_the_weights_is_as_it_was():
    old = {"rule": "alternate", "source": "similar", "events": 10, "neighbours": 20}
    assert msgspec.convert(upgraded(old), Blending) == Blending()


OLD_SPELLINGS = {
    "similar": ("similar",),
    "next_played": ("next_played",),
    "fold_in": ("fold_in",),
    "both": ("similar", "next_played"),
    "similar+fold_in": ("similar", "fold_in"),
    "next_played+fold_in": ("next_played", "fold_in"),
    "all": ("similar", "next_played", "fold_in"),
}


@pytest.mark.parametrize(("old", "sources"), OLD_SPELLINGS.items())
def test_every_old_spelling_of_the_sources_is_read(old, sources):
    assert parse_sources(old) == parse_sources(",".join(reversed(sources))) == sources
    assert msgspec.convert(upgraded({"source": old}), Blending) == Blending(sources=sources)


@pytest.mark.parametrize(
    "wrong", ["", "any", "similar,", "both+fold_in", "Similar", "similar fold_in"]
)
def test_no_other_spelling_of_the_sources_is_read(wrong):
    with pytest.raises(ValueError, match="one or more of similar, next_played, fold_in"):
        parse_sources(wrong)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(upgraded({"source": wrong}), Blending)


@given(rules)
def test_a_blending_in_the_present_form_is_not_changed(rule):
    stored = msgspec.to_builtins(rule)
    assert msgspec.convert(upgraded(stored), Blending) == rule
    assert upgraded(stored) is stored
    assert upgraded(None) is None
