"""A job reads and makes the files that are named, and makes them the same wherever it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.jobs_alone import JOBS, files, name_of, task

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def alone(shared, finished, sample):
    """The folders in which jobs ran alone, in another process with another number of threads."""
    threads = 1 if os.cpu_count() != 1 else 2
    command = [sys.executable, "-m", "tests.support.jobs_alone", finished, sample]
    return shared(
        "alone",
        lambda folder: subprocess.run([*command, folder, str(threads)], cwd=ROOT, check=True),
    )


def made_by(job: str, place: str, alone: Path, sample: Path) -> tuple[Path, set[Path]]:
    """A job's own folder, and what the job is said to make, as it stands there."""
    run = task(job, alone / name_of(job, place), sample)
    made = files(run, run.makes())
    assert made, run.folder.with_suffix(".txt").read_text()
    return run.folder, made


@pytest.mark.parametrize(("job", "place"), JOBS)
def test_a_job_needs_no_file_and_makes_no_file_but_those_that_are_named(
    job, place, alone, finished, sample
):
    folder, made = made_by(job, place, alone, sample)
    before = task(job, finished / place, sample)
    read = files(before, before.reads())
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    behind_links = {path for path in there if (folder / path).resolve() != (folder / path)}
    assert there - made - behind_links == read
    for path in read:
        assert (folder / path).read_bytes() == (finished / place / path).read_bytes()


@pytest.mark.parametrize(("job", "place"), JOBS)
def test_in_another_process_with_another_number_of_threads_a_job_makes_the_same_bytes(
    job, place, alone, finished, sample
):
    folder, made = made_by(job, place, alone, sample)
    for path in made:
        same = finished / place / path
        if same.exists():  # a release has a name of its own, and is not there
            assert (folder / path).read_bytes() == same.read_bytes(), path
