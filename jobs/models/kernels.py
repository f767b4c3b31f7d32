"""Compiled loops for large data: what sparse.py and ranked_lists.py compute in NumPy and SciPy.

Those two modules and next_played import this one, and only where the data is worth it (see
contract/compiling). Matrices are passed as their arrays indptr, indices and data. The tests compare
each function with its plain form.
"""

import numpy as np

from jobs.contract.compiled import compiled

Csr = tuple[np.ndarray, np.ndarray, np.ndarray]  # indptr, indices int32, data float32
BITS = 0x7FFFFFFF  # all bits of a float32 but the sign: in the order of positive floats
PLACE_BITS = 32  # of a key, for the place among ties
FINE_BITS = 20  # the lowest bits of a float32, in which numbers of one class differ
PLAY_BITS = 5  # of another key, for one of a user's last plays: see sequence_neighbours.LAST
LAST_PLAY = (1 << PLAY_BITS) - 1
DIGIT_BITS = 11  # of what a pass of `_sorted` sorts by, so that its counts stay in a cache


@compiled
def product(left: Csr, right: Csr, columns: int) -> Csr:
    """Return the product of two sparse matrices, the second of which has so many columns.

    A row is summed up in an array with all columns, in the order of the left row's entries, as
    SciPy does it. Entries that add up to 0 are left out.
    """
    left_starts, left_at, left_values = left
    starts, at, values = right
    rows = len(left_starts) - 1
    total = longest = 0
    for row in range(rows):
        n = 0
        for i in range(left_starts[row], left_starts[row + 1]):
            n += starts[left_at[i] + 1] - starts[left_at[i]]
        total += min(n, columns)
        longest = max(longest, n)
    sums = np.zeros(columns, np.float32)
    touched = np.empty(longest + 1, np.int32)
    ends = np.zeros(rows + 1, np.int64)
    items, result = np.empty(total, np.int32), np.empty(total, np.float32)
    end = 0
    for row in range(rows):
        n = 0
        for i in range(left_starts[row], left_starts[row + 1]):
            weight, other = left_values[i], left_at[i]
            for j in range(starts[other], starts[other + 1]):
                column = at[j]
                before = sums[column]
                touched[n] = column  # again if terms cancelled; then it is found to be 0 below
                n += before == 0
                sums[column] = before + weight * values[j]
        end = _emptied(sums, touched[:n], items, result, end)
        ends[row + 1] = end
    return ends, items[:end], result[:end]


@compiled
def _emptied(
    sums: np.ndarray, touched: np.ndarray, items: np.ndarray, values: np.ndarray, end: int
) -> int:
    """Move sums that are not 0 to items and values, from `end` on, and return the new end.

    The last column that was touched comes first, as in a product of SciPy, so that sums over a row
    are the same too.
    """
    for i in range(len(touched) - 1, -1, -1):
        column = touched[i]
        if sums[column] != 0:
            items[end], values[end] = column, sums[column]
            end += 1
            sums[column] = 0
    return end


@compiled
def followers(
    item: np.ndarray,
    at: np.ndarray,
    last: np.ndarray,
    weight: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    columns: int,
) -> Csr:
    """Return what follows some plays, (rows, columns), as next_played.following has it."""
    total = longest = 0
    for row in range(len(rows) - 1):
        n = (rows[row + 1] - rows[row]) * len(weights)
        total += min(n, columns)
        longest = max(longest, n)
    sums = np.zeros(columns, np.float32)
    touched = np.empty(longest + 1, np.int32)
    ends = np.zeros(len(rows), np.int64)
    items, result = np.empty(total, np.int32), np.empty(total, np.float32)
    end = 0
    for row in range(len(rows) - 1):
        n = 0
        for i in range(rows[row], rows[row + 1]):
            place = int(at[i])
            for step in range(min(len(weights), int(last[i]) - place)):
                column = item[place + 1 + step]
                if column == item[place]:
                    continue
                before = sums[column]
                touched[n] = column
                n += before == 0
                sums[column] = before + weight[i] * weights[step]
        end = _emptied(sums, touched[:n], items, result, end)
        ends[row + 1] = end
    return ends, items[:end], result[:end]


@compiled
def _sorted(keys: np.ndarray, spare: np.ndarray, first_bit: int, bits: int) -> np.ndarray:
    """Return keys (n,) in ascending order of so many bits from first_bit on, in keys or in spare.

    This is a radix sort. For ten thousand keys it takes a fifth of the time of comparing them.

    >>> keys, spare = np.array([9, 4, 7]), np.empty(3, np.int64)
    >>> _sorted(keys, spare, 1, 3).tolist()  # by 4, 2 and 3
    [4, 7, 9]
    """
    starts, mask = np.empty(1 << DIGIT_BITS, np.int64), (1 << DIGIT_BITS) - 1
    for shift in range(first_bit, first_bit + bits, DIGIT_BITS):
        starts[:] = 0
        for key in keys:
            starts[key >> shift & mask] += 1
        start = 0
        for digit in range(len(starts)):
            start, starts[digit] = start + starts[digit], start
        for key in keys:
            digit = key >> shift & mask
            spare[starts[digit]] = key
            starts[digit] += 1
        keys, spare = spare, keys
    return keys


@compiled
def similar_places(
    plays: Csr,
    own: np.ndarray,
    starts: np.ndarray,
    at: np.ndarray,
    user: np.ndarray,
    fading: np.ndarray,
) -> Csr:
    """Return the similarities (users, places) of sequence_neighbours.Histories.similarities.

    plays (users, items) are the users' last plays, and own (users,) their rows in the sample; the
    other arrays are fields of Histories.
    """
    first, tracks, weights = plays
    total = longest = 0
    for row in range(len(own)):
        n = 0
        for i in range(first[row], first[row + 1]):
            n += starts[tracks[i] + 1] - starts[tracks[i]]
        total += n
        longest = max(longest, n)
    # places, and in the lowest bits which play it is
    listed, spare = np.empty(longest, np.int64), np.empty(longest, np.int64)
    bits = 1
    while len(at) >> bits:
        bits += 1
    ends = np.zeros(len(own) + 1, np.int64)
    places, result = np.empty(total, np.int32), np.empty(total, np.float32)
    end = 0
    for row in range(len(own)):
        n = 0
        for i in range(first[row], first[row + 1]):
            for j in range(starts[tracks[i]], starts[tracks[i] + 1]):
                if user[at[j]] != own[row]:
                    listed[n] = np.int64(at[j]) << PLAY_BITS | (i - first[row])
                    n += 1
        found = _sorted(listed[:n], spare[:n], PLAY_BITS, bits)
        for i in range(n):
            place = found[i] >> PLAY_BITS
            similarity = weights[first[row] + (found[i] & LAST_PLAY)]
            for back in range(1, i + 1):
                before = found[i - back] >> PLAY_BITS
                if place - before >= len(fading) or user[before] != user[place]:
                    break
                gain = weights[first[row] + (found[i - back] & LAST_PLAY)]
                similarity += fading[place - before] * gain
            places[end + i], result[end + i] = place, similarity
        end += n
        ends[row + 1] = end
    return ends, places[:end], result[:end]


@compiled
def _sink(heap: np.ndarray, place: int, size: int) -> None:
    """Restore the order of a heap with the largest key on top; the key at a place may be too small.

    What is below this place is in order.
    """
    key = heap[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key


@compiled
def _lower_bound(bits: np.ndarray, k: int, counts: np.ndarray) -> int:
    """Return bits that at least k of some numbers reach, or 1 if fewer than k are positive.

    bits (n,) are those of the numbers as float32. The positive ones are counted in classes. There
    are eight classes between a power of two and the next one. The bound is the start of the class
    that has the k-th largest number. counts has a place for each class.
    """
    counts[:] = 0
    for each in bits:
        if each > 0:
            counts[each >> FINE_BITS] += 1
    found = 0
    for kind in range(len(counts) - 1, 0, -1):
        found += counts[kind]
        if found >= k:
            return kind << FINE_BITS
    return 1


@compiled
def best_of_rows(
    starts: np.ndarray,
    columns: np.ndarray,
    bits: np.ndarray,
    k: int,
    places: np.ndarray,
    at: np.ndarray,
    out: tuple[np.ndarray, np.ndarray],
    items: np.ndarray,
    best: np.ndarray,
) -> None:
    """Write the k largest positive entries of each row into items and best (rows, k), best first.

    bits (entries,) int32 are those of the entries as float32, and best has those of the scores.
    places and at are those of Ties. `out` has the offsets and columns of entries that are left out.
    A key has the falling bits, then the place among ties; the smallest k keys of a row are kept in
    a heap with the largest of them on top. Most entries are below a bound that is found by
    counting, and get no key.
    """
    out_starts, out_at = out
    is_out = np.zeros(len(places), np.bool_)
    heap = np.empty(k, np.int64)
    counts = np.empty((BITS >> FINE_BITS) + 1, np.int32)
    for row in range(len(starts) - 1):
        first, last = starts[row], starts[row + 1]
        size, least = 0, 1  # the bits that an entry has to reach
        left_out = out_at[out_starts[row] : out_starts[row + 1]]
        for column in left_out:
            is_out[column] = True
        if last - first > k + len(left_out):
            least = _lower_bound(bits[first:last], k + len(left_out), counts)
        for i in range(first, last):
            if bits[i] < least or is_out[columns[i]]:
                continue
            key = np.int64(BITS - bits[i]) << PLACE_BITS | np.int64(places[columns[i]])
            if size < k:
                heap[size] = key
                size += 1
                if size == k:
                    for place in range(k // 2 - 1, -1, -1):
                        _sink(heap, place, k)
            elif key < heap[0]:
                heap[0] = key
                _sink(heap, 0, k)
                least = BITS - (heap[0] >> PLACE_BITS)
        for column in left_out:
            is_out[column] = False
        found = heap[:size]
        found.sort()
        for i in range(size):
            items[row, i] = at[found[i] & 0xFFFFFFFF]
            best[row, i] = BITS - (found[i] >> PLACE_BITS)


@compiled
def look_up(
    matrix: Csr, rows: np.ndarray, columns: np.ndarray, width: int, result: np.ndarray
) -> None:
    """Write the values of a matrix at pairs of ascending rows and columns into result (n,).

    Of each row of the matrix, what is looked up is written into an array with all columns (width),
    and read from it.
    """
    starts, at, values = matrix
    whole, is_wanted = np.zeros(width, np.float32), np.zeros(width, np.bool_)
    first = 0
    while first < len(rows):
        row, last = rows[first], first
        while last < len(rows) and rows[last] == row:
            is_wanted[columns[last]] = True
            last += 1
        for i in range(starts[row], starts[row + 1]):
            if is_wanted[at[i]]:
                whole[at[i]] = values[i]
        for pair in range(first, last):
            result[pair] = whole[columns[pair]]
        for pair in range(first, last):
            whole[columns[pair]], is_wanted[columns[pair]] = 0, False
        first = last


@compiled
def row_products(
    left: Csr, rows: np.ndarray, right: Csr, others: np.ndarray, width: int, result: np.ndarray
) -> None:
    """Write inner products of row rows[i] of left and row others[i] of right into result (n,).

    rows are ascending; both matrices have so many columns (width).
    """
    left_starts, left_at, left_values = left
    starts, at, values = right
    whole = np.zeros(width, np.float32)
    first = 0
    while first < len(rows):
        row, last = rows[first], first
        for i in range(left_starts[row], left_starts[row + 1]):
            whole[left_at[i]] = left_values[i]
        while last < len(rows) and rows[last] == row:
            total = 0.0
            for i in range(starts[others[last]], starts[others[last] + 1]):
                total += whole[at[i]] * values[i]
            result[last] = total
            last += 1
        for i in range(left_starts[row], left_starts[row + 1]):
            whole[left_at[i]] = 0
        first = last
