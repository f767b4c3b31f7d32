"""Ids in jobs and service: look-ups, the numbers of ids that are text, and the order of ties.

Inside jobs and service every id is a whole number. A text id, such as "u123" or a UUID, has one
too: the first 53 bits of BLAKE2b of its UTF-8. So it hardly ever changes from run to run, samples
that are drawn by ids stay the same, and releases can be compared. Numbers never leave a folder or
a release: files, calls, journal and tombstones have the texts.

Two texts may have equal bits. Then the one that comes first in the order of texts has the number,
and the other one the next free number. A look-up goes the same way, and compares texts, so it
finds the right one or none. If BITS were 2, "b" and "c" would share the number 3:

    text    number_of   assigned
    "a"     1           1
    "b"     3           3
    "c"     3           0           (3 is taken; after the last number comes 0)

Texts are compared byte by byte: neither case nor form of characters nor blanks are changed.
"""

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MISSING = -1
BITS = 53  # of a text id's number: as many as JSON clients and float64 keep exact
LONGEST = 256  # bytes of a text id in UTF-8
INTEGER, TEXT = "integer", "text"  # the kinds of ids; users and tracks may differ in kind
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # what no text id may have


def find(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the places (n,) int64 of ids in the ascending array known; MISSING for an unknown id.

    >>> find(np.array([3, 5, 8]), np.array([8, 4, 3, 9])).tolist()
    [2, -1, 0, -1]
    """
    if not len(known):
        return np.full(len(ids), MISSING)
    places = known.searchsorted(ids)
    places[places == len(known)] = 0  # behind all known ids: any place will do, as ids differ there
    places[known[places] != ids] = MISSING
    return places


def number_of(text: bytes) -> int:
    """Return the number that a text id, in UTF-8, has unless another one has it already."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 64 - BITS


def assigned(texts: Sequence[bytes]) -> NDArray[np.int64]:
    """Return a number for each of different texts (n,), which are in ascending order.

    Each number is used once: see above for texts with equal bits.
    """
    digests = b"".join([blake2b(text, digest_size=8).digest() for text in texts])
    numbers: NDArray[np.int64] = (np.frombuffer(digests, ">u8") >> 64 - BITS).astype(np.int64)
    taken, first = np.unique(numbers, return_index=True)
    if len(taken) < len(numbers):
        used = set(taken.tolist())
        for place in np.setdiff1d(np.arange(len(numbers)), first).tolist():
            number = int(numbers[place])
            while number in used:
                number = (number + 1) % (1 << BITS)
            used.add(number)
            numbers[place] = number
    return numbers


def place_of(
    text: bytes, numbers: NDArray[np.int64], is_text_at: Callable[[int, bytes], bool]
) -> int:
    """Return the place of a text among the assigned numbers, ascending; MISSING if unknown.

    is_text_at(place, text) says whether it is the text at a place.
    """
    number = number_of(text)
    place = int(numbers.searchsorted(np.int64(number)))
    while True:
        place = 0 if place == len(numbers) and number == 0 else place
        if place == len(numbers) or numbers.item(place) != number:
            return MISSING
        if is_text_at(place, text):
            return place
        number, place = (number + 1) % (1 << BITS), place + 1


def flaw_of(text: str) -> str | None:
    """Return why a text can't be an id; None if it can.

    >>> flaw_of("u123"), flaw_of(" "), flaw_of(""), flaw_of("a\\tb")
    (None, None, 'is empty', 'has a control character')
    """
    if not text:
        return "is empty"
    if CONTROL.search(text):
        return "has a control character"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    return f"is longer than {LONGEST} bytes" if size > LONGEST else None


def hashes(ids: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a hash of each id, (n,) uint64, by SplitMix64; different ids have different hashes.

    Its output changes in about half of the bits if one bit of the input changes (Steele, Lea and
    Flood, "Fast Splittable Pseudorandom Number Generators", 2014).

    >>> (hashes(np.array([1, 2, 3])) >> np.uint64(48)).tolist()
    [37130, 38744, 7435]
    """
    with np.errstate(over="ignore"):
        mixed = ids.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        result: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return result


class Ties(NamedTuple):
    """The order in which things with exactly equal scores stand in a list.

    `places` has the place of each one in this order, and `at` the one at each place; both have -1
    (for "nothing") once more at their end, so that an index of -1 gives -1.
    """

    places: np.ndarray  # (n + 1,) int32
    at: np.ndarray  # (n + 1,) int32


def ties_of(ids: np.ndarray) -> Ties:
    """Return the order of ties of ids (n,), which is the order of their hashes.

    The ids themselves often tell when a track was first played. If the lower id came first, lists
    with many equal scores would be better in an evaluation, where later tracks are in the past,
    than they are for the tracks of tomorrow. A hash tells nothing.

    Of the hashes in the example of the function above, that of id 3 is the smallest:

    >>> ties = ties_of(np.array([1, 2, 3]))
    >>> ties.places.tolist(), ties.at.tolist()
    ([1, 2, 0, -1], [2, 0, 1, -1])
    """
    at = np.argsort(hashes(ids)).astype(np.int32)
    places = np.empty(len(at) + 1, np.int32)
    places[at] = np.arange(len(at), dtype=np.int32)
    places[-1] = MISSING
    return Ties(places, np.append(at, np.int32(MISSING)))
