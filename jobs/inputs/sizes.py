"""Estimate how many rows the inputs have, before they are read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.contract.storage import JobError
from jobs.inputs import files
from jobs.inputs.csv_files import layout
from jobs.inputs.files import CSV, PARQUET, Input, Part, Reading
from jobs.inputs.lines import number_of_lines


def rows(source: Input) -> int:
    """Return the rows of an input: those of parquet exactly, others by the length of first lines.

    Raises what reading a part raises.
    """
    return sum(
        int(pq.read_metadata(part.path).num_rows)
        if part.form == PARQUET
        else max(0, number_of_lines(part) - _has_header(part, source.reading))
        for part in source.parts
    )


def _has_header(part: Part, reading: Reading) -> bool:
    """Return whether the first line of a part has the names of the columns."""
    if part.form != CSV:
        return False
    found = layout(part, reading, [*reading.columns.values()])
    return found is not None and found.header


def rows_in(data: Path, kind: str) -> int:
    """Return the rows of an input in a folder; 0 if it can't be read (the job itself says why)."""
    try:
        source = files.find(data, kind)
        return rows(source) if source else 0
    except (JobError, OSError, pa.ArrowException):
        return 0


def rows_of_file(path: Path) -> int:
    """Return the rows of a file of listens; 0 if it can't be read (the job itself says why)."""
    try:
        return rows(files.at(path, files.INTERACTIONS))
    except (JobError, OSError, pa.ArrowException):
        return 0
