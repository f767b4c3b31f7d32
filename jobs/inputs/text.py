"""Read CSV and JSON lines as Arrow batches, in little memory, whatever stands in them.

All columns of CSV are text, so that 007 stays 007. A line that can't be read as a row becomes a row
of nulls that has the line itself in the column BAD_LINE, so that the quarantine can show it.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv as pacsv

from jobs.contract.storage import JobError
from jobs.inputs.files import Part, Reading

BAD_LINE = "unreadable line"
LONGEST_LINE = 1 << 20  # bytes; a line that is longer than two times this is always refused
BLOCK = 4 << 20  # bytes that are read at a time
FIRST_ROWS = 1 << 16  # bytes that are looked at to find out how a file is written
SHOWN = 1000  # characters of an unreadable line that are kept
FREE_BYTES, MOST_RATIO = 1 << 30, 200  # a packed file may unpack to the larger of the two
DELIMITERS = (",", ";", "\t", "|", "\x01")  # Hive writes the last one
UTF16 = (b"\xff\xfe", b"\xfe\xff")
NO_NAME = r"\s*|-?\d+(\.\d+)?|\d{4}-\d\d?-\d\d?([ T].*)?"  # what can't be the name of a column
JsonValue = int | float | str | list[int | float | str | None] | None  # a line with others is bad


class Unpacked(io.RawIOBase):
    """The bytes of a part, unpacked. Reading raises JobError beyond the bounds of this module."""

    def __init__(self, part: Part) -> None:
        """Open the file of a part."""
        self.part, self.lines, self.size = part, 0, 0
        self.has_quotes, self.last = False, b"\n"  # whether a " was read, and the last byte
        self._file = pa.OSFile(str(part.path))
        self._raw = pa.CompressedInputStream(self._file, part.packed) if part.packed else self._file
        most = max(FREE_BYTES, MOST_RATIO * part.path.stat().st_size)
        self._most = most if part.packed else None

    def readable(self) -> bool:
        """Return True, as io asks."""
        return True

    def packed_bytes(self) -> int:
        """Return how many bytes of the file itself have been read."""
        return int(self._file.tell())

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or BLOCK bytes; fewer at the end."""
        wanted, pieces = BLOCK if size < 0 else size, []
        while wanted and (piece := self._raw.read(min(wanted, LONGEST_LINE))):
            self._check(piece)
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def _check(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._most and self.size > self._most:
            raise JobError(
                f"{self.part.path} unpacks to more than {self._most:,} bytes, which is over "
                f"{MOST_RATIO} times its size: if that is right, unpack it yourself"
            )
        ends = piece.count(b"\n")
        if not ends and len(piece) == LONGEST_LINE:
            raise JobError(
                f"{self.part.path}: line {self.lines + 1:,} is longer than {LONGEST_LINE:,} bytes: "
                f"is it {self.part.form}?"
            )
        self.lines += ends
        self.last = piece[-1:]
        self.has_quotes = self.has_quotes or b'"' in piece

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
        self._file.close()
        super().close()


def first_lines(part: Part) -> list[str]:
    """Return the first lines of a part that are not empty. Raises JobError if they are not text."""
    with Unpacked(part) as file:
        content = file.read(FIRST_ROWS)
        ended = not file.read(1)
    if content.startswith(UTF16):
        raise JobError(f"{part.path} is in UTF-16: save it as UTF-8")
    if b"\0" in content:
        raise JobError(f"{part.path} has bytes that are no text: is it {part.form}?")
    if not ended:
        content = content[: content.rfind(b"\n") + 1] or content
    lines = content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").split("\n")
    return [line for line in lines if line]


def number_of_lines(part: Part) -> int:
    """Return about how many lines a part has, by its size and the bytes of the first BLOCK."""
    size = part.path.stat().st_size
    with Unpacked(part) as file:
        content = file.read()
        share = (file.packed_bytes() if part.packed else file.size) / max(1, size)
        ended = len(content) < BLOCK
        return file.lines + (file.last != b"\n") if ended else int(file.lines / share)


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
    lines = first_lines(part)
    if not lines:
        return None

    def fit(delimiter: str) -> tuple[int, int, int]:
        first, *others = (len(row) for row in csv.reader(lines[:20], delimiter=delimiter))
        known = len({*_values(lines[0], delimiter)} & {*wanted})
        equal = sum(n == first for n in others) if first > 1 else 0
        return known, equal, first

    delimiter = reading.delimiter or max(DELIMITERS, key=fit)
    first = _values(lines[0], delimiter)
    header = reading.header and (
        bool({*first} & {*wanted}) or not any(re.fullmatch(NO_NAME, value) for value in first)
    )
    names = first if header else [str(i + 1) for i in range(len(first))]
    return Layout(tuple(names), delimiter, header, len(lines) > header)


def _values(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


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
                block_size=BLOCK,
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
            yield _with_unreadable(decoded, [(i - end, text) for i, text in unreadable[:n]])
            end += len(batch) + n
            del unreadable[:n]
        if unreadable:
            nothing = pa.record_batch([pa.array([], pa.string())] * len(columns), [*columns])
            yield _with_unreadable(nothing, [(i - end, text) for i, text in unreadable])
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
    return _with_unreadable(pa.RecordBatch.from_arrays(arrays, schema=schema), unreadable)


def _with_unreadable(batch: pa.RecordBatch, lines: Sequence[tuple[int, str]]) -> pa.RecordBatch:
    """Return a batch with a row more for each unreadable line, at the place that it has then.

    >>> batch = pa.record_batch({"user_id": ["1", "2"]})
    >>> _with_unreadable(batch, [(1, "x,y,z")]).to_pydict()
    {'user_id': ['1', None, '2'], 'unreadable line': [None, 'x,y,z', None]}
    """
    if not lines:
        return batch
    texts: list[str | None] = [None] * (len(batch) + len(lines))
    for place, text in lines:
        texts[place] = text[:SHOWN]
    rows = iter(range(len(batch)))
    index = pa.array([None if text is not None else next(rows) for text in texts], pa.int64())
    wider = batch.take(index)
    if BAD_LINE in batch.schema.names:  # those of _decoded stay beside the others
        old = wider[BAD_LINE].to_pylist()
        texts = [
            text if text is not None else before for text, before in zip(texts, old, strict=True)
        ]
        wider = wider.drop_columns([BAD_LINE])
    return wider.append_column(BAD_LINE, pa.array(texts, pa.string()))


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
    for block in _whole_lines(part):
        unreadable: list[tuple[int, str]] = []
        try:
            rows = decoder.decode_lines(block)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            rows = _one_by_one(decoder, block, unreadable)
        arrays = [_array([getattr(row, place) for row in rows]) for place in places]
        yield _with_unreadable(pa.RecordBatch.from_arrays(arrays, names=[*columns]), unreadable)


def lines_of(part: Part) -> Iterator[list[bytes]]:
    """Yield the lines of a part that are not blank, block by block."""
    for block in _whole_lines(part):
        yield [line for line in block.split(b"\n") if line.strip()]


def _whole_lines(part: Part) -> Iterator[bytes]:
    """Yield the bytes of a part in blocks that end with a line."""
    rest = b""
    with Unpacked(part) as file:
        while block := file.read():
            if file.size == len(block):
                block = block.removeprefix(b"\xef\xbb\xbf")
            end = block.rfind(b"\n") + 1
            if end:
                yield rest + block[:end]
            rest = block[end:] if end else rest + block
    if rest.strip():
        yield rest


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
