"""Whether this process computes by compiled loops (see compiled) or in NumPy and SciPy.

Both give the same results, but for the rounding of ALS vectors. numba takes half a second to import
and compiled code some time to load, so compiled loops are worth it only for large data. A job's
main decides once, from the size of its folder, and everything that it calls reads it here.
"""

from pathlib import Path

from jobs.contract import tables
from jobs.contract.storage import JobError

WORTH_LISTENS = 2_000_000
_compiled = False


def set_by_size(work: Path) -> None:
    """Let this process use compiled loops from now on if the folder has WORTH_LISTENS listens."""
    try:
        use(tables.n_rows(tables.LISTENS, work) >= WORTH_LISTENS)
    except JobError:  # what is missing or damaged is reported where it is read
        use(False)


def use(compiled: bool) -> None:
    """Let this process use compiled loops from now on, or not."""
    global _compiled
    _compiled = compiled


def is_used() -> bool:
    """Return whether this process uses compiled loops."""
    return _compiled
