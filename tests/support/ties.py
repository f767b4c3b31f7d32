"""The order of tracks with equal scores, written plainly."""

from collections.abc import Iterable

MASK = 2**64 - 1


def by_tie(track_ids: Iterable[int]) -> list[int]:
    """The tracks in the order in which they stand in lists where their scores are equal."""
    return sorted(track_ids, key=split_mix)


def split_mix(number: int) -> int:
    """The first output of SplitMix64 (Steele, Lea and Flood 2014) that is seeded with a number."""
    mixed = number + 0x9E3779B97F4A7C15 & MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & MASK
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & MASK
    return mixed ^ mixed >> 31
