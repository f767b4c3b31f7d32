"""Keep the bad rows with the reason for each, and stop the job if there are too many."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from jobs.contract.ids import TEXT
from jobs.contract.storage import JobError
from jobs.data import id_columns, raw_files
from jobs.data.cleaning import REASONS
from jobs.inputs.files import Input
from jobs.inputs.lines import BAD_LINE


def stop_if_bad(
    source: Input, bad: np.ndarray, max_bad_share: float, asked: Sequence[str] = ()
) -> None:
    """Raise JobError if no row (n,) is usable or more rows are bad than --max-bad-share allows.

    `asked` are the values of --user-ids and --track-ids.
    """
    path, n, n_bad = source.path, len(bad), np.count_nonzero(bad)
    if n_bad <= max_bad_share * n and n_bad < n:
        return
    if n == 0:
        raise JobError(f"{path} holds no rows: add the listens")
    counts = [np.count_nonzero(bad == code) for code in range(len(REASONS))]
    reasons = reasons_of(source)
    found = "; ".join(
        f"{count:,} where {reasons[code]} (first in "
        f"{raw_files.row_name(source, int(np.argmax(bad == code)))})"
        for code, count in enumerate(counts)
        if code and count
    )
    hint = _hint_at_text(bad, asked) + _hint_at_dates(bad) + _hint_at_unit(bad, source.reading.unit)
    if n_bad == n:
        raise JobError(f"{path} holds no usable listen in {n:,} rows: {found}{hint}")
    raise JobError(
        f"{path}: {n_bad:,} of {n:,} rows ({n_bad / n:.1%}) are bad, {found}. "
        f"Correct them, or allow more than {max_bad_share:g} with --max-bad-share{hint}"
    )


def _hint_at_text(bad: np.ndarray, asked: Sequence[str]) -> str:
    """Return how to have text ids, if there are bad rows for want of that."""
    hints = [
        f"{option} text"
        for (column, option), kind in zip(id_columns.OPTIONS.items(), asked, strict=False)
        if kind != TEXT and np.isin(bad, _codes_of_text(column)).any()
    ]
    return f"; if these ids are text, pass {' '.join(hints)}" if hints else ""


def _hint_at_unit(bad: np.ndarray, unit: str | None) -> str:
    """Return that --time-unit may be wrong, if it puts most times where they cannot be."""
    where = bad == REASONS.index("started_at is not between 1970 and 2099")
    if unit is None or np.mean(where) < 0.5:
        return ""
    others = " or ".join(one for one in ("s", "ms", "us") if one != unit)
    return f"; perhaps the times count in another unit: pass --time-unit {others}"


def _hint_at_dates(bad: np.ndarray) -> str:
    """Return how times are written, if there are rows whose time can't be read."""
    found = np.any(bad == REASONS.index("started_at is not a date"))
    return "; write times as 2024-01-31 or 2024-01-31T18:30:00" if found else ""


def _codes_of_text(column: str) -> list[int]:
    flaws = [raw_files.ID_FLAWS[flaw - 1] for flaw in id_columns.NOT_INTEGER]
    return [REASONS.index(f"{column} {flaw}") for flaw in flaws]


def reasons_of(source: Input) -> list[str]:
    """Return why rows of an input are bad, by their codes."""
    return [reason.replace("tracks.parquet", source.tracks) for reason in REASONS]


def bad_rows(source: Input, codes: np.ndarray) -> Iterator[pa.Table]:
    """Yield the bad rows of an input, those with a code (n,), as rows of the quarantine.

    Their numbers are those in the part of the input that they are in.
    """
    if not codes.any():
        return
    current, first, end = source.parts[0], 0, 0
    reasons = pa.array(reasons_of(source))
    for part, batch in raw_files.batches_of_parts(source):
        start, end = end, end + len(batch)
        if part is not current:
            current, first = part, start
        rows = np.flatnonzero(codes[start:end])
        if rows.size == 0:
            continue
        columns = {
            "file": pa.repeat(part.name, len(rows)),
            "row": start - first + rows,
            "reason": reasons.take(pa.array(codes[start + rows])),
            "content": json_lines(batch.take(pa.array(rows))),
        }
        yield pa.table(columns)


def json_lines(batch: pa.RecordBatch) -> list[str]:
    """Return each row (n,) of a batch as a JSON object, and a line that is no row as it is."""
    if BAD_LINE in batch.schema.names:
        lines = batch[BAD_LINE].to_pylist()
        readable = json_lines(batch.drop_columns([BAD_LINE]))
        return [row if line is None else line for line, row in zip(lines, readable, strict=True)]
    columns = [  # pandas does not know some time zones, and some years only in UTC
        column.cast(pa.timestamp(column.type.unit, "UTC"))
        if pa.types.is_timestamp(column.type) and column.type.tz
        else column
        for column in batch.columns
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    frame = batch.to_pandas(integer_object_nulls=True, date_as_object=False)
    text = frame.to_json(orient="records", lines=True, force_ascii=False, date_format="iso")
    return str(text).replace("\\/", "/").removesuffix("\n").split("\n")
