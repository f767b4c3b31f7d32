"""The harness that swaps releases under load."""

import subprocess
import sys

from tests.support.server import ROOT


def test_swaps_under_load_fail_no_request_and_mix_no_answer():
    sizes = ["--users", "300", "--tracks", "4000", "--swaps", "10", "--seconds", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.swaps", *sizes],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 swaps, 4 of them to broken releases: 0 had the wrong outcome" in done.stdout
    assert "answers: 0 failed, 0 mixed releases" in done.stdout
