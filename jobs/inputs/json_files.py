"""Read JSON lines as Arrow batches."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from jobs.contract.storage import JobError
from jobs.inputs.files import Part
from jobs.inputs.lines import first_lines, whole_lines, with_bad_lines

JsonValue = int | float | str | list[int | float | str | None] | None  # a line with others is bad


def json_schema(part: Part) -> pa.Schema | None:
    """Return the names and types of the values in the first lines of JSON; None without a line."""
    lines = first_lines(part)
    if not lines:
        return None
    columns: dict[str, list[Any]] = {}
    for line in lines:
        try:
            row = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError:
            continue
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    if not columns:
        array = "one JSON array" if lines[0].lstrip().startswith("[") else "no JSON object"
        raise JobError(
            f"{part.path} begins with {array}: write one JSON object on each line, as pandas does "
            "with to_json(orient='records', lines=True)"
        )
    return pa.schema([(name, _array(values).type) for name, values in columns.items()])


def json_batches(part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield these columns of a part of JSON lines, as numbers, text, or lists of them.

    A value that is missing is null. A column that holds numbers and text becomes text.
    """
    places = [f"column{i}" for i in range(len(columns))]
    row_type = msgspec.defstruct(
        "Row",
        [(place, JsonValue, None) for place in places],
        rename=dict(zip(places, columns, strict=True)),
        gc=False,
    )
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row_type)
    for block in whole_lines(part):
        unreadable: list[tuple[int, str]] = []
        try:
            rows = decoder.decode_lines(block)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            rows = _one_by_one(decoder, block, unreadable)
        arrays = [_array([getattr(row, place) for row in rows]) for place in places]
        yield with_bad_lines(pa.RecordBatch.from_arrays(arrays, names=[*columns]), unreadable)


def _one_by_one(
    decoder: "msgspec.json.Decoder[Any]", block: bytes, unreadable: list[tuple[int, str]]
) -> list[Any]:
    """Return the rows of the lines that can be read; the others are added to `unreadable`."""
    rows: list[Any] = []
    for line in block.split(b"\n"):
        try:
            if line.strip():
                rows.append(decoder.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            text = line.decode(errors="backslashreplace").strip()
            unreadable.append((len(rows) + len(unreadable), text))
    return rows


def _array(values: list[Any]) -> pa.Array:
    """Return values of JSON as an array: of numbers, text or lists, or all as text if they differ.

    >>> _array([1, None, "007", [2, "x"]]).to_pylist()
    ['1', None, '007', '[2,"x"]']
    """
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([value if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # as in other lines, where it has no .0
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
