"""A share of the places is for tracks without a listen; all other tracks keep their order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract.top_k import NOTHING
from jobs.ranking.exploration import MOST, explored

K = 12


@st.composite
def cases(draw):
    """Lists (users, K) with falling scores, lists of new tracks (users, 5), and a share."""
    rows, news = [], []
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.lists(st.integers(0, 30), unique=True, max_size=K))
        new = draw(st.lists(st.integers(25, 40), unique=True, max_size=5))
        rows.append(row + [NOTHING] * (K - len(row)))
        news.append(new + [NOTHING] * (5 - len(new)))
    items = np.array(rows, np.int32).reshape(-1, K)
    scores = np.where(items == NOTHING, -np.inf, np.arange(K, 0, -1)).astype(np.float32)
    return items, scores, np.array(news, np.int32).reshape(-1, 5), draw(st.floats(0, MOST))


def real(row):
    return [item for item in row.tolist() if item != NOTHING]


@given(cases())
def test_reserved_places_hold_new_tracks_and_the_others_keep_their_order(case):
    items, _, new, share = case
    found, scores = explored(*case)
    places = [p for p in range(1, K + 1) if int(p * share + 1e-9) > int((p - 1) * share + 1e-9)]
    for before, after, score, offered in zip(items, found, scores, new, strict=True):
        offered, listed = real(offered)[: len(places)], real(after)
        assert len(set(listed)) == len(listed)
        assert len(listed) == min(K, len(set(real(before)) | set(offered)))
        assert after.tolist() == listed + [NOTHING] * (K - len(listed))
        for place, track in zip(places, offered, strict=False):
            assert listed.index(track) <= place - 1
        others = [track for track in real(before) if track not in offered]
        assert [track for track in listed if track not in offered] == others[: len(listed)][
            : len(listed) - sum(track in offered for track in listed)
        ]
        assert (np.diff(score[: len(listed)]) <= 0).all()
        assert np.isfinite(score[: len(listed)]).all()


@given(cases())
def test_without_a_share_nothing_changes(case):
    items, scores, new, _ = case
    found, same = explored(items, scores, new, 0)
    assert found.tolist() == items.tolist()
    assert same.tolist() == scores.tolist()
