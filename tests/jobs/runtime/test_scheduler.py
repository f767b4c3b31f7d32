"""jobs.run --line: jobs run as soon as their input is there, and a failure ends the run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract.names import WINDOWS
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.run import parse, read_line
from jobs.runtime.up_to_date import DONE, FILES
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workspace import save_listens

ROOT = Path(__file__).parents[3]
PLAYS = [(user, (user * 7 + day) % 9, float(day)) for user in range(6) for day in range(12)]
ARGUMENTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


def as_line(jobs: list[list[str]]) -> bytes:
    return "".join(f"{argument}\0" for job in jobs for argument in (*job, "")).encode()


def run_line(*jobs: list[str], **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "jobs.run", "--line"],
        cwd=ROOT, input=as_line([*jobs]), capture_output=True, check=False, **more,
    )  # fmt: skip


@given(st.lists(st.lists(ARGUMENTS, min_size=1)))
def test_a_line_of_jobs_is_read_as_it_was_written(jobs):
    assert read_line(as_line(jobs)) == jobs


def must_follow(job: list[str], other: list[str]) -> bool:
    return parse(job).must_follow(parse(other))


@pytest.mark.parametrize(
    ("job", "other", "waits"),
    [
        (["explore"], ["prepare", "--data", "in"], True),
        (["prepare", "--data", "data/sample"], ["sample_data", "--out", "data/sample"], True),
        (["prepare", "--data", "elsewhere"], ["sample_data", "--out", "data/sample"], False),
        (["windows"], ["explore"], False),
        (["top_popular", "--work", "data/windows/test"], ["windows"], True),
        (["top_popular", "--work", "data/windows/test"], ["tune"], True),
        (["top_popular", "--work", "data/windows/test"], ["top_popular"], False),
        (["personal_als"], ["train_als"], True),
        (["personal_als"], ["train_als", "--work", "data/windows/train"], False),
        (["train_als"], ["train_als", "--work", "data/windows/test"], True),  # starts from it
        (["train_als"], ["train_als", "--work", "data/windows/train"], False),
        (["next_played"], ["train_als"], False),
        *((["rank"], ["similar", "--work", f"data/windows/{name}"], True) for name in WINDOWS),
        (["replay"], ["evaluate"], False),
        (["publish"], ["replay"], True),
        (["publish"], ["publish"], True),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_job_waits_for_those_that_make_what_it_reads_and_for_no_other(job, other, waits):
    assert must_follow(job, other) == waits


def test_no_job_of_the_line_makes_what_an_earlier_one_reads():
    jobs = [parse([job, *(["--data", "in"] if job == "prepare" else [])]) for job in FILES]
    for place, job in enumerate(jobs):
        for earlier in jobs[:place]:
            assert not {*job.makes()} & {*earlier.reads()}


def test_jobs_that_do_not_need_each_other_run_at_the_same_time(tmp_path):
    jobs = [["train_als", "--work", str(tmp_path / name)] for name in ("one", "two")]
    for _, _, work in jobs:  # about a second each, so that the second can't start after the first
        save_listens(Path(work), PLAYS)
        hyperparameters.save(Path(work), Hyperparameters(als_epochs=1000, als_factors=256))
    assert run_line(*jobs).returncode == 0
    spans = []
    for _, _, work in jobs:
        record = json.loads(Path(work, DONE, "train_als.json").read_text())
        spans.append((record["start"], record["start"] + record["seconds"]))
        assert record["peak_mb"] > 20
        assert 0 < record["cpu_seconds"] < 60
    if (os.cpu_count() or 1) > 1:
        (_, end), (start, _) = sorted(spans)
        assert start < end
    again = run_line(*jobs)
    lines = [f"{job[0]}: nothing has changed since it ran" for job in jobs]
    assert again.stdout.decode().splitlines() == lines


def test_a_job_that_fails_ends_the_run_and_those_after_it_never_start(tmp_path):
    save_listens(tmp_path, PLAYS)
    (tmp_path / "settings.json").write_text("{}")
    jobs = ["top_popular", "personal_als", "similar", "next_played"]
    done = run_line(*([job, "--work", str(tmp_path)] for job in jobs))
    assert done.returncode == 1
    assert "personal_als: " in done.stderr.decode()
    assert "als_model.npz is missing: run python -m jobs.train_als" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert not (tmp_path / DONE / "personal_als.json").exists()
    repaired = run_line(*([job, "--work", str(tmp_path)] for job in ["train_als", *jobs]))
    assert repaired.returncode == 0


def test_files_of_a_mix_of_processors_are_made_again_unless_the_run_allows_a_mix(tmp_path):
    save_listens(tmp_path, PLAYS)
    line = as_line([["top_popular", "--work", str(tmp_path)]])
    run = [sys.executable, "-m", "jobs.run", "--line", "local", str(tmp_path)]

    def lines(*option: str) -> list[str]:
        done = subprocess.run(
            [*run, *option], cwd=ROOT, input=line, capture_output=True, check=True
        )
        return done.stdout.decode().splitlines()

    lines()
    record = tmp_path / DONE / "top_popular.json"
    kinds = [{"vector_instructions": "avx", "blas_kernel": f"openblas {name}"} for name in "AB"]
    record.write_text(json.dumps(json.loads(record.read_text()) | {"mixed_processors": kinds}))
    for _ in range(2):
        unchanged = ["top_popular: nothing has changed since it ran"]
        assert lines("--mixed-processors") == unchanged
    why, _ = lines()
    assert why == (
        "top_popular: runs again, because a mix of processors made its files, and "
        "--mixed-processors is not given"
    )
    assert lines() == unchanged


def test_a_run_by_threads_uses_no_session_that_another_run_has_left(tmp_path):
    save_listens(tmp_path, [(user, user % 9, float(user)) for user in range(1100)])
    jobs = [[name, "--work", str(tmp_path)] for name in ("train_als", "personal_als")]
    hyperparameters.save(tmp_path, Hyperparameters(als_epochs=1, als_factors=8))
    done = run_line(*jobs, env={**os.environ, "RECO_ENGINE": str(tmp_path / "no socket")})
    assert done.returncode == 0, done.stderr.decode()


KILLED = """
import os, sys
import numpy as np
from jobs.runtime import scheduler
np.savez = lambda *a, **k: os.kill(os.getpid(), 9)
from jobs import run
run.main(["--line"])
"""


def test_a_job_that_is_killed_ends_the_run_and_leaves_no_record(tmp_path):
    save_listens(tmp_path, PLAYS)
    line = as_line([["train_als", "--work", str(tmp_path)]])
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=ROOT, input=line, capture_output=True, check=False
    )
    assert done.returncode == 128 + signal.SIGKILL
    assert b"train_als was killed by SIGKILL (the memory may have run out)" in done.stderr
    assert not (tmp_path / DONE / "train_als.json").exists()
    assert run_line(["train_als", "--work", str(tmp_path)]).returncode == 0


@pytest.fixture
def running(tmp_path) -> Iterator[subprocess.Popen]:
    """A run in the middle of a job that takes long."""
    save_listens(tmp_path, [(u, u * t % 400, float(t)) for u in range(90) for t in range(100)])
    hyperparameters.save(tmp_path, Hyperparameters(als_epochs=1000, als_factors=512))
    record = tmp_path / DONE / "train_als.json"
    record.parent.mkdir()
    record.write_text("no record")  # it goes when the job begins
    with subprocess.Popen(
        [sys.executable, "-m", "jobs.run", "--line"],
        cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        process.stdin.write(as_line([["train_als", "--work", str(tmp_path)]]))
        process.stdin.close()
        wait_until(lambda: not record.exists())
        yield process
        assert not record.exists()


def group_has_ended(process: subprocess.Popen) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def ctrl_c_is_obeyed() -> None:
    """Where the tests run in the background of a script, ctrl-C is ignored, and is by children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.usefixtures("ctrl_c_is_obeyed")
def test_an_interrupted_run_ends_its_jobs_without_a_traceback(running):
    os.killpg(running.pid, signal.SIGINT)  # as ctrl-C does it, to all of the group
    assert running.wait(PATIENCE) == 130
    assert b"Traceback" not in running.stderr.read()
    wait_until(lambda: group_has_ended(running))


def test_a_run_that_is_asked_to_end_ends_its_jobs_first(running):
    running.terminate()  # only the process itself, as `timeout` does
    assert running.wait(PATIENCE) == 128 + signal.SIGTERM
    assert running.stderr.read() == b""
    wait_until(lambda: group_has_ended(running))


STOPPED_AT_THE_FORK = """
import multiprocessing.context, os, sys
start = multiprocessing.context.ForkProcess.start
def start_and_stop(process):
    start(process)
    os.kill(os.getpid(), int(sys.argv[1]))
multiprocessing.context.ForkProcess.start = start_and_stop
from jobs import run
run.main(["--line"])
"""


@pytest.mark.usefixtures("ctrl_c_is_obeyed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_end_while_it_starts_a_job_ends_that_job(tmp_path, number):
    save_listens(tmp_path, [(u, u * t % 400, float(t)) for u in range(90) for t in range(100)])
    hyperparameters.save(tmp_path, Hyperparameters(als_epochs=1000, als_factors=512))
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_AT_THE_FORK, str(int(number))],
        cwd=ROOT, input=as_line([["train_als", "--work", str(tmp_path)]]), timeout=PATIENCE,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + number
    assert done.stderr == b""
    assert not (tmp_path / DONE / "train_als.json").exists()


def test_a_summary_line_names_the_window(tmp_path):
    window = save_listens(tmp_path / "windows" / "validation", PLAYS)
    done = run_line(["top_popular", "--work", str(window)])
    assert done.stdout.decode().startswith("top_popular: window validation: 9 tracks")
