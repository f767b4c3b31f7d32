"""Compiled loops for fresh answers: what jobs.contract.blending computes in NumPy, in less time.

An answer to a new event merges some hundred entries. NumPy needs about 40 calls for that, and each
takes longer than its work. `blended` does all of it in one call of compiled code, without the GIL.
The tests compare it with jobs.contract.blending.blend, which jobs.replay uses.

jobs/contract/compiled.py says where compiled code is kept.
"""

from typing import NamedTuple

import numpy as np

from jobs.contract.blending import Scores, Tracks
from jobs.contract.compiled import compiled

OPENING, CLOSING = b"[]"  # of a JSON list
LANES = 16  # partial sums of a product of vectors, so that vector units add them side by side
LINE = 64  # bytes: a processor reads from memory so many at a time
GATHERED = 64  # rows of vectors that are read from memory at a time


@compiled
def positions(ids: Tracks, known: Tracks, shown: Tracks) -> Tracks:
    """Return the positions (n,) of ids (n,) in the ascending array known; -1 for an unknown id.

    If a song has several ids, shown (tracks,) is the position of the one that is shown; else it is
    empty.
    """
    result, step = np.zeros(len(ids), np.int32), 1
    while step <= len(known):
        step *= 2
    while step > 1:  # all searches go on in turn, so that they wait for memory at the same time
        step //= 2
        for i in range(len(ids)):
            place = result[i] + step
            if place <= len(known) and known[place - 1] < ids[i]:
                result[i] = place  # so many known ids are lower, or more
    for i in range(len(ids)):
        place = result[i]
        if place == len(known) or known[place] != ids[i]:
            result[i] = -1
        elif len(shown):
            result[i] = shown[place]
    return result


@compiled
def json_list(tracks: Tracks, texts: np.ndarray, width: int, filling: int) -> np.ndarray:
    """Return the JSON list of tracks (n,) as bytes, without blanks.

    texts (tracks * width,) uint8 has `width` bytes for each track: its id as JSON has it, a comma,
    and bytes that fill it up, before or after it. What is left is copied at once: a test of each
    byte takes twice the time where ids are long.
    """
    result, size = np.empty(len(tracks) * width + 2, np.uint8), 1
    for track in tracks:
        result[0] |= texts[track * width]  # see `_read_lists`
    for track in tracks:
        first, end = track * width, (track + 1) * width
        while first < end and texts[first] == filling:
            first += 1
        while first < end and texts[end - 1] == filling:
            end -= 1
        part, free = texts[first:end], result[size:]  # slices, so that vector units copy them
        for at in range(len(part)):
            free[at] = part[at]
        size += len(part)
    size = max(size, 2)
    result[0], result[size - 1] = OPENING, CLOSING  # in place of the last comma
    return result[:size]


@compiled
def _add(table: Tracks, tracks: Tracks, sums: Scores, size: int, track: int, gain: float) -> int:
    """Add what a track gains, and return how many tracks there are.

    `table` is a hash table: its slots hold places in `tracks`, or -1. Its length is a power of 2.
    """
    last = len(table) - 1
    slot = (int(track) * 0x9E3779B1 >> 7) & last
    while table[slot] >= 0 and tracks[table[slot]] != track:
        slot = (slot + 1) & last
    place = table[slot]
    if place >= 0:
        sums[place] += gain
        return size
    table[slot], tracks[size], sums[size] = size, track, gain
    return size + 1


@compiled
def _raised(score: np.float32, exponent: float) -> np.float32:
    """Return a score to a power; one below 0 counts as 0."""
    if score <= 0:
        return np.float32(0)
    if exponent == 1:
        return score
    return score ** np.float32(exponent)


@compiled
def _read_lists(source: tuple[Tracks, Tracks, Scores, float], events: Tracks, n: int) -> float:
    """Read one number in each line of memory that has the first n entries of the events' lists.

    Numbers that lie far apart have to be fetched from memory, which takes longer than all else. A
    processor fetches a dozen of them at the same time, if its next instructions name so many. A
    loop that also computes has too many instructions for that, so a loop that only reads comes
    before it. The sum is returned, and must be used, since a compiler leaves out what isn't.
    """
    offsets, items, scores, weight = source
    total = 0.0
    if weight == 0:
        return total
    for row in events:
        total += offsets[max(row, 0)]
    for row in events:
        if row >= 0:
            first = offsets[row]
            for place in range(first, min(first + n, offsets[row + 1]), LINE // 4):
                total += items[place] + scores[place]
    return total


@compiled
def competing(
    similar: tuple[Tracks, Tracks, Scores, float],
    next_played: tuple[Tracks, Tracks, Scores, float],
    events: Tracks,
    fading: Scores,
    n: int,
    exponent: float,
    allowed: np.ndarray,
    offline: Tracks,
    worth: Scores,
) -> tuple[Tracks, Scores]:
    """Return the tracks that events and the offline list bring, and the sum of what each gains.

    Each source is offsets, items and scores of its lists, and its weight. `events` are positions,
    newest first, -1 where there is none; an event counts fading[its age] and brings its first n
    neighbours that are allowed, by the mask (tracks + 1,). The offline tracks (m,) gain worth (m,).
    """
    most = 2 * len(events) * n + len(offline)
    slots = 64
    while slots < 2 * most:
        slots *= 2
    table = np.full(slots, -1, np.int32)
    tracks, sums = np.empty(most, np.int32), np.empty(most, np.float64)
    sums[:1] = _read_lists(similar, events, n) + _read_lists(next_played, events, n)
    size = 0
    for offsets, items, scores, weight in (similar, next_played):
        if weight == 0:
            continue
        for age in range(len(events)):
            row, left = events[age], n
            if row < 0:
                continue
            for place in range(offsets[row], offsets[row + 1]):
                if not allowed[items[place]]:
                    continue
                gain = _raised(scores[place], exponent) * (weight * fading[age])
                size = _add(table, tracks, sums, size, items[place], gain)
                left -= 1
                if left == 0:
                    break
    for place in range(len(offline)):
        size = _add(table, tracks, sums, size, offline[place], worth[place])
    return tracks[:size], sums[:size]


@compiled
def number(half: np.uint16) -> np.float32:
    """Return a float16 number, given as its 16 bits.

    The bits of its exponent and fraction are put where float32 has them. A float16 counts exponents
    from -15 and a float32 from -127, so what is there then is too small by a factor of 2**112.
    """
    bits = (np.int32(half) & 0x8000) << 16 | (np.int32(half) & 0x7FFF) << 13
    return np.int32(bits).view(np.float32) * np.float32(2.0**112)


@compiled
def gather(vectors: np.ndarray, rows: Tracks, into: Scores) -> None:
    """Write some rows (n,) of vectors (m, d), the bits of float16, into the first rows of `into`.

    Rows lie far apart, so they are read before they are written: see `_read_lists`.
    """
    read, n = 0, len(rows)
    for i in range(n):
        row = vectors[rows[i]]
        for at in range(0, len(row), LINE // 2):
            read |= row[at]
    into[:1, 0] = read
    for i in range(n):
        row, numbers = vectors[rows[i]], into[i]
        for at in range(len(numbers)):
            numbers[at] = number(row[at])


@compiled
def products(vectors: Scores, taste: Scores, result: Scores) -> None:
    """Write the products (n,) of the first n rows of vectors (m, d) with a taste (d,) into result.

    Four rows are multiplied at a time, so that vector units need not wait for a sum. m is a
    multiple of 4.
    """
    n, d = len(result), len(taste)
    whole = d - d % LANES
    lanes = np.empty((4, LANES), np.float32)
    for first in range(0, n, 4):
        lanes[:] = 0
        sums0, sums1, sums2, sums3 = lanes[0], lanes[1], lanes[2], lanes[3]
        row0, row1 = vectors[first], vectors[first + 1]
        row2, row3 = vectors[first + 2], vectors[first + 3]
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                at, factor = start + lane, taste[start + lane]
                sums0[lane] += row0[at] * factor
                sums1[lane] += row1[at] * factor
                sums2[lane] += row2[at] * factor
                sums3[lane] += row3[at] * factor
        for i in range(first, min(first + 4, n)):
            product = np.float32(0)
            for lane in range(LANES):
                product += lanes[i - first, lane]
            for column in range(whole, d):
                product += vectors[i, column] * taste[column]
            result[i] = product


@compiled
def add_fits(
    tracks: Tracks,
    sums: Scores,
    position: Tracks,
    vectors: np.ndarray,
    taste: Scores,
    weight: float,
    exponent: float,
) -> None:
    """Add to the sums what tracks gain by fitting a taste (d,).

    position (tracks,) is the row of each track in vectors (m, d), the bits of float16, or m.
    """
    rows, known, size = np.empty(len(tracks), np.int32), np.empty(len(tracks), np.int32), 0
    for i in range(len(tracks)):
        row = position[tracks[i]]
        if row < len(vectors):
            rows[size], known[size] = row, i
            size += 1
    near, fits = np.zeros((GATHERED, len(taste)), np.float32), np.empty(size, np.float32)
    for first in range(0, size, GATHERED):
        end = min(first + GATHERED, size)
        gather(vectors, rows[first:end], near)
        products(near, taste, fits[first:end])
    for i in range(size):
        sums[known[i]] += _raised(fits[i], exponent) * weight


@compiled
def nth_largest(numbers: Scores, n: int) -> float:
    """Return the number in place n, from 0, of all sorted from the largest to the smallest.

    This is Hoare's quickselect: it splits the numbers at one of them, then goes on with the part
    that has place n.

    >>> nth_largest(np.array([3.0, 9.0, 3.0, 5.0]), 2)
    3.0
    """
    left = numbers.copy()
    first, last = 0, len(left) - 1
    while first < last:
        split = left[(first + last) // 2]
        i, j = first, last
        while i <= j:
            while left[i] > split:
                i += 1
            while left[j] < split:
                j -= 1
            if i <= j:
                left[i], left[j] = left[j], left[i]
                i, j = i + 1, j - 1
        if n <= j:
            last = j
        elif n >= i:
            first = i
        else:
            break
    return float(left[n])


@compiled
def best(tracks: Tracks, sums: Scores, ties: Tracks, most: int) -> Tracks:
    """Return the first `most` tracks by sum, the greatest first.

    Of equal sums the track with the lower place in `ties` comes first; ties has a place for each
    track. Only those with a sum that is great enough are sorted.
    """
    size = min(most, len(tracks))
    if size == 0:
        return np.empty(0, np.int32)
    if size < len(tracks):
        enough = sums >= nth_largest(sums, size - 1)
        tracks, sums = tracks[enough], sums[enough]
    by_tie = np.argsort(ties[tracks], kind="mergesort")
    by_sum = np.argsort(-sums[by_tie], kind="mergesort")  # which leaves equal sums in their order
    return tracks[by_tie][by_sum][:size]


@compiled
def first_allowed(final: Tracks, top: Tracks, allowed: np.ndarray, n: int) -> Tracks:
    """Return the first n allowed tracks of two lists, one after the other, none twice.

    >>> allowed = np.array([True, True, False, True])
    >>> final, top = np.array([3, 2], np.int32), np.array([2, 3, 0, 1], np.int32)
    >>> first_allowed(final, top, allowed, 2).tolist(), allowed.tolist()
    ([3, 0], [True, True, False, True])
    """
    found, size = np.empty(n, np.int32), 0
    for place in range(len(final) + len(top)):
        if size == n:
            break
        track = final[place] if place < len(final) else top[place - len(final)]
        if allowed[track]:
            allowed[track] = False  # so that it isn't found again
            found[size] = track
            size += 1
    for place in range(size):
        allowed[found[place]] = True
    return found[:size]


@compiled
def joined(best: Tracks, own: Tracks, between: int, k: int, allowed: np.ndarray) -> Tracks:
    """Return the first k tracks of the best ones, with `own` between and after them, none twice.

    After each of the best come as many of `own` as `between` says: 1 for the rule "alternate". The
    mask must allow all of them.

    >>> best, own = np.array([4, 2], np.int32), np.array([2, 0, 1], np.int32)
    >>> joined(best, own, 1, 3, np.ones(6, np.bool_)), joined(best, own, 0, 4, np.ones(6, np.bool_))
    (array([4, 2, 0], dtype=int32), array([4, 2, 0, 1], dtype=int32))
    """
    answer, size, turn = np.empty(len(best) + len(own), np.int32), 0, 0
    for place in range(len(best) + 1):
        if place < len(best):
            if not allowed[best[place]]:
                continue
            answer[size], allowed[best[place]] = best[place], False
            size += 1
            until = size + between
        else:
            until = size + len(own)
        while turn < len(own) and size < until:
            if allowed[own[turn]]:
                answer[size], allowed[own[turn]] = own[turn], False
                size += 1
            turn += 1
        if size >= k:
            break
    for place in range(size):
        allowed[answer[place]] = True
    return answer[: min(size, k)]


class Sources(NamedTuple):
    """Where the tracks that events bring come from, and what each gains: see `competing`."""

    similar: tuple[Tracks, Tracks, Scores, float]
    next_played: tuple[Tracks, Tracks, Scores, float]
    fading: Scores
    n: int
    exponent: float


class FoldIn(NamedTuple):
    """What tracks gain by fitting a user's vector: see `add_fits`."""

    position: Tracks
    vectors: np.ndarray  # (m, d): the bits of float16
    taste: Scores  # (d,), or (0,) where nothing is folded in
    weight: float


@compiled
def blended(
    sources: Sources,
    fold_in: FoldIn,
    events: Tracks,
    final: Tracks,
    top: Tracks,
    worth: Scores,
    between: int,
    out: Tracks,
    allowed: np.ndarray,
    ties: Tracks,
    k: int,
) -> Tracks:
    """Return the first k tracks of the blend of what events bring with a user's offline list.

    `out` (m,) may not be recommended, besides what the mask `allowed` forbids already. The offline
    list is `final` and then `top`; its first tracks, as many as worth (n,) has, compete with what
    the events bring, and the others come between and after the best, as in `joined`.
    """
    for track in out:
        allowed[track] = False
    own = first_allowed(final, top, allowed, max(k, len(worth)))
    tracks, sums = competing(
        sources.similar, sources.next_played, events, sources.fading, sources.n, sources.exponent,
        allowed, own[: len(worth)], worth,
    )  # fmt: skip
    if len(fold_in.taste):
        add_fits(
            tracks, sums, fold_in.position, fold_in.vectors, fold_in.taste, fold_in.weight,
            sources.exponent,
        )  # fmt: skip
    answer = joined(best(tracks, sums, ties, k), own[len(worth) :], between, k, allowed)
    for track in out:
        allowed[track] = True
    return answer
