"""What listens weigh."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.data import listens
from jobs.data.listens import SECONDS_A_DAY, Listens

TRACKS = 5
HISTORIES = st.lists(
    st.lists(st.tuples(st.integers(0, TRACKS - 1), st.integers(0, 9)), min_size=1, max_size=12),
    min_size=1,
    max_size=6,
)  # of each user: track and day


def data_of(histories: list[list[tuple[int, int]]]) -> Listens:
    ordered = [sorted(own, key=lambda play: play[1]) for own in histories]
    starts = np.concatenate([[0], np.cumsum([len(own) for own in ordered])])
    item, day = np.array([play for own in ordered for play in own]).T
    at = (day * SECONDS_A_DAY).astype(np.uint32)
    return Listens(starts, item.astype(np.int32), at, np.arange(len(histories)), np.arange(TRACKS))


@given(
    HISTORIES,
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([None, 2.0]),
    st.sampled_from([None, 3.0]),
)
def test_a_pair_weighs_its_plays_to_a_power_and_less_the_longer_ago_the_last_is(
    histories, repeats, plays, days
):
    data = data_of(histories)
    expected = np.zeros(data.shape)
    for user in range(data.shape[0]):
        own = slice(data.starts[user], data.starts[user + 1])
        items, at = data.item[own].tolist(), data.at[own]
        for item, count in Counter(items).items():
            last = max(i for i, other in enumerate(items) if other == item)
            weight = count**repeats
            if plays is not None:
                weight *= 0.5 ** ((len(items) - 1 - last) / plays)
            if days is not None:
                weight *= 0.5 ** (int(data.at.max() - at[last]) / SECONDS_A_DAY / days)
            expected[user, item] = weight
    found = data.weights(repeats, plays, days).toarray()
    assert found == pytest.approx(expected, rel=1e-5)


@given(HISTORIES)
def test_weights_do_not_depend_on_the_blocks_they_are_made_in(histories):
    data = data_of(histories)
    whole = data.weights(0.5, 2.0, 3.0).toarray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listens, "LISTENS_A_BLOCK", 3)
        assert np.array_equal(data.weights(0.5, 2.0, 3.0).toarray(), whole)


@given(HISTORIES, st.integers(1, 15))
def test_the_latest_plays_are_the_end_of_each_history(histories, most):
    data = data_of(histories)
    latest = data.latest(most)
    for user in range(data.shape[0]):
        (all_item, all_at), (item, at) = (
            [values[of.starts[user] : of.starts[user + 1]].tolist() for values in (of.item, of.at)]
            for of in (data, latest)
        )
        assert (item, at) == (all_item[-most:], all_at[-most:])
