"""Which kinds of processors computed what a job made, if there were several.

Sums are rounded in another way by another kernel of the BLAS or by other vector instructions. A run
on a cluster may mix them only with --mixed-processors. The record of each job (see up_to_date.py)
then names the kinds, and so does the manifest of a release that is made from such files.

Only the standard library is imported here, as in all modules that decide what has to run.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jobs.runtime.up_to_date import DONE

MIXED_PROCESSORS = "--mixed-processors"


class Processor(NamedTuple):
    """Where two processes have the same of both, sums are rounded in the same way."""

    vector_instructions: str  # as "avx, avx2, fma", for which libraries have kernels of their own
    blas_kernel: str  # as "openblas SkylakeX", of the BLAS libraries that are loaded


_mixed: set[Processor] = set()


def note(kinds: Iterable[Processor]) -> None:
    """Note the kinds that computed something together in this job."""
    kinds = {*kinds}
    if len(kinds) > 1:
        _mixed.update(kinds)


def noted() -> list[Processor]:
    """Return the kinds that this job has mixed, sorted; an empty list if it has mixed none."""
    return sorted(_mixed)


def of_files(work: Path) -> list[Processor]:
    """Return the kinds that were mixed for the files of WORK and its windows, sorted.

    A record counts as long as one of the files that it names is there.
    """
    kinds: set[Processor] = set()
    for folder, record in _records(work):
        if any((folder / name).exists() for name in record.get("made", ())):
            kinds.update(Processor(**kind) for kind in record.get("mixed_processors", ()))
    return sorted(kinds)


def _records(work: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folder and the record of each job but publish, whose files are the releases."""
    for folder in (work, *sorted((work / "windows").glob("*"))):
        for path in sorted((folder / DONE).glob("*.json")):
            if path.stem == "publish":
                continue
            try:
                yield folder, json.loads(path.read_text())
            except ValueError:
                continue  # a damaged record is none, and its job runs again


def in_words(kinds: Iterable[Processor]) -> str:
    """Return what tells kinds of processors apart.

    >>> in_words([Processor("avx, avx2", "openblas Haswell"), Processor("avx", "openblas Zen")])
    'openblas Zen; openblas Haswell with avx2'
    """
    each = [(kind, {*kind.vector_instructions.split(", ")}) for kind in sorted(kinds)]
    everywhere = set.intersection(*(instructions for _, instructions in each))
    return "; ".join(
        f"{kind.blas_kernel} with {', '.join(sorted(own))}" if own else kind.blas_kernel
        for kind, own in ((kind, instructions - everywhere) for kind, instructions in each)
    )
