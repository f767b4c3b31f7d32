import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from api.blending import RULES, blend, merge_neighbours, without

track = st.integers(0, 30)
distinct = st.lists(track, max_size=20, unique=True)
neighbours = st.dictionaries(track, st.integers(-4, 16).map(lambda n: n / 8), max_size=12)


def merged(per_event):
    pairs = [pair for scores in per_event for pair in scores.items()]
    tracks = np.array([t for t, _ in pairs], np.int32)
    return merge_neighbours(tracks, np.array([s for _, s in pairs], np.float32)).tolist()


@given(st.lists(neighbours, max_size=6))
def test_neighbours_are_merged_by_their_summed_scores(per_event):
    gains = {}
    for scores in per_event:
        for t, score in scores.items():
            gains[t] = gains.get(t, 0) + max(score, 0)
    expected = sorted(gains, key=lambda t: (-gains[t], t))
    assert merged(per_event) == expected


@given(st.lists(neighbours, min_size=1, max_size=6), st.data())
def test_a_track_near_one_more_event_never_falls(per_event, data):
    before = merged(per_event)
    risen = data.draw(st.sampled_from(before)) if before else 0
    after = merged([*per_event, {risen: 0.5}])
    assert after.index(risen) <= (before.index(risen) if before else 0)


def test_the_order_of_events_does_not_change_the_merge():
    per_event = [{1: 0.5, 2: 0.25}, {2: 0.5, 3: 0.75}, {1: 0.25}]
    assert merged(per_event) == merged(per_event[::-1]) == [1, 2, 3]


@given(distinct, distinct)
def test_without_keeps_the_order_of_what_was_not_heard(tracks, heard):
    left = without(np.array(tracks, np.int32), np.array(sorted(heard), np.int32))
    assert left.tolist() == [t for t in tracks if t not in heard]


@given(distinct, distinct, st.sets(track), st.integers(1, 60), st.sampled_from(sorted(RULES)))
@example([1, 2], [1, 2], set(), 2, "alternate")
def test_an_answer_has_what_it_may_and_nothing_twice(online, offline, kept_out, k, rule):
    answer = blend(online, offline, kept_out, k, rule)
    possible = set(offline).union(online if rule == "alternate" else ()) - kept_out
    assert len(answer) == len(set(answer)) == min(k, len(possible))
    assert possible.issuperset(answer)


@given(distinct, distinct)
def test_turns_alternate_while_both_lists_have_something_new(online, offline):
    online = [t for t in online if t not in offline]
    answer = blend(online, offline, (), 100, "alternate")
    turns = min(len(online), len(offline))
    assert answer[: 2 * turns : 2] == online[:turns]
    assert answer[1 : 2 * turns : 2] == offline[:turns]
    assert answer[2 * turns :] == online[turns:] + offline[turns:]


@given(distinct, distinct, st.sets(track), st.integers(1, 30))
def test_a_longer_answer_begins_with_the_shorter(online, offline, kept_out, k):
    shorter = blend(online, offline, kept_out, k, "alternate")
    assert blend(online, offline, kept_out, k + 5, "alternate")[:k] == shorter


def test_a_track_of_both_lists_costs_neither_its_turn():
    assert blend([1, 2], [1, 3, 4], (), 5, "alternate") == [1, 3, 2, 4]


def test_the_top_list_is_read_only_as_far_as_needed():
    read = []
    blend([], (t for t in range(1000) if not read.append(t)), (), 10, "alternate")
    assert len(read) <= 11
