"""How the scripts of loadtest end where something around them fails."""

import os
import subprocess
import sys

import pytest

from tests.support.server import ROOT

SCRIPTS = sorted(p.stem for p in (ROOT / "loadtest").glob("*.py") if "__main__" in p.read_text())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_whose_output_nobody_reads_ends_with_one_line(name):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", f"loadtest.{name}", "--help"],
        env=os.environ | {"PYTHONUNBUFFERED": ""},  # with it, some argparse hide the error
        cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    line = f"{name}: stopped, since the program that reads its output ended\n"
    assert (done.returncode, done.stderr) == (1, line)
