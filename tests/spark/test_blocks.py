"""Blocks on a cluster give what threads give, also where processes are killed or blocks fail."""

import gc
import os
import signal
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from jobs.contract import compiling
from jobs.contract.storage import JobError
from jobs.models import als_training
from jobs.models.hyperparameters import Hyperparameters
from jobs.runtime import engine, parallel
from jobs.runtime.engine import FOLDER, in_blocks
from jobs.runtime.mapped_pickle import SMALLEST
from tests.spark.conftest import HOW_TO_INSTALL
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("session")
LARGE = np.arange(100_000) * 0.1
LARGE_ENOUGH = 2 * SMALLEST  # to have a file of its own


def part_of_large(first: int, last: int) -> tuple[str, np.ndarray]:
    return f"{first} to {last}", LARGE[first:last] ** 2


@pytest.mark.parametrize("size", [999, 50_000])
def test_blocks_come_in_order_and_are_those_of_threads(size):
    expected = [*parallel.in_blocks(part_of_large, len(LARGE), size, None)]
    found = [*in_blocks(part_of_large, len(LARGE), size, None)]
    assert [name for name, _ in found] == [name for name, _ in expected]
    for (_, block), (_, of_threads) in zip(found, expected, strict=True):
        assert block.tobytes() == of_threads.tobytes()


def test_blocks_are_computed_by_other_processes():
    own = os.getpid()
    processes = {*in_blocks(lambda *_: os.getpid(), 8, 1, None)}
    assert processes and own not in processes


def test_a_killed_process_is_no_loss(tmp_path):
    killed = tmp_path / "killed"

    def work(first: int, last: int) -> int:
        if first == 2 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return first * last

    assert [*in_blocks(work, 6, 1, None)] == [n * (n + 1) for n in range(6)]
    assert killed.exists()


def test_a_problem_that_the_user_can_fix_ends_the_job_with_its_text():
    def work(first: int, last: int) -> int:
        if first == 3:
            raise JobError("similar.parquet is missing: run python -m jobs.similar")
        return first

    with pytest.raises(
        JobError, match=r"^similar\.parquet is missing: run python -m jobs\.similar$"
    ):
        [*in_blocks(work, 6, 1, "a job")]


def test_any_other_error_is_named_once_the_attempts_are_used_up():
    with pytest.raises(JobError, match=r"could not compute a job.*ZeroDivisionError.*spark\.log"):
        [*in_blocks(lambda first, _: 1 // first, 4, 1, "a job")]


def test_who_wants_no_more_blocks_leaves_nothing_behind(work, tmp_path):
    def slow(first: int, _: int) -> int:
        (tmp_path / f"{first}").touch()
        time.sleep(0.05)
        return first

    blocks = in_blocks(slow, 400, 1, None)
    assert next(blocks) == 0
    blocks.close()
    wait_until(lambda: not [*(work / FOLDER).glob("*/results-*")])
    time.sleep(1)
    seen = len([*tmp_path.iterdir()])
    time.sleep(1)
    assert seen == len([*tmp_path.iterdir()]) < 400  # the cluster has stopped


def test_jobs_side_by_side_keep_their_arrays_apart(work, monkeypatch):
    """A job removes arrays that its earlier calls used, but not the same ones of another job."""
    shared, rng = np.arange(LARGE_ENOUGH), np.random.default_rng(2)

    def become_job(number: int) -> None:
        monkeypatch.setattr(engine, "_own_folder", work / FOLDER / f"job-{number}")
        monkeypatch.setattr(engine, "_arrays_of_calls", deque())
        engine._own_folder.mkdir()

    def slow(first: int, _: int) -> int:
        time.sleep(0.2)
        return int(shared[first])

    become_job(1)
    blocks = in_blocks(slow, 8, 1, None)
    assert next(blocks) == 0
    become_job(2)
    for array in (shared, *(rng.random(LARGE_ENOUGH) for _ in range(3))):
        found = in_blocks(lambda first, last, of=array: float(of[first:last].sum()), 4, 1, None)
        assert [*found] == [float(array[i]) for i in range(4)]
    assert [*blocks] == [*range(1, 8)]


def test_collections_of_garbage_leave_libraries_out_but_free_old_arrays():
    def look(first: int, of: np.ndarray) -> tuple[int, int]:
        assert of[first] >= 0
        return gc.get_freeze_count(), Path("/proc/self/maps").read_text().count(".array")

    rng = np.random.default_rng(3)
    for _ in range(4):
        array = rng.random(LARGE_ENOUGH)
        found = [*in_blocks(lambda first, _, of=array: look(first, of), 4, 1, None)]
    assert all(left_out > 10_000 and arrays == 1 for left_out, arrays in found)


def test_what_blocks_took_is_told(monkeypatch):
    monkeypatch.setattr(engine, "_costs", engine.Costs())
    assert engine.summary() == ""
    assert engine.record() == {}
    large = np.zeros(3 << 20, np.uint8)
    for _ in range(2):
        [*in_blocks(lambda first, last: large[first:last], len(large), 1 << 20, None)]
    assert "6 blocks on 1 host took" in engine.summary()
    told = engine.record()
    assert (told["blocks"], told["mapped_mb"], told["read_mb"]) == (6, 3, 6)
    assert told["written_mb"] > 2 * large.nbytes / 1e6


@contextmanager
def compiled(used: bool):
    compiling.use(used)
    try:
        yield
    finally:
        compiling.use(False)


@pytest.mark.parametrize("used", [False, True], ids=["implicit", "compiled"])
def test_als_gives_the_same_vectors(used, monkeypatch):
    monkeypatch.setattr(als_training, "PAIRS_A_PART", 500)
    weights = np.random.default_rng(1).poisson(0.1, (300, 80)).astype(np.float32)
    from scipy.sparse import csr_matrix

    settings = Hyperparameters(als_factors=16, als_epochs=3)
    with compiled(used), threadpool_limits(limits=1, user_api="blas"):
        found = als_training.factorise(csr_matrix(weights), settings)
        monkeypatch.setattr(als_training, "in_blocks", parallel.in_blocks)
        of_threads = als_training.factorise(csr_matrix(weights), settings)
    for vectors, expected in zip(found, of_threads, strict=True):
        assert vectors.tobytes() == expected.tobytes()


def test_the_installation_is_described_as_in_the_docs():
    docs = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    assert all(part in docs for part in HOW_TO_INSTALL.split("; "))
