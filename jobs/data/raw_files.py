"""Read the user's three files: their columns, and how each type of values is converted.

Values are numpy arrays, together with flaws (n,) uint8: 0 where a value is good, otherwise 1 + the
position of its flaw in ID_FLAWS or TIME_FLAWS.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.contract.names import MAX_ID
from jobs.contract.ragged import row_of_each
from jobs.contract.storage import JobError

TRACKS, NAMES, INTERACTIONS = "tracks.parquet", "catalog_names.parquet", "interactions.parquet"
JOURNAL_SEQ = "journal_seq"  # of events of the service, as in tables.EVENTS
COLUMNS = {
    TRACKS: {"track_id": "id", "artists": "ids", "genres": "ids"},
    NAMES: {"id": "id", "type": "text", "name": "text"},
    INTERACTIONS: {
        "user_id": "id", "track_id": "id", "started_at": "time", "track_seq": "id",
        JOURNAL_SEQ: "id",
    },
}  # fmt: skip


OPTIONAL = {"track_seq", JOURNAL_SEQ}
BATCH = 1 << 20  # rows read at a time
NAME_TYPES = ("track", "album", "artist", "genre")
ID_FLAWS = (
    "is missing", "is not a whole number", "is negative", "is over 2^53 - 1",
    "is a text other than the plain digits of a whole number, as 7",
    "is empty", "is longer than 256 bytes", "has a control character",
)  # fmt: skip
TIME_FLAWS = (
    "is missing", "is not a date", "is not between 1970 and 2099",
    "is a number as text: convert it, as in pd.to_datetime(numbers, unit='s')",
)  # fmt: skip
MISSING, UNREADABLE, NEGATIVE, TOO_LARGE, OTHER_TEXT = 1, 2, 3, 4, 5
EMPTY, TOO_LONG, CONTROL = 6, 7, 8  # of an id where ids are text
OUT_OF_RANGE, NUMBER_TEXT = 3, 4  # of a time; MISSING and UNREADABLE are the same for times
PLAIN_NUMBER = r"^-?(0|[1-9]\d{0,39})$"  # so that 7, 007 and 7.0 can't be one id and three
EXPECTED = {
    "id": "whole numbers",
    "ids": "lists of whole numbers",
    "text": "text",
    "time": "dates (numbers are ambiguous: convert them, as in pd.to_datetime(numbers, unit='s'))",
}


TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a timestamp's unit, in a second
NUMBER = r"^-?\d+(\.\d+)?$"
LAST_SECOND = 4_102_444_800  # 2100-01-01
EXACT = {pa.float16(): 2**11, pa.float32(): 2**24}  # whole numbers of a float are exact up to here


def check(path: Path) -> list[str]:
    """Return the columns of an input file to read. Raises JobError if they can't be read.

    A file with any other name is checked as interactions.
    """
    schema, wanted = _schema(path), COLUMNS.get(path.name, COLUMNS[INTERACTIONS])
    missing = [name for name in wanted if name not in schema.names and name not in OPTIONAL]
    if missing:
        raise JobError(
            f"{path} has no column {', '.join(missing)}: found "
            f"{', '.join(schema.names) or 'none'}{_likely(missing, schema.names)}"
        )
    columns = [name for name in wanted if name in schema.names]
    for name in columns:
        if (count := schema.names.count(name)) > 1:
            raise JobError(f"{path} has {count} columns {name}: keep one of them")
        if not _readable(schema.field(name).type, wanted[name]):
            raise JobError(
                f"{path}: {name} is {schema.field(name).type}, expected {EXPECTED[wanted[name]]}"
            )
    return columns


def batches(path: Path, encoded: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """Read the wanted columns of an input file, at most BATCH rows at a time, in file order.

    Text in the `encoded` columns comes with each different text once, which is faster.
    """
    columns = check(path)
    try:
        # as nanoseconds, times of the type INT96 after 2262 would wrap around to other dates
        with pq.ParquetFile(
            path,
            memory_map=True,
            coerce_int96_timestamp_unit="us",
            read_dictionary=[*encoded] or None,
        ) as file:
            for batch in file.iter_batches(BATCH, columns=columns):
                yield _checked(batch)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from None


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with bytes and views of text as text; ArrowInvalid if it is not UTF-8."""
    batch = batch.cast(pa.schema([field.with_type(_stored(field.type)) for field in batch.schema]))
    batch.validate(full=True)
    return batch


def _stored(dtype: pa.DataType) -> pa.DataType:
    """Return the type to hold a column in: few functions work on views and bytes of text."""
    if dtype in (pa.string_view(), pa.binary(), pa.large_binary()):
        return pa.large_string()
    if _is_list(dtype) and _stored(dtype.value_type) != dtype.value_type:
        return pa.large_list(_stored(dtype.value_type))
    return dtype


def table(path: Path) -> dict[str, pa.Array]:
    """Read the wanted columns of an input file, each whole."""
    columns = check(path)
    parts = list(batches(path)) or [pa.record_batch([[]] * len(columns), names=columns)]
    whole = pa.Table.from_batches(parts).unify_dictionaries()
    return {name: whole[name].combine_chunks() for name in columns}


def n_rows(path: Path) -> int:
    """Return the number of rows of an input file, from its footer."""
    return int(pq.read_metadata(path).num_rows)


def _schema(path: Path) -> pa.Schema:
    if not path.parent.is_dir():
        raise JobError(f"{path.parent} is not a folder: give --data one with {', '.join(COLUMNS)}")
    if path.is_dir():
        raise JobError(f"{path} is a folder: join its parts into one parquet file")
    if not path.is_file():
        found = ", ".join(sorted(other.name for other in path.parent.iterdir())[:10])
        raise JobError(f"{path} is missing: add it; its folder has {found or 'nothing'}")
    if path.stat().st_size == 0:
        raise JobError(f"{path} is empty (0 bytes): write it again as parquet")
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: Exception) -> JobError:
    reason = str(error).splitlines()[0][:200]
    return JobError(f"{path} can't be read as parquet ({reason}): copy or write it again")


def _likely(missing: list[str], names: list[str]) -> str:
    """Return a hint at columns whose names look like the missing ones."""
    lower = {name.lower(): name for name in names}
    close = {name: difflib.get_close_matches(name, lower, 1, 0.5) for name in missing}
    hints = [f"rename {lower[match[0]]} to {name}" for name, match in close.items() if match]
    return f"; perhaps {', '.join(hints)}" if hints else ""


def _readable(dtype: pa.DataType, kind: str) -> bool:
    """Return whether a column of this type can hold what is expected."""
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    if pa.types.is_null(dtype):
        return True
    if kind == "ids":
        return _is_list(dtype) and _readable(dtype.value_type, "id")
    if kind == "time":
        return is_text(dtype) or pa.types.is_date(dtype) or pa.types.is_timestamp(dtype)
    number = pa.types.is_integer(dtype) or pa.types.is_floating(dtype)
    uuid = kind == "id" and is_uuid(dtype)
    return is_text(dtype) or number or pa.types.is_decimal(dtype) or uuid


def is_uuid(dtype: pa.DataType) -> bool:
    """Return whether a type is that of UUIDs, or of 16 bytes, which readers make of it."""
    return bool(dtype in (pa.uuid(), pa.binary(16)))


def is_text(dtype: pa.DataType) -> bool:
    """Return whether a type is one of text, also as bytes or as a view."""
    return _stored(dtype) in (pa.string(), pa.large_string())


def _is_list(dtype: pa.DataType) -> bool:
    return any(
        test(dtype)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_fixed_size_list,
            pa.types.is_list_view,
        )
    )


def ids(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return whole numbers 0 … 2^53 - 1 of any number or text type: int64 and ID_FLAWS, (n,).

    A text is an id only in its plain form: 7, but not 007, +7 or 7.0, which may be other ids.
    """
    column = _plain(column)
    if is_uuid(column.type):
        flaws = np.where(column.is_valid().to_numpy(zero_copy_only=False), OTHER_TEXT, MISSING)
        return np.zeros(len(column), np.int64), flaws.astype(np.uint8)
    limit = EXACT.get(column.type, MAX_ID)
    if not is_text(column.type) and not pa.types.is_integer(column.type):
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    other_text = np.zeros(len(column), bool)
    if is_text(column.type):
        column = _matching(column, PLAIN_NUMBER)
        other_text = present & column.is_null().to_numpy(zero_copy_only=False)
        column = column.cast(pa.float64())
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    flaws = np.zeros(len(values), np.uint8)
    flaws[values > limit] = TOO_LARGE
    flaws[values < 0] = NEGATIVE
    if values.dtype == np.float64:
        flaws[~np.isfinite(values) | (values != np.trunc(values))] = UNREADABLE
    flaws[other_text] = OTHER_TEXT
    flaws[~present] = MISSING
    return np.where(flaws == 0, values, 0).astype(np.int64), flaws


def times(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return dates and ISO text as int64 microseconds since 1970 in UTC, and TIME_FLAWS, (n,).

    A time without a time zone counts as UTC.
    """
    column = _plain(column)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    number_text = np.zeros(len(column), bool)
    if is_text(column.type):
        number_text = _matching(column, NUMBER).is_valid().to_numpy(zero_copy_only=False)
        column = _parsed(column)
    if pa.types.is_date(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.timestamp("ms"))
    readable = column.is_valid().to_numpy(zero_copy_only=False)
    ticks = TICKS[column.type.unit]
    values = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    flaws = np.zeros(len(values), np.uint8)
    flaws[(values < 0) | (values >= LAST_SECOND * ticks)] = OUT_OF_RANGE
    flaws[~readable] = UNREADABLE
    flaws[~readable & number_text] = NUMBER_TEXT
    flaws[~present] = MISSING
    values = np.where(flaws == 0, values, 0)
    return (values // 1000 if ticks == 10**9 else values * (10**6 // ticks)), flaws


def id_lists(
    column: pa.Array, read: Callable[[pa.Array], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lists of ids, flat, and the row of each: two int64 (m,). Bad ids are left out.

    `read` returns the numbers and flaws of ids, as `ids` does. The third array has the rows of
    those that were left out, but for missing values.
    """
    if pa.types.is_null(column.type):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    values, flaws = read(pc.list_flatten(column))
    row = row_of_each(lengths)
    return values[flaws == 0], row[flaws == 0], row[flaws > MISSING]


def text(column: pa.Array) -> pa.Array:
    """Return text without white space around it; empty text becomes null."""
    trimmed = pc.utf8_trim_whitespace(_plain(column).cast(pa.large_string()))
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _matching(column: pa.Array, pattern: str) -> pa.Array:
    """Return text without space around it, null where it doesn't match the pattern."""
    column = text(column)
    return pc.if_else(pc.match_substring_regex(column, pattern), column, None)


def _parsed(column: pa.Array) -> pa.Array:
    """Return ISO text as timestamps, null where it is no date; equal texts are parsed once."""
    encoded = _matching(column, r"^\d").dictionary_encode()  # pandas would read "now" as well
    texts = encoded.dictionary.to_pandas()
    parsed = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True)
    return pa.array(parsed.astype("datetime64[us, UTC]")).take(encoded.indices)
