"""Keep the bad rows with the reason for each, and stop the job if there are too many."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.contract.ids import TEXT
from jobs.contract.storage import JobError
from jobs.data import id_columns, raw_files
from jobs.data.cleaning import REASONS


def stop_if_bad(bad: np.ndarray, options: argparse.Namespace) -> None:
    """Raise JobError if no row is usable or more rows are bad than --max-bad-share allows."""
    path, n, n_bad = options.data / raw_files.INTERACTIONS, len(bad), np.count_nonzero(bad)
    if n == 0:
        raise JobError(f"{path} holds no rows: add the listens")
    counts = [np.count_nonzero(bad == code) for code in range(len(REASONS) if n_bad else 0)]
    found = "; ".join(
        f"{count:,} where {REASONS[code]} (first in row {np.argmax(bad == code)})"
        for code, count in enumerate(counts)
        if code and count
    )
    hint = _hint_at_text(bad, options) if n_bad else ""
    if n_bad == n:
        raise JobError(f"{path} holds no usable listen in {n:,} rows: {found}{hint}")
    if n_bad > options.max_bad_share * n:
        raise JobError(
            f"{path}: {n_bad:,} of {n:,} rows ({n_bad / n:.1%}) are bad, {found}. "
            f"Correct them, or allow more than {options.max_bad_share:g} with --max-bad-share{hint}"
        )


def _hint_at_text(bad: np.ndarray, options: argparse.Namespace) -> str:
    """Return how to have text ids, if there are bad rows for want of that."""
    asked = {"user_id": options.user_ids, "track_id": options.track_ids}
    hints = [
        f"{option} text"
        for column, option in id_columns.OPTIONS.items()
        if asked[column] != TEXT and any((bad == code).any() for code in _codes_of_text(column))
    ]
    return f"; if these ids are text, pass {' '.join(hints)}" if hints else ""


def _codes_of_text(column: str) -> list[int]:
    flaws = [raw_files.ID_FLAWS[flaw - 1] for flaw in id_columns.NOT_INTEGER]
    return [REASONS.index(f"{column} {flaw}") for flaw in flaws]


def bad_rows(path: Path, codes: np.ndarray) -> Iterator[pa.Table]:
    """Yield the bad rows of a file, those with a code (n,), as rows of the quarantine."""
    if not codes.any():
        return
    end = 0
    reasons = pa.array(REASONS)
    for batch in raw_files.batches(path):
        start, end = end, end + len(batch)
        rows = np.flatnonzero(codes[start:end])
        if rows.size == 0:
            continue
        columns = {
            "file": pa.repeat(path.name, len(rows)),
            "row": start + rows,
            "reason": reasons.take(pa.array(codes[start + rows])),
            "content": json_lines(batch.take(pa.array(rows))),
        }
        yield pa.table(columns)


def json_lines(batch: pa.RecordBatch) -> list[str]:
    """Return each row (n,) of a batch as a JSON object."""
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
