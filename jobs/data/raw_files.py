"""Read the user's inputs as batches, and convert each type of values.

raw_columns.py has which columns there are; jobs.inputs knows which files an input has, and reads
CSV and JSON lines.

Values are numpy arrays, together with flaws (n,) uint8: 0 where a value is good, otherwise 1 + the
position of its flaw in ID_FLAWS or TIME_FLAWS.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.contract.names import MAX_ID
from jobs.contract.ragged import row_of_each
from jobs.data.raw_columns import (
    broken,
    check,
    columns_of,
    is_list,
    is_number,
    is_text,
    is_uuid,
    layout_of,
    names_in_files,
    schema_of_file,
    stored,
)
from jobs.inputs.csv_files import csv_batches
from jobs.inputs.files import CSV, PARQUET, Input, Part
from jobs.inputs.json_files import json_batches
from jobs.inputs.lines import BAD_LINE

BATCH = 1 << 20  # rows read at a time
BATCH_OF_TEXT = BATCH // 2  # the same, where ids are text that stands in each row
LARGE_GROUP = BATCH // 4  # rows from which on a row group of parquet is large
ENCODED_BYTES = 8  # a row: a column whose row groups have each text once takes less, uncompressed
LEAST_SAMPLED, SAMPLED_GROUPS = 100, 8  # rows of a part, and row groups of a part, in a sample
HEX_DIGITS = np.frombuffer(bytes(range(256)).hex().encode(), "S2").view(np.uint16)  # of each byte
NAME_TYPES = ("track", "album", "artist", "genre")
ID_FLAWS = (
    "is missing", "is not a whole number", "is negative", "is over 2^53 - 1",
    "is a text other than the plain digits of a whole number, as 7",
    "is empty", "is longer than 256 bytes", "has a control character",
)  # fmt: skip
TIME_FLAWS = (
    "is missing", "is not a date", "is not between 1970 and 2099",
    "is a number as text: pass --time-unit s, ms or us",
)  # fmt: skip
MISSING, UNREADABLE, NEGATIVE, TOO_LARGE, OTHER_TEXT = 1, 2, 3, 4, 5
EMPTY, TOO_LONG, CONTROL = 6, 7, 8  # of an id where ids are text
OUT_OF_RANGE, NUMBER_TEXT = 3, 4  # of a time; MISSING and UNREADABLE are the same for times
BETWEEN_IDS = r"\s*[|;,]\s*"  # in a text that stands for a list
BETWEEN_NAMES = r"\s*[|;]\s*"  # names have commas in them
# A value of a list in brackets: in quotes, after which a comma may be missing, or up to a comma.
LISTED = re.compile(
    r"""\s*(?:'((?:[^'\\]|\\.)*)'(?=\s*(?:[,'"]|$)),?|"((?:[^"\\]|\\.)*)"(?=\s*(?:[,'"]|$)),?|"""
    r"""([^\s,][^,]*),?)"""
)
NO_VALUE = ("NULL", "null", "None")  # without quotes in such a list: a value is missing
PLAIN_NUMBER = r"^-?(0|[1-9]\d{0,39})$"  # so that 7, 007 and 7.0 can't be one id and three
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a timestamp's unit, in a second
NUMBER = r"^-?\d+(\.\d+)?$"
ANY_NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?$"
LAST_SECOND = 4_102_444_800  # 2100-01-01
EXACT = {pa.float16(): 2**11, pa.float32(): 2**24}  # whole numbers of a float are exact up to here


def batches(
    source: Input, only: list[str] | None = None, encoded: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Read the wanted columns of an input, at most BATCH rows at a time, in the order of rows.

    Reads only some of them if `only` names these. Text of the `encoded` columns comes with each
    different text once where a file has it so, which is faster. A batch with lines that are no rows
    has the column BAD_LINE too.
    """
    return (batch for _, batch in batches_of_parts(source, only, encoded))


def batches_of_parts(
    source: Input, only: list[str] | None = None, encoded: Sequence[str] = ()
) -> Iterator[tuple[Part, pa.RecordBatch]]:
    """Yield what `batches` reads, with the part that each batch is of."""
    columns = [name for name in check(source) if only is None or name in only]
    for part in source.parts:
        schema = schema_of_file(source, part)
        if schema is None:
            continue
        try:
            names = _in_file(source, columns, schema)
            texts = [
                called for called in map(names_in_files(source).get, encoded) if called in names
            ]
            for batch in _batches_of_file(source, part, names, texts):
                whole = _wanted(source, part, batch, columns)
                for start in range(0, len(whole), BATCH):
                    yield part, whole.slice(start, BATCH)
        except (pa.ArrowException, OSError) as error:
            raise broken(part, error) from None


class Sample(NamedTuple):
    """Some rows of a part."""

    part: Part
    first: int  # the number of the first of them, in the part
    batch: pa.RecordBatch


def sample(source: Input, n: int) -> Iterator[Sample]:
    """Yield about n rows of an input, as many of each part, and at least LEAST_SAMPLED of it.

    These are the first rows of a text, and the first of SAMPLED_GROUPS row groups of parquet.
    """
    columns = check(source)
    wanted = max(LEAST_SAMPLED, n // len(source.parts))
    for part in source.parts:
        schema = schema_of_file(source, part)
        if schema is None:
            continue
        try:
            for first, batch in _sampled(source, part, _in_file(source, columns, schema), wanted):
                yield Sample(part, first, _wanted(source, part, batch, columns))
        except (pa.ArrowException, OSError) as error:
            raise broken(part, error) from None


def _sampled(
    source: Input, part: Part, names: list[str], n: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield rows of a part with the number of the first of them."""
    if part.form != PARQUET:
        first = 0
        for batch in _batches_of_file(source, part, names):
            yield first, batch.slice(0, n - first)
            first += len(batch)
            if first >= n:
                break
        return
    with _parquet(part) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        count = min(SAMPLED_GROUPS, len(sizes))
        for group in np.unique(np.linspace(0, len(sizes) - 1, count).astype(int)).tolist():
            for batch in file.iter_batches(max(1, n // count), row_groups=[group], columns=names):
                yield sum(sizes[:group]), batch
                break


def _in_file(source: Input, columns: list[str], schema: pa.Schema) -> list[str]:
    """Return the names of the wanted columns that the file itself has."""
    called = names_in_files(source)
    return list(dict.fromkeys(called[name] for name in columns if called[name] in schema.names))


def _parquet(part: Part, encoded: Sequence[str | None] = ()) -> pq.ParquetFile:
    # as nanoseconds, times of the type INT96 after 2262 would wrap around to other dates
    return pq.ParquetFile(
        part.path,
        memory_map=True,
        coerce_int96_timestamp_unit="us",
        read_dictionary=[*encoded] or None,
    )


def _stored_once(part: Part, names: Sequence[str | None]) -> list[str]:
    """Return the columns of text whose row groups, if these are large, have each text once.

    Such a column takes few bytes a row. Any other one is read as it stands: Arrow would make one
    dictionary of the BATCH rows that it reads, and give all of it again with each small row group.
    """
    metadata = pq.read_metadata(part.path)
    if metadata.num_rows < LARGE_GROUP * metadata.num_row_groups:
        return []
    places = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    sizes = {
        name: sum(
            metadata.row_group(group).column(places[name]).total_uncompressed_size
            for group in range(metadata.num_row_groups)
        )
        for name in names
        if name is not None and name in places
    }
    return [name for name, size in sizes.items() if size < ENCODED_BYTES * metadata.num_rows]


def _batches_of_file(
    source: Input, part: Part, names: list[str], encoded: Sequence[str | None] = ()
) -> Iterator[pa.RecordBatch]:
    """Yield these columns of a file, by the names that they have there."""
    if part.form == PARQUET:
        once = _stored_once(part, encoded) if encoded else []
        rows = BATCH if len(once) == len(encoded) else BATCH_OF_TEXT
        with _parquet(part, once) as file:
            yield from file.iter_batches(rows, columns=names)
    elif part.form == CSV:
        layout = layout_of(source, part)
        if layout:
            yield from csv_batches(part, layout, names, source.notes)
    else:
        yield from json_batches(part, names)


def _wanted(source: Input, part: Part, batch: pa.RecordBatch, columns: list[str]) -> pa.RecordBatch:
    """Return a batch of a file with the wanted columns by their own names, in types that we read.

    Bytes and views of text become text, and text with several values a list. Raises ArrowInvalid
    if text is not UTF-8.
    """
    called, keys = names_in_files(source), dict(part.keys)
    arrays = {
        name: batch[called[name]]
        if called[name] in batch.schema.names
        else pa.repeat(pa.scalar(keys[called[name]]), len(batch))
        for name in columns
    }
    arrays = {n: uuid_texts(a) if is_uuid(a.type) else a for n, a in arrays.items()}
    if BAD_LINE in batch.schema.names:
        arrays[BAD_LINE] = batch[BAD_LINE]
    batch = pa.RecordBatch.from_arrays([*arrays.values()], names=[*arrays])
    batch = batch.cast(pa.schema([field.with_type(stored(field.type)) for field in batch.schema]))
    batch.validate(full=True)
    what = columns_of(source.kind)
    for i, name in enumerate(batch.schema.names):
        if what.get(name) in ("ids", "texts") and is_text(_plain(batch[name]).type):
            between = BETWEEN_IDS if what[name] == "ids" else BETWEEN_NAMES
            batch = batch.set_column(i, name, _split(batch[name], between))
    return batch


def _split(column: pa.Array, between: str) -> pa.Array:
    """Return text with several values as lists: a list in brackets, or values between signs.

    >>> texts = ["rock|pop", '["a;b"]', "['x' 'y']", "AC, DC", " ", None, "[Pink Floyd, 'AC, DC']"]
    >>> _split(pa.array(texts), BETWEEN_NAMES).to_pylist()
    [['rock', 'pop'], ['a;b'], ['x', 'y'], ['AC, DC'], None, None, ['Pink Floyd', 'AC, DC']]
    """
    column = text(column)
    if not pc.any(pc.starts_with(column, "[")).as_py():
        return pc.split_pattern_regex(column, between)
    values = [value and _values(value, between) for value in column.to_pylist()]
    return pa.array(values, pa.large_list(pa.large_string()))


def _values(value: str, between: str) -> list[str | None]:
    r"""Return the values of a text, which may be a list of JSON, Python, numpy or DuckDB.

    >>> _values("['it\\'s', Pink Floyd, NULL, null, '']", BETWEEN_NAMES)
    ["it's", 'Pink Floyd', None, None, '']
    >>> _values("[12 7]", BETWEEN_IDS), _values("[Various] Artists", BETWEEN_NAMES)
    (['12', '7'], ['[Various] Artists'])
    """
    value = value.rstrip()
    if not (value.startswith("[") and value.endswith("]")):
        return [*re.split(between, value)]
    try:
        found = msgspec.json.decode(value, type=list[str | int | None])
        return [each if each is None else str(each) for each in found]
    except msgspec.MsgspecError:
        inside = value[1:-1].strip()
    if re.fullmatch(r"[\d.\s]+", inside):  # numbers, as numpy writes them
        return [*inside.split()]
    pieces: list[str | None] = []
    for single, double, bare in LISTED.findall(inside):
        plain = bare.rstrip()
        quoted = re.sub(r"""\\(['"\\])""", r"\1", single or double)
        pieces.append((None if plain in NO_VALUE else plain) if bare else quoted)
    return pieces


def table(source: Input) -> dict[str, pa.Array]:
    """Read the wanted columns of an input, each whole, and BAD_LINE, null where a row is one."""
    if source.given is not None:
        return {BAD_LINE: pa.nulls(len(next(iter(source.given.values())))), **source.given}
    columns = [*check(source), BAD_LINE]
    pieces: dict[str, list[pa.Array]] = {name: [] for name in columns}
    for batch in batches(source):
        for name in columns:
            known = name in batch.schema.names
            pieces[name].append(batch[name] if known else pa.nulls(len(batch)))
    return {name: joined(arrays) for name, arrays in pieces.items()}


def joined(arrays: list[pa.Array]) -> pa.Array:
    """Return arrays one after the other, in a type that holds the values of all of them."""
    types = {array.type for array in arrays}
    if len(types) > 1:
        arrays = [array.cast(_common(types)) for array in map(_plain, arrays)]
    return pa.chunked_array(arrays or [pa.nulls(0)]).unify_dictionaries().combine_chunks()


def _common(types: set[pa.DataType]) -> pa.DataType:
    """Return a type for the values of several types: text, if these are numbers and text.

    >>> str(_common({pa.int64(), pa.string()})), str(_common({pa.null(), pa.float64()}))
    ('large_string', 'double')
    """
    types = {t.value_type if pa.types.is_dictionary(t) else t for t in types} - {pa.null()}
    if len(types) == 1:
        return types.pop()
    if types and all(map(is_list, types)):
        return pa.large_list(_common({t.value_type for t in types}))
    if types and all(pa.types.is_integer(t) or pa.types.is_floating(t) for t in types):
        return pa.int64() if all(map(pa.types.is_signed_integer, types)) else pa.float64()
    return pa.large_string()


def row_name(source: Input, row: int) -> str:
    """Return what messages call a row of an input: its number, in its part if there are several."""
    if len(source.parts) < 2:
        return f"row {row:,}"
    current, first, end = source.parts[0], 0, 0
    for part, batch in batches_of_parts(source):
        if part is not current:
            current, first = part, end
        end += len(batch)
        if row < end:
            break
    return f"row {row - first:,} of {current.name}"


def uuid_texts(values: pa.Array) -> pa.DictionaryArray:
    """Return UUIDs as text, as in 123e4567-e89b-12d3-a456-426614174000, each different one once."""
    raw = values.storage if isinstance(values, pa.ExtensionArray) else values
    encoded = raw.dictionary_encode()
    n = len(encoded.dictionary)
    of_uuids = np.frombuffer(encoded.dictionary.buffers()[1] or b"", np.uint8, 16 * n)
    digits = HEX_DIGITS[of_uuids].view(np.uint8).reshape(n, 32)
    texts = np.full((n, 36), ord("-"), np.uint8)
    for dashes, (start, end) in enumerate(pairwise((0, 8, 12, 16, 20, 32))):
        texts[:, start + dashes : end + dashes] = digits[:, start:end]
    offsets = pa.py_buffer(np.arange(0, 36 * n + 1, 36))
    dictionary = pa.LargeStringArray.from_buffers(n, offsets, pa.py_buffer(texts))
    return pa.DictionaryArray.from_arrays(encoded.indices, dictionary)


def ids(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return whole numbers 0 … 2^53 - 1 of any number or text type: int64 and ID_FLAWS, (n,).

    A text is an id only in its plain form: 7, but not 007, +7 or 7.0, which may be other ids.
    """
    column = _plain(column)
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


def numbers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of any number or text type: float64, and flaws MISSING or UNREADABLE, (n,).

    Those with a flaw are NaN.

    >>> [array.tolist() for array in numbers(pa.array(["1", " .5 ", "2e3", "x", None]))]
    [[1.0, 0.5, 2000.0, nan, nan], [0, 0, 0, 2, 1]]
    """
    column = _plain(column)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    if is_text(column.type):
        present = text(column).is_valid().to_numpy(zero_copy_only=False)
        column = _matching(column, ANY_NUMBER)
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
    flaws = np.where(np.isfinite(values), 0, UNREADABLE).astype(np.uint8)
    if not is_text(column.type):
        flaws[np.isnan(values)] = MISSING  # as pandas writes missing numbers
    flaws[~present] = MISSING
    values[flaws > 0] = np.nan
    return values, flaws


def times(
    column: pa.Array, unit: str | None = None, origin: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return dates and ISO text as int64 microseconds since 1970 in UTC, and TIME_FLAWS, (n,).

    A time without a time zone counts as UTC. With a unit of TICKS, numbers and text that is a
    number are times too, counted in this unit from `origin`, in microseconds since 1970.
    """
    column = _plain(column)
    if unit and is_number(column.type):
        return _counted(column, unit, origin)
    if unit and is_text(column.type):
        numbers = _matching(column, NUMBER)
        numeric = numbers.is_valid().to_numpy(zero_copy_only=False)
        if numeric.any():
            counted = _counted(numbers.cast(pa.float64()), unit, origin)
            others = times(pc.if_else(pa.array(numeric), None, column))
            values, flaws = (np.where(numeric, *both) for both in zip(counted, others, strict=True))
            return values, flaws
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


def _counted(column: pa.Array, unit: str, origin: int) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers that count in a unit from `origin` as `times` does.

    >>> [array.tolist() for array in _counted(pa.array([-1, 5, None]), "s", 1_000_000)]
    [[0, 6000000, 0], [0, 0, 1]]
    """
    if not pa.types.is_integer(column.type):
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), None, column)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    microseconds = 10**6 // TICKS[unit]
    first, end = -(origin // microseconds), -((origin - LAST_SECOND * 10**6) // microseconds)
    flaws = np.zeros(len(values), np.uint8)
    flaws[(values < first) | (values >= end)] = OUT_OF_RANGE
    flaws[~present] = MISSING
    values = np.where(flaws == 0, values, 0)
    scaled = np.rint(values * float(microseconds)) if values.dtype.kind == "f" else values
    whole = scaled.astype(np.int64) * (1 if values.dtype.kind == "f" else microseconds)
    return np.where(flaws == 0, whole + origin, 0), flaws


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
