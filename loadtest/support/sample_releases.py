"""Make releases of random lists for load tests, and say which ids they have."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from loadtest.support.expectations import Id
from loadtest.support.server import ROOT


def make(work: Path, *options: str) -> None:
    """Make a release in WORK and let `current` point to it, by jobs.sample_release."""
    job = [sys.executable, "-m", "jobs.sample_release", "--work", str(work), *options]
    subprocess.run(job, cwd=ROOT, check=True)


def text_ids(release: Path, name: str) -> list[Id]:
    """Return the text ids of a release, in the order of the text; `name` is "user" or "track"."""
    column = pq.read_table(release / f"{name}_ids.parquet", columns=["id"])["id"]
    return sorted(column.to_pylist(), key=str)
