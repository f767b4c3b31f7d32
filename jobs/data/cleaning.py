"""Read the rows of the user's three files, and find the bad ones with the reason for each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract.ids import INTEGER, MISSING, TEXT, find
from jobs.contract.ragged import offsets_of_sorted
from jobs.contract.storage import JobError
from jobs.contract.text_ids import TextIds
from jobs.data import id_columns, kinds, raw_columns, raw_files
from jobs.data.allocator import Allocator, blocks
from jobs.data.histories import NO_SEQ, Listens
from jobs.data.id_columns import Texts
from jobs.data.ids import Encoder
from jobs.data.kinds import Told
from jobs.data.tombstones import NOT_OF_JOURNAL, Tombstones
from jobs.inputs import sizes
from jobs.inputs.files import Input, Reading
from jobs.inputs.lines import BAD_LINE
from jobs.runtime.progress import progress_bar

UNKNOWN_TRACK = "track_id is not in tracks.parquet"
UNKNOWN_TYPE = f"type is none of {', '.join(raw_files.NAME_TYPES)}"
SAME_TRACK = "track_id stands in an earlier row"
OTHER_NAME = "type and id have another name in an earlier row"
SAME_ROW = "the row equals an earlier one"
NOT_YET = "track_id of an event is not in tracks.parquet yet"
LOST_DURATION = "duration_ms is not a number above 0, and was left out"
LOST_LINK = "a value in artists or genres is not an id, and was left out"
LATER_THAN_NOW = "started_at is over a day later than now"
NO_ROW = "the line can't be read as a row"
FAR_TIME = "started_at is far from all other times"
REASONS = (  # why a row is bad, by its code; 0 means that it is good
    "",
    *(f"{name} {flaw}" for name in ("user_id", "track_id", "id") for flaw in raw_files.ID_FLAWS),
    *(f"started_at {flaw}" for flaw in raw_files.TIME_FLAWS),
    UNKNOWN_TRACK, UNKNOWN_TYPE, SAME_TRACK, OTHER_NAME, SAME_ROW, NOT_YET,
    LATER_THAN_NOW, FAR_TIME, LOST_LINK, NO_ROW, LOST_DURATION, *kinds.REASONS,
)  # fmt: skip
FIRST_OF_KINDS = REASONS.index(kinds.REASONS[0])


class Names(NamedTuple):
    """The names of the catalogue."""

    of: dict[str, tuple[np.ndarray, pa.Array]]  # by type the ids, ascending, and their names
    tracks: pa.Array | None  # where track ids are text: the texts that the ids of tracks are
    # places of


def read_names(source: Input, track_kind: str = INTEGER) -> tuple[Names, np.ndarray]:
    """Return the first name of each type and id, and the codes (n,) of the catalogue's rows."""
    columns = raw_files.table(source)
    types = pc.index_in(
        pc.utf8_lower(raw_files.text(columns["type"])), pa.array(raw_files.NAME_TYPES)
    )
    type_code = types.fill_null(-1).to_numpy(zero_copy_only=False)
    if track_kind == TEXT:
        ids, flaws, tracks = _ids_of_text_tracks(columns["id"], type_code)
    else:
        (ids, flaws), tracks = raw_files.ids(columns["id"]), None
    bad = coded("id", flaws)
    mark_unreadable(bad, columns[BAD_LINE])
    bad[(bad == 0) & (type_code < 0)] = REASONS.index(UNKNOWN_TYPE)
    names = raw_files.text(columns["name"])
    has_name = names.is_valid().to_numpy(zero_copy_only=False)
    result = {}
    for code, name in enumerate(raw_files.NAME_TYPES):
        rows = np.flatnonzero((bad == 0) & (type_code == code) & has_name)
        unique, first, place = np.unique(ids[rows], return_index=True, return_inverse=True)
        result[name] = unique, names.take(pa.array(rows[first]))
        differs = pc.not_equal(names.take(pa.array(rows)), result[name][1].take(pa.array(place)))
        bad[rows[differs.to_numpy(zero_copy_only=False)]] = REASONS.index(OTHER_NAME)
    return Names(result, tracks), bad


def _ids_of_text_tracks(
    column: pa.Array, type_code: np.ndarray
) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """Return the ids of the catalogue and their flaws, both (n,), where those of tracks are text.

    The ids of tracks are places in the texts that come third.
    """
    ids, flaws = np.zeros(len(column), np.int64), np.zeros(len(column), np.uint8)
    of_track = type_code == raw_files.NAME_TYPES.index("track")
    others, rows = np.flatnonzero(~of_track), np.flatnonzero(of_track)
    ids[others], flaws[others] = id_columns.link_numbers(column.take(pa.array(others)))
    encoded, flaws[rows] = id_columns.texts(column.take(pa.array(rows)))
    ids[rows] = encoded.indices.fill_null(0).to_numpy()
    return ids, flaws, encoded.dictionary


def _reader_of_links(track_kind: str) -> Callable[[pa.Array], tuple[np.ndarray, np.ndarray]]:
    """Return how ids of artists and genres are read: they may be text where those of tracks are."""
    return id_columns.link_numbers if track_kind == TEXT else raw_files.ids


def share_not_integer(codes: np.ndarray) -> float:
    """Return the share of rows whose user_id is text rather than a whole number, by their codes."""
    texts = [REASONS.index(f"user_id {raw_files.ID_FLAWS[f - 1]}") for f in id_columns.NOT_INTEGER]
    return float(np.isin(codes, texts).mean()) if len(codes) else 0.0


def read_tracks(
    source: Input, names: Names, track_kind: str = INTEGER
) -> tuple[pa.Table, TextIds | None, np.ndarray]:
    """Return the items, by track_id, and the codes (n,) of the rows of tracks.parquet.

    Between them is what the numbers of tracks stand for, where track ids are text. A row whose
    artists or genres have values that are no ids, or whose duration can't be right, has a code too,
    but is kept. The items have the tracks' durations as a further column, if these are known.
    """
    columns = raw_files.table(source)
    if track_kind == TEXT:
        encoded, flaws = id_columns.texts(columns["track_id"])
        ids = encoded.indices.fill_null(0).to_numpy().astype(np.int64)
    else:
        ids, flaws = raw_files.ids(columns["track_id"])
    bad = coded("track_id", flaws)
    mark_unreadable(bad, columns[BAD_LINE])
    rows = np.flatnonzero(bad == 0)
    track_ids, first = np.unique(ids[rows], return_index=True)
    bad[np.delete(rows, first)] = REASONS.index(SAME_TRACK)
    if track_ids.size == 0:
        reason = ": add the tracks"
        if len(bad):
            reason = f", {REASONS[bad[0]]} (first in {raw_files.row_name(source, 0)})"
        raise JobError(f"{source.path} holds no usable track in {len(ids):,} rows{reason}")
    texts, named_ids = None, track_ids
    if track_kind == TEXT:
        texts = TextIds.of(encoded.dictionary.take(pa.array(track_ids)))
        of_text = pc.index_in(texts.texts, encoded.dictionary.take(pa.array(track_ids)))
        first, track_ids = first[of_text.to_numpy()], texts.numbers
        named_ids = pc.index_in(texts.texts, names.tracks).fill_null(MISSING).to_numpy()
    kept = pa.array(rows[first])
    read = _reader_of_links(track_kind)
    artists, artist_names, lost_artists = named(
        columns["artists"].take(kept), names.of["artist"], read
    )
    genres, genre_names, lost_genres = named(columns["genres"].take(kept), names.of["genre"], read)
    durations, lost = _durations(columns, kept)
    bad[rows[first[lost]]] = REASONS.index(LOST_DURATION)
    bad[rows[first[np.union1d(lost_artists, lost_genres)]]] = REASONS.index(LOST_LINK)
    items = {
        "track_id": track_ids,
        "track_id_enc": np.arange(len(track_ids), dtype=np.int32),
        "track_name": name_of(named_ids, names.of["track"]),
        "artist_ids": artists,
        "artist_names": artist_names,
        "genre_ids": genres,
        "genre_names": genre_names,
    }
    if durations is not None:
        items[kinds.DURATION] = durations
    return pa.table(items), texts, bad


def _durations(
    columns: dict[str, pa.Array], rows: pa.Array
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the durations of tracks in milliseconds, (n,), NaN where unknown; None without any.

    The second result is which of the tracks (m,) have one that can't be right.
    """
    if kinds.DURATION not in columns:
        return None, np.zeros(0, np.int64)
    values, flaws = raw_files.numbers(columns[kinds.DURATION].take(rows))
    wrong = (flaws == raw_files.UNREADABLE) | (values <= 0)
    return np.where(wrong, np.nan, values), np.flatnonzero(wrong)


def coded(column: str, flaws: np.ndarray) -> np.ndarray:
    """Return the codes (n,), places in REASONS, of a column's flaws."""
    first = REASONS.index(f"{column} {raw_files.ID_FLAWS[0]}")
    return np.where(flaws > 0, first - 1 + flaws, 0).astype(np.uint8)


def named(
    column: pa.Array,
    names: tuple[np.ndarray, pa.Array],
    read: Callable[[pa.Array], tuple[np.ndarray, np.ndarray]],
) -> tuple[pa.Array, pa.Array, np.ndarray]:
    """Return a column's lists of ids (n,), and the lists of the names that exist for them.

    The third result is the rows in which values were left out because they are no ids.
    """
    ids, rows, lost = raw_files.id_lists(column, read)
    found = name_of(ids, names)
    exists = found.is_valid().to_numpy(zero_copy_only=False)
    return (
        lists(pa.array(ids), rows, len(column)),
        lists(found.drop_null(), rows[exists], len(column)),
        lost,
    )


def lists(values: pa.Array, rows: np.ndarray, n: int) -> pa.Array:
    """Return lists (n,) of flat values, given the row of each, ascending."""
    return pa.ListArray.from_arrays(offsets_of_sorted(rows, n).astype(np.int32), values)


def name_of(ids: np.ndarray, names: tuple[np.ndarray, pa.Array]) -> pa.Array:
    """Return the names (n,) of ids, null where an id has none."""
    found = find(names[0], ids)
    return names[1].take(pa.array(found, mask=found < 0))


def mark_unreadable(bad: np.ndarray, lines: pa.Array) -> None:
    """Give the rows (n,) that stand for a line which is no row their code."""
    bad[lines.is_valid().to_numpy(zero_copy_only=False)] = REASONS.index(NO_ROW)


class Read(NamedTuple):
    """What is read of the interactions, row by row; bad rows have the user -1."""

    listens: Listens
    bad: np.ndarray  # (n,) uint8: places in REASONS
    told: Told | None  # what kind of row each is, and how much was played; None: all are listens


class ReadListens(NamedTuple):
    """What is read of all interactions."""

    read: Read
    users: pa.Array | None  # the texts that users are places of, where user ids are text
    ends: list[int]  # where each input ends


class Ids(NamedTuple):
    """What ids of users and tracks in the listens are read by."""

    tracks: Encoder | Texts  # of whole numbers, or of text
    users: Texts | None  # None where they are whole numbers

    def text_columns(self) -> list[str]:
        """Return the columns that have text ids."""
        texts = {"user_id": self.users, "track_id": self.tracks}
        return [name for name, found in texts.items() if isinstance(found, Texts)]


def read_listens(
    sources: Sequence[Input],
    items: pa.Table,
    tombstones: Tombstones,
    track_texts: TextIds | None,
    allocator: Allocator,
    user_kind: str,
) -> ReadListens:
    """Return the rows of all inputs, one after the other in their order, in arrays of `allocator`.

    Bad rows have the user -1, and so have listens that are to be forgotten, whose code is 0.
    """
    n = sum(map(sizes.rows, sources))
    ids = Ids(
        Encoder.of(items["track_id"].to_numpy()) if track_texts is None else Texts(),
        Texts() if user_kind == TEXT else None,
    )
    listens = Listens(
        *(allocator.empty(n, dtype) for dtype in ("int32", "int32", "int64", "int32"))
    )
    bad = np.empty(n, np.uint8)
    columns = {name for source in sources for name in raw_columns.check(source)}
    told = kinds.of_columns(columns, n, allocator)
    # text ids are compared with those of the forgotten once all are known
    places = allocator.empty(n if ids.users and len(tombstones.user) else 0, np.int64)
    end, ends = 0, []
    with progress_bar(total=n, desc="check", unit=" rows", unit_scale=True) as bar:
        for source in sources:
            for batch in raw_files.batches(source, encoded=ids.text_columns()):
                start, end = end, end + len(batch)
                if end > len(bad):  # the number of rows of a text file was an estimate
                    more = end + end // 8
                    listens, bad, told, places = resized(
                        listens, bad, told, places, more, allocator
                    )
                (part, bad[start:end], of_part), place = check(
                    batch, ids, tombstones, source.reading
                )
                if part.user.max(initial=0) > np.iinfo(listens.user.dtype).max:
                    listens = listens._replace(user=allocator.converted(listens.user, np.int64))
                for column, values in zip(listens, part, strict=True):
                    column[start:end] = values
                if told is not None:
                    told.put(slice(start, end), of_part)
                if len(places):
                    places[start:end] = place
                bar.update(len(batch))
            ends.append(end)
    if end < len(bad):
        listens, bad, told, places = resized(listens, bad, told, places, end, allocator)
    if isinstance(ids.tracks, Texts):
        assert track_texts is not None
        settle_tracks(listens, bad, ids.tracks, track_texts)
    users = None
    if ids.users is not None:
        users = _settle_users(listens, bad, ids.users, tombstones, places)
    return ReadListens(Read(listens, bad, told), users, ends)


def resized(
    listens: Listens,
    bad: np.ndarray,
    told: Told | None,
    places: np.ndarray,
    n: int,
    allocator: Allocator,
) -> tuple[Listens, np.ndarray, Told | None, np.ndarray]:
    """Return the same with n rows. What was passed may not be used any more."""

    def with_n(column: np.ndarray) -> np.ndarray:
        return allocator.resized(column, n) if len(column) else column

    return (
        Listens(*(allocator.resized(column, n) for column in listens)),
        Allocator().resized(bad, n),
        told and Told(*map(with_n, told)),
        with_n(places),
    )


def check(
    batch: pa.RecordBatch, ids: Ids, tombstones: Tombstones, reading: Reading
) -> tuple[Read, np.ndarray]:
    """Return the rows of a batch of interactions, bad ones too, and their places in the journal.

    Text ids are slots of `Texts`.
    """
    time, time_flaws = raw_files.times(batch["started_at"], reading.unit, reading.origin)
    position, track_flaws, unknown = _tracks(batch["track_id"], ids)
    user, user_flaws = _users(batch["user_id"], ids)
    bad = coded("user_id", user_flaws)
    for codes in (coded("track_id", track_flaws), unknown, coded("started_at", time_flaws)):
        bad = np.where(bad == 0, codes, bad)
    told, reasons = kinds.read(batch)
    if reasons is not None:
        bad = np.where((bad == 0) & (reasons > 0), FIRST_OF_KINDS + reasons - 1, bad)
        bad = bad.astype(np.uint8)
    if BAD_LINE in batch.schema.names:
        mark_unreadable(bad, batch[BAD_LINE])
    seq = np.full(len(batch), NO_SEQ)
    if "track_seq" in batch.schema.names:
        numbers, flaws = raw_files.ids(batch["track_seq"])
        seq = np.where((flaws == 0) & (numbers < NO_SEQ), numbers, NO_SEQ)
    place = np.full(len(batch), NOT_OF_JOURNAL)
    if raw_columns.JOURNAL_SEQ in batch.schema.names:
        numbers, flaws = raw_files.ids(batch[raw_columns.JOURNAL_SEQ])
        place = np.where(flaws == 0, numbers, NOT_OF_JOURNAL)
    readable = np.where(time_flaws == 0, time, 0)
    if ids.users is not None:  # the others are left out once all texts are known
        found = Listens(np.where(user_flaws == 0, user, -1), position, time, seq)
        return Read(found, bad, told), place
    forgotten = (user_flaws == 0) & tombstones.covers(user, readable, place)
    bad[forgotten] = 0
    kept = np.where((bad == 0) & ~forgotten, user, -1)
    return Read(Listens(kept, position, time, seq), bad, told), place


def _users(column: pa.Array, ids: Ids) -> tuple[np.ndarray, np.ndarray]:
    """Return the users of some rows (n,), and the flaws of their ids."""
    if ids.users is not None:
        encoded, flaws = id_columns.texts(column)
        return ids.users.slots(encoded), flaws
    return raw_files.ids(column)


def _tracks(column: pa.Array, ids: Ids) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the tracks of some rows (n,), their ids' flaws, and the codes of unknown ones."""
    if isinstance(ids.tracks, Texts):
        encoded, flaws = id_columns.texts(column)
        return ids.tracks.slots(encoded), flaws, np.zeros(len(column), np.uint8)
    track, flaws = raw_files.ids(column)
    position = ids.tracks.positions(track)
    return position, flaws, unknown_codes(position)


def unknown_codes(position: np.ndarray) -> np.ndarray:
    """Return the codes (n,) of tracks that are not among the known ones, by their positions."""
    return np.where(position < 0, REASONS.index(UNKNOWN_TRACK), 0).astype(np.uint8)


def settle_tracks(listens: Listens, bad: np.ndarray, slots: Texts, known: TextIds) -> None:
    """Replace slots of track ids by the places of tracks; give unknown ones their code.

    As for whole numbers, an unknown track goes before a bad time, but after a bad id.
    """
    texts, of_slot = slots.finished()
    found = pc.index_in(texts, known.texts).fill_null(MISSING).to_numpy().astype(np.int32)
    of_time = np.array([reason.startswith("started_at") for reason in REASONS])
    position_of_slot = np.append(found[of_slot], np.int32(MISSING))  # the last is of MISSING
    for rows in blocks(len(bad)):
        slot = listens.track[rows]
        position = position_of_slot[slot]
        lost = np.flatnonzero(position < 0)
        codes = bad[rows][lost]
        unknown = lost[(slot[lost] >= 0) & ((codes == 0) | of_time[codes])]
        bad[rows][unknown] = REASONS.index(UNKNOWN_TRACK)
        listens.track[rows] = position


def _settle_users(
    listens: Listens,
    bad: np.ndarray,
    slots: Texts,
    tombstones: Tombstones,
    places: np.ndarray,
) -> pa.Array:
    """Replace slots of user ids by places among the texts, which are returned.

    Bad rows get the user -1, and what users did before they asked to be forgotten is left out.
    """
    texts, of_slot = slots.finished()
    covered = tombstones.of_texts(texts)
    user_of_slot = np.append(of_slot, np.int32(MISSING))  # the last is of MISSING
    for rows in blocks(len(bad)):
        user = user_of_slot[listens.user[rows]]
        if len(places):
            forgotten = (user >= 0) & covered.covers(user, listens.time[rows], places[rows])
            bad[rows][forgotten] = 0
            user[forgotten] = MISSING
        user[bad[rows] != 0] = MISSING
        listens.user[rows] = user
    return texts
