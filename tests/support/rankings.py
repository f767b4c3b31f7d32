"""Comparisons of ranked lists that do not depend on the rounding of their scores."""

from collections.abc import Mapping


def assert_same_ranking(
    ours: Mapping[int, float], theirs: Mapping[int, float], tolerance: float
) -> None:
    """Check that two lists, {item: score} best first, differ by no more than a tolerance.

    At each rank the scores agree, and each item has the same score in both. Items may be in
    another order only where their scores differ by less than the tolerance; one that is at the
    end of one list may then be missing in the other.
    """
    assert len(ours) == len(theirs)
    for our_score, their_score in zip(ours.values(), theirs.values(), strict=True):
        assert abs(our_score - their_score) <= tolerance, (ours, theirs)
    for some, others in ((ours, theirs), (theirs, ours)):
        for item, score in some.items():
            expected = others.get(item, min(others.values()))
            assert abs(score - expected) <= tolerance, (item, ours, theirs)
