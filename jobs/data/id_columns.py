"""Read columns of ids that are text, and decide of which kind the ids of the input are.

A text id is used as it stands: nothing is trimmed or changed, so "7" and "007" are two ids. A whole
number is its plain decimal form, and a UUID its usual text form.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import tables, text_ids
from jobs.contract.ids import INTEGER, LONGEST, MISSING, TEXT, number_of
from jobs.contract.storage import JobError
from jobs.contract.text_ids import FolderIds, Kinds, TextIds
from jobs.data import raw_columns, raw_files
from jobs.data.allocator import blocks
from jobs.data.histories import Listens
from jobs.data.raw_files import NEGATIVE, OTHER_TEXT, TOO_LARGE, UNREADABLE
from jobs.inputs.files import Input

AUTO = "auto"
KINDS = (AUTO, INTEGER, TEXT)  # values of --user-ids and --track-ids
OPTIONS = {"user_id": "--user-ids", "track_id": "--track-ids"}
# values that are ids if ids are text, and flaws if they are whole numbers
NOT_INTEGER = (OTHER_TEXT, NEGATIVE, TOO_LARGE)
LOOKED_AT = 1 << 16  # rows from which the kind is guessed
MERGE = 1 << 20  # texts that wait before they are merged
FLOAT = r"^[0-9]+\.0+$"  # a whole number, as CSV has it where a column was one of floats
MOSTLY = 0.5  # share of whole numbers from which on a text kind may be a mistake


def kept_kinds(work: Path) -> Kinds | None:
    """Return the kinds of the ids in a folder that jobs.prepare has filled before; else None."""
    filled = (work / tables.USERS.file).exists() and (work / tables.ITEMS.file).exists()
    return text_ids.kinds_of(work) if filled else None


def texts(column: pa.Array) -> tuple[pa.DictionaryArray, np.ndarray]:
    """Return a column of ids as text, encoded, and flaws (n,) uint8, as raw_files.ids does.

    Values with a flaw are null. Each different text is looked at once.
    """
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    found, bad = _texts(encoded.dictionary)
    if not encoded.null_count and not bad.any():
        good = pa.DictionaryArray.from_arrays(encoded.indices.cast(pa.int32()), found)
        return good, np.zeros(len(column), np.uint8)
    rows = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    missing = encoded.is_null().to_numpy(zero_copy_only=False)
    if not len(found):
        nothing = pa.DictionaryArray.from_arrays(pa.nulls(len(column), pa.int32()), found)
        return nothing, np.full(len(column), raw_files.MISSING, np.uint8)
    flaws = np.where(missing, raw_files.MISSING, bad[rows]).astype(np.uint8)
    indices = pa.array(rows.astype(np.int32), mask=flaws > 0)
    return pa.DictionaryArray.from_arrays(indices, found), flaws


def _texts(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return different values as large_string, and their flaws."""
    if raw_columns.is_text(values.type) or pa.types.is_integer(values.type):
        found = values.cast(pa.large_string())
    else:
        return _of_floats(values)
    flaws = np.zeros(len(found), np.uint8)
    sizes = pc.binary_length(found).fill_null(1).to_numpy(zero_copy_only=False)
    flaws[sizes > LONGEST] = raw_files.TOO_LONG
    flaws[sizes == 0] = raw_files.EMPTY
    if _may_have_control(found):
        control = pc.match_substring_regex(found, r"[\x00-\x1f\x7f-\x{9f}]").fill_null(False)
        flaws[control.to_numpy(zero_copy_only=False)] = raw_files.CONTROL
    flaws[found.is_null().to_numpy(zero_copy_only=False)] = raw_files.MISSING
    return found, flaws


def _may_have_control(texts: pa.Array) -> bool:
    """Return whether any of these texts may have a control character; a regex is much slower.

    In UTF-8, U+0080 to U+009F begin with the byte C2, as do some characters that are none.
    """
    buffer = texts.buffers()[2]
    found = np.frombuffer(buffer or b"", np.uint8)
    return bool((found < 0x20).any() or (found == 0x7F).any() or (found == 0xC2).any())


def _of_floats(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return floats and decimals that are whole numbers as text; others have a flaw."""
    numbers, flaws = raw_files.ids(values)
    exact = np.where(np.isin(flaws, (UNREADABLE, NEGATIVE, TOO_LARGE)), flaws, 0)
    exact = np.where(flaws == raw_files.MISSING, flaws, exact).astype(np.uint8)
    return pa.array(numbers).cast(pa.large_string()), exact


def link_numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return ids of artists and genres of text, as numbers, and flaws, as raw_files.ids does.

    They are never asked for by these ids, so whole numbers stay, and other texts have the number
    that contract.ids gives them.
    """
    numbers, flaws = raw_files.ids(column)
    if np.isin(flaws, NOT_INTEGER).any():
        rows = np.flatnonzero(np.isin(flaws, NOT_INTEGER))
        encoded, of_text = texts(column.take(pa.array(rows)))
        distinct = np.array(
            [number_of(text.encode()) for text in encoded.dictionary.fill_null("").to_pylist()],
            np.int64,
        )
        good = of_text == 0
        numbers[rows[good]] = distinct[encoded.indices.fill_null(0).to_numpy()[good]]
        flaws[rows[good]] = 0
    return numbers, flaws


class Texts:
    """Different texts, numbered in the order in which they first came.

    Each block of texts gets slots, which are numbers of texts with repeats; `finished` says which
    text each slot has. So a block's texts need not be looked up among all others one block at a
    time: that is done when many have come.
    """

    def __init__(self) -> None:
        self._known = pa.array([], pa.large_string())
        self._waiting: list[pa.Array] = []
        self._n_waiting = 0
        self._n_slots = 0
        self._of_slot: list[np.ndarray] = []

    def slots(self, encoded: pa.DictionaryArray) -> np.ndarray:
        """Return the slot of each text (n,) int32, MISSING for a null."""
        first = self._n_slots
        self._waiting.append(encoded.dictionary)
        self._n_waiting += len(encoded.dictionary)
        self._n_slots += len(encoded.dictionary)
        if self._n_waiting > max(MERGE, len(self._known)):
            self._merge()
        indices = encoded.indices.fill_null(MISSING - first).to_numpy(zero_copy_only=False)
        slots: np.ndarray = (indices + np.int32(first)).astype(np.int32)
        return slots

    def finished(self) -> tuple[pa.Array, np.ndarray]:
        """Return the different texts (m,), and the place of each slot's text there, int32."""
        self._merge()
        return self._known, np.concatenate([np.empty(0, np.int32), *self._of_slot])

    def _merge(self) -> None:
        if not self._waiting:
            return
        blocks = pa.chunked_array([self._known, *self._waiting], pa.large_string())
        encoded = blocks.dictionary_encode()
        places = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
        self._of_slot.append(places[len(self._known) :].astype(np.int32))
        self._known = encoded.chunk(encoded.num_chunks - 1).dictionary
        self._waiting, self._n_waiting = [], 0


def asked_kind(asked: str, kept: str | None) -> str:
    """Return of which kind ids are: as the option says, or integer if they were so in WORK.

    There a few ids that are no whole numbers are bad rows, and do not make all others text.
    """
    return INTEGER if asked == AUTO and kept == INTEGER else asked


def kind_of_tracks(tracks: Input, kept: Kinds | None, options: argparse.Namespace) -> str:
    """Return of which kind the ids of the tracks are. JobError if they were of another before."""
    kind = asked_kind(options.track_ids, kept and kept.tracks)
    if kind == AUTO:
        kind = kind_of(raw_files.table(tracks)["track_id"], options.max_bad_share)
    check_kept("track_id", kept and kept.tracks, kind, options.track_ids, options.work)
    return kind


def kind_of(column: pa.Array, share: float) -> str:
    """Return of which kind the ids of a column are.

    They are text if more than this share of them is text rather than a whole number. Up to there
    such rows are bad: an odd value must not make all other ids text.
    """
    _, flaws = raw_files.ids(column)
    return TEXT if np.isin(flaws, NOT_INTEGER).sum() > share * len(flaws) else INTEGER


def likely_kind(source: Input, share: float, column: str = "user_id") -> str:
    """Return of which kind the ids of the interactions probably are, by their begin."""
    first = next(raw_files.sample(source, LOOKED_AT), None)
    return INTEGER if first is None else kind_of(first.batch[column], share)


def share_of_text(listens: Listens, known: pa.Array, n: int) -> float:
    """Return the share of the first n listens whose user's id is text, not a whole number.

    known are the texts of which listens.user has the places.
    """
    _, flaws = raw_files.ids(known)
    text = np.append(np.isin(flaws, NOT_INTEGER), False)  # the last one is of MISSING
    return sum(int(text[listens.user[rows]].sum()) for rows in blocks(n)) / max(n, 1)


def check_kept(column: str, kept: str | None, found: str, asked: str, work: Path) -> None:
    """Raise JobError if ids that were text in WORK are whole numbers now, and no option says so."""
    if asked == AUTO and kept == TEXT and found == INTEGER:
        option = OPTIONS[column]
        raise JobError(
            f"each {column} is a whole number, but in {work} they were text before: pass "
            f"{option} text to go on with text ids, or {option} integer if they are numbers now"
        )


def number_users(listens: Listens, texts: pa.Array, feedback: Listens | None = None) -> TextIds:
    """Return the ids of the users who have a listen left, or feedback.

    `listens` and `feedback` get their places there; texts are those of which they have the places.
    """
    kept = np.zeros(len(texts), bool)
    for rows in blocks(len(listens.user)):
        user = listens.user[rows]
        kept[user[user >= 0]] = True
    if feedback is not None:
        kept[feedback.user] = True
    texts = texts.filter(pa.array(kept))
    ids = TextIds.of(texts)
    place = np.full(len(kept) + 1, MISSING, np.int32)  # the last one is of MISSING
    place[np.flatnonzero(kept)[pc.index_in(ids.texts, texts).to_numpy()]] = np.arange(
        len(ids.numbers)
    )
    for rows in blocks(len(listens.user)):
        listens.user[rows] = place[listens.user[rows]]
    if feedback is not None:
        feedback.user[:] = place[feedback.user]
    return ids


def warn_of_text(ids: FolderIds, kept: Kinds | None, options: argparse.Namespace) -> None:
    """Print a line on stderr if ids were taken as text although most of them are whole numbers.

    A line is also printed if most of them look like floats, as 7.0, which is another id than 7.
    """
    asked = options.user_ids, options.track_ids
    before = kept or (None, None)
    for (column, option), known, was, said in zip(OPTIONS.items(), ids, before, asked, strict=True):
        if known is None or said != AUTO or was == TEXT:
            continue
        _, flaws = raw_files.ids(known.texts)
        other = np.flatnonzero(flaws)
        floats = known.texts.filter(pc.match_substring_regex(known.texts, FLOAT))
        if len(floats) > MOSTLY * len(flaws):
            print(
                f"prepare: warning: each {column} is text, such as "
                f"{shortened(floats[0].as_py())!r}: if they are numbers, write them without the "
                f"point and the zeros; pass {option} text if this is right",
                file=sys.stderr,
            )
        elif 0 < len(other) < (1 - MOSTLY) * len(flaws):
            print(
                f"prepare: warning: each {column} is text, since {len(other):,} of {len(flaws):,} "
                f"are no whole numbers from 0 to 2^53 - 1, such as "
                f"{shortened(known.texts[other[0]].as_py())!r}: pass {option} integer to leave "
                f"them out, or {option} text if this is right",
                file=sys.stderr,
            )


def shortened(text: str) -> str:
    """Return the beginning of an id, as it is shown in messages."""
    return text if len(text) <= 40 else f"{text[:39]}…"
