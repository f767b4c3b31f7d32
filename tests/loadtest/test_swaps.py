"""The harness that swaps releases under load."""

import subprocess
import sys

import pytest

from tests.support.server import ROOT


@pytest.mark.parametrize("kind", [[], ["--text-ids"]], ids=["integer", "text"])
def test_swaps_under_load_fail_no_request_and_mix_no_answer(kind):
    sizes = ["--users", "300", "--tracks", "4000", "--swaps", "10", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.swaps", *sizes, *kind],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 swaps, 4 of them to broken releases or to one of another kind: 0 had" in done.stdout
    assert "10 users forgotten between swaps; 0 users with wrong events" in done.stdout
    assert "answers: 0 failed, 0 mixed releases" in done.stdout
