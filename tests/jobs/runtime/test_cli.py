"""How jobs end where something around them fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("more", [[], ["--help"]])
@pytest.mark.parametrize("job", ["jobs.summary", "jobs.top_popular", "jobs"])
def test_a_job_whose_output_nobody_reads_ends_with_one_line(job, more, finished):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", job, "--work", finished, *more],
        env=os.environ | {"PYTHONUNBUFFERED": ""},  # with it, some argparse hide the error
        cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    line = f"{job.removeprefix('jobs.')}: stopped, since the program that reads its output ended\n"
    assert (done.returncode, done.stderr) == (1, line)
