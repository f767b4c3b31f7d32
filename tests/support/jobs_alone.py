"""Every job of a finished folder once more: alone, in another process, with other threads.

    python -m tests.support.jobs_alone FINISHED SAMPLE OUT THREADS

Each job gets a folder OUT/<its name> with nothing in it but the files that up_to_date.FILES says
it reads, copied from FINISHED. What it says goes to OUT/<its name>.txt, an error too.
"""

import contextlib
import os
import shutil
import sys
import traceback
from pathlib import Path

from jobs.runtime import up_to_date
from jobs.runtime.up_to_date import Task
from tests.support.workspace import BY_TIME, LISTS, NOW, run

OTHERS = [name for name in up_to_date.FILES if name not in (*LISTS, "sample_data")]
JOBS = [  # with the folder that each works in; the windows are like one another
    *((job, ".") for job in OTHERS),
    *((job, place) for place in (".", "windows/train") for job in LISTS),
]


def task(job: str, folder: Path, sample: Path) -> Task:
    """Return a job in a folder, without options."""
    return Task(job, folder, sample, (), ())


def files(task: Task, patterns: list[Path]) -> set[Path]:
    """Return the files in a job's folder that some patterns name, seen from there."""
    return {Path(name) for name in task.state(patterns) if not Path(name).is_absolute()}


def name_of(job: str, place: str) -> str:
    """Return the name of a job's own folder."""
    return f"{job} in {place}".replace("/", "_")


def run_alone(job: str, place: str, finished: Path, sample: Path, out: Path) -> None:
    """Copy what a job reads into its own folder, and run it there."""
    folder = out / name_of(job, place)
    before = task(job, finished / place, sample)
    for path in files(before, before.reads()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(finished / place / path, folder / path)
    with (
        folder.with_suffix(".txt").open("w") as text,
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(text),
    ):
        try:
            options = {"prepare": ("--data", sample, "--now", NOW), "windows": BY_TIME}
            run(job, folder, *options.get(job, ()))
        except Exception:
            traceback.print_exc()


def main(finished: str, sample: str, out: str, threads: str) -> None:
    """Run all jobs, each alone."""
    os.cpu_count = lambda: int(threads)
    for job, place in JOBS:
        run_alone(job, place, Path(finished), Path(sample), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
