"""Find out, before the input is read, how much memory jobs.prepare needs, and whether it has that.

What it needs depends on the number of rows, on whether ids are text, and on whether the rows tell
how much was played. If there is too little memory for all rows, they are kept in files of WORK.
"""

import argparse
from contextlib import suppress

from jobs.contract.ids import TEXT
from jobs.contract.storage import JobError
from jobs.data import id_columns, kinds, raw_columns
from jobs.data.allocator import Allocator
from jobs.data.id_columns import AUTO
from jobs.inputs import files
from jobs.inputs.files import Input
from jobs.runtime import memory, parallel


def allocator_for(options: argparse.Namespace) -> Allocator:
    """Return what makes the arrays of all rows, in files of WORK if memory is too small for them.

    Sets the number of threads. Raises JobError if memory is too small for the rest too.
    """
    text, shares = has_text_ids(options), has_kinds(options)
    needed, limit = memory.compared(memory.of_prepare(text, shares), options)
    in_files = needed > limit
    need = memory.of_prepare(text, shares, in_files)
    parallel.set_threads(memory.check("prepare", options, need))
    if not in_files:
        return Allocator()
    print(
        f"prepare: rows are kept in temporary files of {options.work}, since {needed / 1e9:.1f} GB "
        f"of memory would be needed for them, and there are {limit / 1e9:.1f} GB",
        flush=True,
    )
    return Allocator(options.work)


def has_text_ids(options: argparse.Namespace) -> bool:
    """Return whether ids of users or tracks are text, as far as it can be known beforehand."""
    asked = [options.user_ids, options.track_ids]
    kept = id_columns.kept_kinds(options.work)
    found = [id_columns.asked_kind(*pair) for pair in zip(asked, kept or (None, None), strict=True)]
    if AUTO in found:
        with suppress(JobError):  # what reads them later says why they can't be read
            source, _ = interactions_of(options)
            found += [
                id_columns.likely_kind(source, options.max_bad_share, column)
                for column, kind in zip(id_columns.OPTIONS, found, strict=True)
                if kind == AUTO
            ]
    return TEXT in found


def has_kinds(options: argparse.Namespace) -> bool:
    """Return whether the interactions have a column kind, played_share or played_ms.

    False where they can't be read: what reads them later says why.
    """
    with suppress(JobError):
        _, columns = interactions_of(options)
        return not columns.isdisjoint(kinds.COLUMNS)
    return False


def interactions_of(options: argparse.Namespace) -> tuple[Input, set[str]]:
    """Return the interactions and the columns that they have; JobError if they can't be read."""
    kind = files.INTERACTIONS
    source = files.required(options.data, kind, options.readings[kind])
    return source, {*raw_columns.check(source)}
