"""Read the lines of text files, packed or not, within bounds.

A line that can't be read as a row becomes a row of nulls that has the line itself in the column
BAD_LINE, so that the quarantine can show it.
"""

import io
from collections.abc import Iterator, Sequence

import pyarrow as pa

from jobs.contract.storage import JobError
from jobs.inputs.files import Part

BAD_LINE = "unreadable line"
LONGEST_LINE = 1 << 20  # bytes; a line that is longer than two times this is always refused
BLOCK = 4 << 20  # bytes that are read at a time
FIRST_ROWS = 1 << 16  # bytes that are looked at to find out how a file is written
SHOWN = 1000  # characters of an unreadable line that are kept
FREE_BYTES, MOST_RATIO = 1 << 30, 200  # a packed file may unpack to the larger of the two
UTF16 = (b"\xff\xfe", b"\xfe\xff")


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
    text = content.decode("utf-8-sig", errors="replace")
    return [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line]


def number_of_lines(part: Part) -> int:
    """Return about how many lines a part has, by its size and the bytes of the first BLOCK."""
    size = part.path.stat().st_size
    with Unpacked(part) as file:
        content = file.read()
        share = (file.packed_bytes() if part.packed else file.size) / max(1, size)
        ended = len(content) < BLOCK
        return file.lines + (file.last != b"\n") if ended else int(file.lines / share)


def lines_of(part: Part) -> Iterator[list[bytes]]:
    """Yield the lines of a part that are not blank, block by block."""
    for block in whole_lines(part):
        yield [line for line in block.split(b"\n") if line.strip()]


def whole_lines(part: Part) -> Iterator[bytes]:
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


def with_bad_lines(batch: pa.RecordBatch, lines: Sequence[tuple[int, str]]) -> pa.RecordBatch:
    """Return a batch with a row more for each unreadable line, at the place that it has then.

    >>> batch = pa.record_batch({"user_id": ["1", "2"]})
    >>> with_bad_lines(batch, [(1, "x,y,z")]).to_pydict()
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
