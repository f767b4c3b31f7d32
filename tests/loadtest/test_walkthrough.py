"""The walk through a running service, with names."""

import subprocess
import sys

from jobs.contract.names import CURRENT, RELEASES
from tests.support.server import ROOT, free_port, litestar_run


def walk(*options):
    command = [sys.executable, "-m", "loadtest.walkthrough", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_prints_calls_answers_and_names(finished, tmp_path):
    key = "a-key-for-every-call"
    keys = {"ADMIN_KEY": key, "READ_KEY": f"{key}-that-reads"}
    work = tmp_path / "work"
    work.mkdir()
    (work / RELEASES).symlink_to(finished / RELEASES)
    (work / CURRENT).symlink_to((finished / CURRENT).readlink())
    with litestar_run(work, STATE=str(tmp_path), **keys) as running:
        done = walk("--url", running.url, "--key", key)
        refused = walk("--url", running.url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "679169 - [Thunderstruck] [AC/DC]" in lines
    assert lines.count("{'result': 'ok'}") == 6
    assert "{'events': []}" in lines
    assert "{'events': [38646012, 19152669, 646516, 630670, 679169, 679169]}" in lines
    assert "{'request_personal_count': 1, 'request_default_count': 1}" in lines
    assert sum(line.startswith("online rec track name:  ['") for line in lines) == 8
    assert sum(line.startswith("online rec artist name:  ['") for line in lines) == 8
    assert refused.returncode == 1
    assert refused.stderr.startswith("POST /recommendations: 401 ")


def test_it_says_when_no_service_answers():
    done = walk("--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "no answer of a running service" in done.stderr and "Traceback" not in done.stderr
