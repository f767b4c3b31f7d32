"""Read CSV as Arrow batches. All columns are text, so that 007 stays 007."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from jobs.inputs import lines
from jobs.inputs.files import Part, Reading
from jobs.inputs.lines import Unpacked, first_lines, with_bad_lines

DELIMITERS = (",", ";", "\t", "|", "\x01")  # Hive writes the last one
NO_NAME = r"\s*|-?\d+(\.\d+)?|\d{4}-\d\d?-\d\d?([ T].*)?"  # what can't be the name of a column


@dataclass(frozen=True)
class Layout:
    """How a CSV part is written."""

    names: tuple[str, ...]  # of its columns; 1, 2, 3 and so on where it has no header
    delimiter: str
    header: bool
    has_rows: bool = True
    quotes: bool = True  # whether a value may stand in quotes


def layout(part: Part, reading: Reading, wanted: Sequence[str]) -> Layout | None:
    """Return how a CSV part is written, None if it has no line. `wanted` are names of columns.

    The delimiter is the one by which the first line has most wanted names, else the one by which
    most of the first lines have as many values as the first, else the one that is there most often.
    """
    first_rows = first_lines(part)
    if not first_rows:
        return None

    def fit(delimiter: str) -> tuple[int, int, int]:
        first, *others = (len(row) for row in csv.reader(first_rows[:20], delimiter=delimiter))
        known = len({*_values(first_rows[0], delimiter)} & {*wanted})
        equal = sum(n == first for n in others) if first > 1 else 0
        return known, equal, first

    delimiter = reading.delimiter or max(DELIMITERS, key=fit)
    first = _values(first_rows[0], delimiter)
    header = reading.header and (
        bool({*first} & {*wanted}) or not any(re.fullmatch(NO_NAME, value) for value in first)
    )
    names = first if header else [str(i + 1) for i in range(len(first))]
    return Layout(tuple(names), delimiter, header, len(first_rows) > header)


def _values(line: str, delimiter: str) -> list[str]:
    return [value.strip() for value in next(csv.reader([line], delimiter=delimiter), [])]


def csv_batches(
    part: Part, found: Layout, columns: Sequence[str], notes: dict[str, str]
) -> Iterator[pa.RecordBatch]:
    """Yield these columns of a CSV part as text. An empty value is null.

    A note by the part's name is added where a quote may not be closed.
    """
    if not found.has_rows:
        return
    places = [str(found.names.index(name)) for name in columns]
    unreadable: list[tuple[int, str]] = []  # rows with another number of values, by place

    def keep(row: Any) -> str:
        unreadable.append((row.number - 1 - found.header, row.text))
        return "skip"

    end = 0
    with Unpacked(part) as file:
        batches = pacsv.open_csv(
            pa.PythonFile(file, "r"),
            pacsv.ReadOptions(
                use_threads=False,  # otherwise `keep` would not be told the number of a row
                block_size=lines.BLOCK,
                column_names=[str(i) for i in range(len(found.names))],
                skip_rows=int(found.header),
            ),
            pacsv.ParseOptions(
                delimiter=found.delimiter,
                quote_char='"' if found.quotes else False,
                newlines_in_values=found.quotes,
                invalid_row_handler=keep,
            ),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.binary()),
                include_columns=places,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        for batch in batches:
            decoded = _decoded(batch.rename_columns(list(columns)))
            # The handler may be ahead of the batches: take what comes before the batch's last row.
            n = 0
            while n < len(unreadable) and unreadable[n][0] < end + len(batch) + n:
                n += 1
            yield with_bad_lines(decoded, [(i - end, text) for i, text in unreadable[:n]])
            end += len(batch) + n
            del unreadable[:n]
        if unreadable:
            nothing = pa.record_batch([pa.array([], pa.string())] * len(columns), [*columns])
            yield with_bad_lines(nothing, [(i - end, text) for i, text in unreadable])
            end += len(unreadable)
        more = file.lines + (file.last != b"\n") - found.header - end
        if found.quotes and file.has_quotes and more > 0:
            notes[part.name] = (
                f"{part.path} has {more:,} lines more than rows: they are blank, or inside a value "
                "in quotes; if neither is so, a quote is not closed and hides rows"
            )


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of bytes as text; a row with bytes that are not UTF-8 becomes unreadable."""
    schema = pa.schema([(name, pa.string()) for name in batch.schema.names])
    try:
        return batch.cast(schema)
    except pa.ArrowInvalid:
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    kept: list[tuple[str | None, ...]] = []
    unreadable = []
    for i, row in enumerate(rows):
        try:
            kept.append(tuple(value and value.decode() for value in row))
        except UnicodeDecodeError:
            texts = (value.decode(errors="backslashreplace") for value in row if value)
            unreadable.append((i, ",".join(texts)))
    columns = list(zip(*kept, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, pa.string()) for column in columns]
    return with_bad_lines(pa.RecordBatch.from_arrays(arrays, schema=schema), unreadable)
