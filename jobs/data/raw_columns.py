"""Which columns each input has, and of which types they may be: what is checked before reading."""

import difflib

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.contract.storage import JobError
from jobs.inputs.csv_files import Layout, layout
from jobs.inputs.files import CSV, INTERACTIONS, NAMES, PARQUET, TRACKS, Input, Part
from jobs.inputs.json_files import json_schema

JOURNAL_SEQ = "journal_seq"  # of events of the service, as in tables.EVENTS
COLUMNS = {
    TRACKS: {"track_id": "id", "artists": "ids", "genres": "ids", "duration_ms": "number"},
    NAMES: {"id": "id", "type": "text", "name": "text"},
    INTERACTIONS: {
        "user_id": "id", "track_id": "id", "started_at": "time", "track_seq": "id",
        JOURNAL_SEQ: "id", "kind": "text", "played_share": "number", "played_ms": "number",
    },
}  # fmt: skip
# What columns are often called elsewhere, in lower case, to suggest --columns.
USUAL_NAMES = {
    "user_id": ("uid", "user", "userid", "user_uuid", "listener_id", "listener", "account_id", "u"),
    "track_id": ("item", "item_id", "itemid", "track", "trackid", "song_id", "song", "isrc", "i"),
    "started_at": ("ts", "timestamp", "played_at", "listened_at", "time", "datetime", "date", "t"),
}
NAMED_TRACKS = "tracks with names"  # where there is no input of names
NAMED_COLUMNS = {
    "track_id": "id", "name": "text", "artist": "texts", "artists": "texts", "genre": "texts",
    "genres": "texts", "duration_ms": "number",
}  # fmt: skip
OPTIONAL = {
    INTERACTIONS: {"track_seq", JOURNAL_SEQ, "kind", "played_share", "played_ms"},
    TRACKS: {"duration_ms"},
    NAMED_TRACKS: {*NAMED_COLUMNS} - {"track_id"},
}
EXPECTED = {
    "id": "whole numbers or text",
    "ids": "lists of whole numbers",
    "texts": "text, or lists of text",
    "text": "text",
    "number": "numbers",
    "time": "dates (numbers are ambiguous: pass --time-unit s, ms or us)",
}


def check(source: Input) -> list[str]:
    """Return the columns of an input to read, those of its first part.

    Raises JobError if they can't be read, or if a part has others of these columns than the first.
    """
    first: tuple[Part, list[str]] | None = None
    for part in source.parts:
        schema = schema_of(source, part)
        if schema is None:
            continue
        columns = _checked_columns(source, part, schema, first)
        first = first or (part, columns)
    if first is None:
        one = len(source.parts) == 1
        raise JobError(f"{source.path} is empty (0 bytes)" if one else f"{source.path} has no rows")
    return first[1]


def columns_of(kind: str) -> dict[str, str]:
    """Return the columns that are read of an input, and what each of them has."""
    return NAMED_COLUMNS if kind == NAMED_TRACKS else COLUMNS[kind]


def _checked_columns(
    source: Input, part: Part, schema: pa.Schema, first: tuple[Part, list[str]] | None
) -> list[str]:
    """Return the columns of a part to read, in the order of `schema`, which has its columns.

    `first` is the first part, with its columns.
    """
    wanted, names = columns_of(source.kind), schema.names
    optional = OPTIONAL.get(source.kind, set())
    called = {name: source.reading.columns.get(name, name) for name in wanted}
    found = [name for name in wanted if called[name] in names]
    if first and {*found} != {*first[1]}:
        name = sorted({*found} ^ {*first[1]})[0]
        has, lacks = (part, first[0]) if name in found else (first[0], part)
        raise JobError(
            f"{source.path}: {has.name} has the column {called[name]}, and {lacks.name} has not: "
            "write all parts with the same columns"
        )
    if missing := [name for name in wanted if name not in found and name not in optional]:
        raise JobError(
            f"{part.path} has no column {', '.join(called[name] for name in missing)}: found "
            f"{', '.join(names) or 'none'}{_likely(source.kind, missing, names)}"
        )
    for name in found:
        if (count := names.count(called[name])) > 1:
            raise JobError(f"{part.path} has {count} columns {called[name]}: keep one of them")
        dtype = schema.field(called[name]).type
        counted = wanted[name] == "time" and source.reading.unit and is_number(dtype)
        if not counted and not _readable(dtype, wanted[name]):
            raise JobError(
                f"{part.path}: {called[name]} is {dtype}, expected {EXPECTED[wanted[name]]}"
            )
    return sorted(found, key=lambda name: names.index(called[name]))


def schema_of(source: Input, part: Part) -> pa.Schema | None:
    """Return the names and types of a part's columns; None if it has no rows and no names."""
    schema = schema_of_file(source, part)
    if schema is None:
        return None
    for name, value in part.keys:
        if name not in schema.names:
            schema = schema.append(pa.field(name, pa.null() if value is None else pa.string()))
    return schema


def schema_of_file(source: Input, part: Part) -> pa.Schema | None:
    """Return the names and types of the columns that stand in the file of a part, as schema_of."""
    if not part.path.is_file():
        raise JobError(f"{part.path} is no file")
    if part.form == PARQUET:
        if part.path.stat().st_size == 0:
            raise JobError(f"{part.path} is empty (0 bytes): write it again as parquet")
        try:
            return pq.read_schema(part.path)
        except (pa.ArrowException, OSError) as error:
            raise broken(part, error) from None
    try:
        if part.form == CSV:
            found = layout_of(source, part)
            return found and pa.schema([(name, pa.string()) for name in found.names])
        return json_schema(part)
    except (pa.ArrowException, OSError) as error:
        raise broken(part, error) from None


def layout_of(source: Input, part: Part) -> Layout | None:
    """Return how a CSV part is written; None if it is empty."""
    return layout(part, source.reading, [*names_in_files(source).values()])


def names_in_files(source: Input) -> dict[str, str]:
    """Return what each of the wanted columns is called in the files."""
    return {name: source.reading.columns.get(name, name) for name in columns_of(source.kind)}


def describe(source: Input) -> tuple[dict[str, pa.DataType], list[str]]:
    """Return the types of the columns that are read, and the other columns' names; of one part."""
    columns = check(source)
    schema = next(s for part in source.parts if (s := schema_of(source, part)) is not None)
    called = names_in_files(source)
    used = {called[name] for name in columns}
    others = [name for name in schema.names if name not in used]
    return {name: schema.field(called[name]).type for name in columns}, others


def stored(dtype: pa.DataType) -> pa.DataType:
    """Return the type to hold a column in: few functions work on views and bytes of text."""
    if dtype in (pa.string_view(), pa.binary(), pa.large_binary()):
        return pa.large_string()
    if is_list(dtype) and stored(dtype.value_type) != dtype.value_type:
        return pa.large_list(stored(dtype.value_type))
    return dtype


def broken(part: Part, error: Exception) -> JobError:
    """Return what is said of a part that can't be read."""
    reason = str(error).splitlines()[0][:200]
    return JobError(f"{part.path} can't be read as {part.form} ({reason}): copy or write it again")


def _likely(kind: str, missing: list[str], names: list[str]) -> str:
    """Return what to do: which columns to name, where some have names like the missing ones."""
    lower = {name.lower(): name for name in names if name not in columns_of(kind)}
    kind = "tracks" if kind == NAMED_TRACKS else kind
    hints = []
    for name in missing:
        usual = [other for other in USUAL_NAMES.get(name, ()) if other in lower]
        if close := usual or difflib.get_close_matches(name, lower, 1, 0.5):
            hints.append(f"{kind}.{name}={lower.pop(close[0])}")
    if hints:
        return f"; perhaps pass --columns {','.join(hints)}"
    return f"; if it has another name, pass it, as in --columns {kind}.{missing[0]}=NAME"


def _readable(dtype: pa.DataType, kind: str) -> bool:
    """Return whether a column of this type can hold what is expected."""
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    if pa.types.is_null(dtype):
        return True
    if kind in ("ids", "texts") and not is_text(dtype):
        return is_list(dtype) and _readable(dtype.value_type, "link")
    if kind == "time":
        return is_text(dtype) or pa.types.is_date(dtype) or pa.types.is_timestamp(dtype)
    return is_text(dtype) or is_number(dtype) or (kind == "id" and is_uuid(dtype))


def is_uuid(dtype: pa.DataType) -> bool:
    """Return whether a type is that of UUIDs, or of 16 bytes, which readers make of it."""
    return bool(dtype in (pa.uuid(), pa.binary(16)))


def is_number(dtype: pa.DataType) -> bool:
    """Return whether a type is one of numbers."""
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    number = pa.types.is_integer(dtype) or pa.types.is_floating(dtype)
    return bool(number or pa.types.is_decimal(dtype))


def is_text(dtype: pa.DataType) -> bool:
    """Return whether a column of this type has text, or bytes that stand for text."""
    return stored(dtype) in (pa.string(), pa.large_string())


def is_list(dtype: pa.DataType) -> bool:
    """Return whether a type is one of lists."""
    return any(
        test(dtype)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_fixed_size_list,
            pa.types.is_list_view,
        )
    )
