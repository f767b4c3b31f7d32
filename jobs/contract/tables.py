"""The parquet files that flow between the jobs and the service: columns, types, order.

Reading checks the schema and names the job that makes a missing or wrong file; writing is atomic
(temporary file, fsync, rename), so a file that exists is whole. Encoded ids (`*_enc`) are positions
in the sorted ids: dense int32, the jobs' own.

In a folder whose ids are text (see contract.text_ids) the columns of ids have texts in the files,
and numbers in what is read and written here. Rows are in the order of the numbers.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.contract import text_ids
from jobs.contract.ids import MISSING
from jobs.contract.ids import TEXT as TEXT_KIND
from jobs.contract.storage import JobError, atomic
from jobs.contract.text_ids import TRACK_COLUMNS, USER_COLUMNS, FolderIds, Kinds

ID, TEXT, TIME = pa.int64(), pa.string(), pa.timestamp("us")
INT, SCORE = pa.int32(), pa.float32()
ENCODED = pa.dictionary(INT, TEXT)
ROWS_A_GROUP = 1 << 22  # of a file with text ids: each group has its own texts
DICTIONARY_BYTES = 1 << 28  # of the different texts of a row group's column
BOUNDS = b"numbers"  # the key, in a file's footer, of the numbers in its row groups


@dataclass(frozen=True)
class Table:
    """One parquet file: what a row means, its columns, and those that its rows are sorted by."""

    file: str
    made_by: str
    row: str
    schema: pa.Schema
    order: tuple[str, ...]
    of_journal: bool = False  # whether ids are as in the journal, also in a folder with text ids


def _ranked(file: str, made_by: str, row: str, key: str, item: str) -> Table:
    """Return a table of ranked lists: for each `key` the `item`s from rank 1 on, best first."""
    schema = pa.schema([(key, ID), (item, ID), ("rank", INT), ("score", SCORE)])
    return Table(file, made_by, row, schema, (key, "rank"))


LISTENS = Table(
    "listens.parquet",
    "jobs.prepare",
    "one kept listen",
    pa.schema([("user_id", ID), ("track_id", ID), ("started_at", TIME), ("track_seq", INT)]),
    ("user_id", "started_at", "track_seq"),
)


USERS = Table(
    "users.parquet",
    "jobs.prepare",
    "one user with a listen; user_id_enc is the user's row in the model",
    pa.schema([("user_id", ID), ("user_id_enc", INT), ("listens", INT), ("last_at", TIME)]),
    ("user_id_enc",),
)


ITEMS = Table(
    "items.parquet",
    "jobs.prepare",
    "one track of tracks.parquet; track_id_enc is its row in the model",
    pa.schema(
        [
            ("track_id", ID),
            ("track_id_enc", INT),
            ("track_name", TEXT),  # null where the catalogue has none
            ("artist_ids", pa.list_(ID)),
            ("artist_names", pa.list_(TEXT)),  # only those that the catalogue names
            ("genre_ids", pa.list_(ID)),
            ("genre_names", pa.list_(TEXT)),
        ]
    ),
    ("track_id_enc",),
)


SONGS = Table(
    "songs.parquet",
    "jobs.prepare",
    "one track that is the same song as another; song_id is the track that is shown for all",
    pa.schema([("track_id", ID), ("song_id", ID)]),
    ("track_id",),
)


QUARANTINE = Table(
    "quarantine.parquet",
    "jobs.prepare",
    "one bad input row, as text, with the reason why it was left out",
    pa.schema([("file", TEXT), ("row", ID), ("reason", TEXT), ("content", TEXT)]),
    ("file", "row"),
)


SUSPICIOUS = Table(
    "suspicious.parquet",
    "jobs.prepare",
    "one account that does not play as a listener does",
    pa.schema([("user_id", ID), ("reason", TEXT), ("value", INT), ("left_out", pa.bool_())]),
    ("user_id",),
)


FEEDBACK = Table(
    "feedback.parquet",
    "jobs.prepare",
    "one like or dislike of a track, or what takes it back",
    pa.schema([("user_id", ID), ("track_id", ID), ("at", TIME), ("kind", TEXT)]),
    ("user_id", "track_id", "at"),
)


SHARES = Table(
    "shares.parquet",
    "jobs.prepare",
    "how much of the track was played in the listen that has the same row in listens.parquet",
    pa.schema([("played_share", SCORE)]),  # 0 to 1; NaN where it is not known
    (),
)


EVENTS = Table(
    "events.parquet",
    "jobs.export_events",
    "one listen that the service saw, with its seq in the journal; track_seq is not known",
    LISTENS.schema.append(pa.field("journal_seq", ID)),
    ("journal_seq",),
    of_journal=True,
)
# as it was when a time was also the place in the journal
EVENTS_OF_VERSION_1 = replace(EVENTS, schema=LISTENS.schema, order=("started_at",))


HOLDOUT = Table(
    "holdout.parquet",
    "jobs.windows",
    "one listen after the window's cut, which the window's lists should predict",
    LISTENS.schema,
    LISTENS.order,
)


TOP_POPULAR = Table(
    "top_popular.parquet",
    "jobs.top_popular",
    "one track with a listen, the most popular first",
    pa.schema(
        [("track_id", ID), ("rank", INT), ("score", SCORE), ("listeners", INT), ("plays", INT)]
    ),
    ("rank",),
)


PERSONAL_ALS = _ranked(
    "personal_als.parquet",
    "jobs.personal_als",
    "one track of a user's ALS list",
    "user_id",
    "track_id",
)


NEW_TRACKS = _ranked(
    "new_tracks.parquet",
    "jobs.personal_als",
    "one track without a listen that may suit the user",
    "user_id",
    "track_id",
)


SIMILAR = _ranked(
    "similar.parquet", "jobs.similar", "one neighbour of a track", "track_id", "similar_track_id"
)


NEXT_PLAYED = _ranked(
    "next_played.parquet",
    "jobs.next_played",
    "one track played soon after a track",
    "track_id",
    "next_track_id",
)


FOLLOWERS = Table(
    "followers.parquet",
    "jobs.next_played",
    "one track played soon after a track, as in next_played, and how often directly after it",
    NEXT_PLAYED.schema.append(pa.field("directly", SCORE)),
    NEXT_PLAYED.order,
)


ITEM_WEIGHTS = _ranked(
    "item_weights.parquet",
    "jobs.item_weights",
    "one track for which a play of a track says something; score is the weight of the play",
    "track_id",
    "other_track_id",
)


RECOMMENDATIONS = _ranked(
    "recommendations.parquet",
    "jobs.rank",
    "one track of a user's final list",
    "user_id",
    "track_id",
)


ARTIST_TRACKS = _ranked(
    "artist_tracks.parquet",
    "jobs.rank",
    "one of the most played tracks of an artist",
    "artist_id",
    "track_id",
)


FORECAST = Table(
    "forecast.parquet",
    "jobs.rank",
    "one track that listeners are expected to play for the first time, the best first",
    pa.schema([("track_id", ID), ("rank", INT), ("score", SCORE)]),
    ("rank",),
)


TABLES = {
    t.file: t
    for t in (
        LISTENS, USERS, ITEMS, SONGS, QUARANTINE, SUSPICIOUS, FEEDBACK, SHARES, EVENTS, HOLDOUT,
        TOP_POPULAR, PERSONAL_ALS, NEW_TRACKS, SIMILAR, NEXT_PLAYED, FOLLOWERS, ITEM_WEIGHTS,
        RECOMMENDATIONS, ARTIST_TRACKS, FORECAST,
    )
}  # fmt: skip


RELEASED = (
    LISTENS, USERS, ITEMS, TOP_POPULAR, PERSONAL_ALS, SIMILAR, NEXT_PLAYED, RECOMMENDATIONS
)  # fmt: skip


def read(table: Table, folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file of the contract, or the named columns of it, after checking its schema."""
    _check(table, folder)
    names = table.schema.names if columns is None else list(columns)
    ids = text_ids.of(folder)
    data = pq.read_table(
        folder / table.file,
        columns=names,
        memory_map=True,
        read_dictionary=_text_columns(table, ids) or None,
    )
    for name in (name for name in _text_columns(table, ids) if name in names):
        column = _ColumnOfTexts(ids, name, table, folder)
        numbers = pa.chunked_array([column.numbers(part) for part in data[name].chunks], ID)
        data = data.set_column(data.schema.get_field_index(name), name, numbers)
    return data


def batches(
    table: Table, folder: Path, columns: Sequence[str], rows: int = 1 << 20
) -> Iterator[pa.RecordBatch]:
    """Read the named columns in file order, at most `rows` rows at a time.

    A thread reads the next rows while the caller works on those that it has.
    """
    _check(table, folder)
    ids = text_ids.of(folder)
    texts = _text_columns(table, ids)
    translated = {
        name: _ColumnOfTexts(ids, name, table, folder) for name in texts if name in columns
    }
    with (
        pq.ParquetFile(folder / table.file, memory_map=True, read_dictionary=texts or None) as file,
        ThreadPoolExecutor(1) as reader,
    ):
        unread = file.iter_batches(rows, columns=columns)
        coming = reader.submit(next, unread, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, unread, None)
            for name, column in translated.items():
                numbers = column.numbers(batch[name])
                batch = batch.set_column(batch.schema.get_field_index(name), name, numbers)
            yield batch


def _text_columns(table: Table, ids: FolderIds) -> list[str]:
    """Return the columns of a table in a folder that are declared as ids and have texts."""
    if table.of_journal:
        return []
    return [name for name in ids.text_columns(table.schema.names) if _declared_id(table, name)]


def _declared_id(table: Table, name: str) -> bool:
    return bool(table.schema.field(name).type == ID)


class _ColumnOfTexts:
    """The numbers of a column's texts, looked up once for all batches of a row group.

    These batches have the same dictionary, which may hold most of the texts that are known.
    """

    def __init__(self, ids: FolderIds, name: str, table: Table, folder: Path) -> None:
        known = ids.of_column(name)
        assert known is not None
        self._known, self._name, self._path = known, name, folder / table.file
        self._dictionary: pa.Array = known.texts[:0]
        self._numbers = np.empty(0, np.int64)

    def numbers(self, texts: pa.Array) -> pa.Array:
        """Return the numbers of texts (n,). JobError if the folder does not have one of them."""
        if not pa.types.is_dictionary(texts.type):
            texts = texts.dictionary_encode()
        if not texts.dictionary.equals(self._dictionary):
            self._dictionary = texts.dictionary
            self._numbers = self._known.numbers_of(texts.dictionary)
        numbers = self._numbers[texts.indices.to_numpy(zero_copy_only=False)]
        if (numbers == MISSING).any():
            raise JobError(
                f"{self._path} has a {self._name} that the other files in the folder do not have, "
                "so they come from different runs: run python -m jobs.prepare and all later jobs "
                "again"
            )
        return pa.array(numbers)


def stored(table: Table, kinds: Kinds) -> pa.Schema:
    """Return the schema of a table's file in a folder with ids of these kinds."""
    if table.of_journal:
        return table.schema
    return with_text(table.schema, kinds)


def with_text(schema: pa.Schema, kinds: Kinds) -> pa.Schema:
    """Return a schema in which ids of these kinds have the types that they have in files."""
    texts = set[str]()
    for columns, kind in zip((USER_COLUMNS, TRACK_COLUMNS), kinds, strict=True):
        texts |= {name for name in columns if kind == TEXT_KIND}
    return pa.schema(
        pa.field(field.name, TEXT) if field.name in texts and field.type == ID else field
        for field in schema
    )


def n_rows(table: Table, folder: Path) -> int:
    """Return the number of rows of a file, from its footer."""
    return int(_check(table, folder).num_rows)


def types(table: Table, folder: Path) -> dict[str, str]:
    """Return the types of a file's columns, from its footer; they may differ from the declared."""
    return {f.name: str(f.type) for f in _metadata(table, folder).schema.to_arrow_schema()}


def columns(table: Table, folder: Path) -> list[str]:
    """Return the columns that a file has, from its footer; they may differ from the declared."""
    return list(_metadata(table, folder).schema.to_arrow_schema().names)


def _metadata(table: Table, folder: Path) -> pq.FileMetaData:
    path = folder / table.file
    if not path.is_file():
        raise JobError(f"{path} is missing: run {_command(table, folder)}")
    try:
        return pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise JobError(
            f"{path} is not a whole parquet file ({error}): run {_command(table, folder)} again"
        ) from None


def _check(table: Table, folder: Path) -> pq.FileMetaData:
    path, metadata = folder / table.file, _metadata(table, folder)
    found = metadata.schema.to_arrow_schema()
    expected = stored(table, text_ids.kinds_of(folder))
    if not found.equals(expected):
        raise JobError(
            f"{path} has the columns {_columns(found)}, expected {_columns(expected)}: "
            f"run {_command(table, folder)} again"
        )
    return metadata


def _command(table: Table, folder: Path) -> str:
    """Return the command that makes the file.

    Some files in WORK/windows/NAME are made by jobs that run on WORK.
    """
    job, work = table.made_by, folder
    if folder.parent.name == "windows" and job in ("jobs.prepare", "jobs.windows", "jobs.rank"):
        job, work = job.replace("prepare", "windows"), folder.parent.parent
    return f"python -m {job} --work {work}"


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def write(table: Table, folder: Path, data: pa.Table) -> None:
    """Write a whole file of the contract, atomically; columns are cast to the declared types."""
    with writer(table, folder) as append:
        append(data)


@contextmanager
def writer(
    table: Table, folder: Path, ids: FolderIds | None = None
) -> Iterator[Callable[[pa.Table], None]]:
    """Yield append(pa.Table), which writes a file piece by piece; the file appears at the end.

    The text ids are those of the folder, unless others are given.
    """
    ids = text_ids.of(folder) if ids is None else ids
    texts = _text_columns(table, ids)
    if not texts:
        with (
            atomic(folder / table.file) as path,
            pq.ParquetWriter(path, table.schema, compression="zstd") as out,
        ):
            yield lambda data: out.write_table(data.select(table.schema.names).cast(table.schema))
        return
    # Encoded by Arrow, texts are written without looking at each of them; a file's reader sees
    # plain text, since the schema of Arrow is not stored.
    encoded = pa.schema(
        pa.field(field.name, ENCODED) if field.name in texts else field for field in table.schema
    )
    with (
        atomic(folder / table.file) as path,
        pq.ParquetWriter(
            path,
            encoded,
            compression="zstd",
            store_schema=False,
            dictionary_pagesize_limit=DICTIONARY_BYTES,
            # those of texts take half of the time to write, and tell nothing: see bounds_of_groups
            write_statistics=[name for name in table.schema.names if name not in texts],
        ) as out,
    ):
        bounds: list[list[int]] = []

        def append(data: pa.Table) -> None:
            data = data.select(table.schema.names).cast(table.schema)
            for start in range(0, len(data), ROWS_A_GROUP):
                rows = data.slice(start, ROWS_A_GROUP).combine_chunks()
                first = rows[0]
                bounds.append([first[0].as_py(), first[-1].as_py()])
                for name in texts:
                    known = ids.of_column(name)
                    assert known is not None
                    column = known.written(rows[name].combine_chunks())
                    place = rows.schema.get_field_index(name)
                    rows = rows.set_column(place, encoded.field(name), column)
                out.write_table(rows, row_group_size=ROWS_A_GROUP)

        yield append
        if table.order[0] == table.schema.names[0]:  # see bounds_of_groups
            out.add_key_value_metadata({BOUNDS: json.dumps(bounds)})


def bounds_of_groups(metadata: pq.FileMetaData) -> list[list[int]] | None:
    """Return the first and last number of each row group of a file with text ids, by its footer.

    The texts themselves are in the order of their numbers, so their own bounds tell nothing. None
    if the file has no text ids.
    """
    found = (metadata.metadata or {}).get(BOUNDS)
    return None if found is None else json.loads(found)
