"""What the Python processes of a cluster run: they open a function and compute blocks by it."""

import gc
import pickle
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from threadpoolctl import threadpool_limits

from jobs.contract import compiling
from jobs.contract.storage import JobError
from jobs.runtime import mapped_pickle, parallel
from jobs.runtime.engine import BlockCost, Request, Task, result_name
from jobs.runtime.processors import MIXED_PROCESSORS, Processor
from jobs.spark.fingerprint import Fingerprint, own_processor

MEASURE_MEMORY = 0.05  # seconds
Numbered = tuple[int, tuple[int, int]]  # a block's number, and its first and last row


@dataclass
class _Opened:
    """The function that this process computes by; it stays open for the next block."""

    spec: str
    task: Task
    mapped: int  # bytes


_opened: _Opened | None = None


def compute(
    request: Request, expected: Fingerprint, blocks: Iterator[Numbered]
) -> Iterator[BlockCost | str]:
    """Compute blocks and write each result into a file; yield the costs, or what went wrong.

    Only problems that another attempt would not mend are returned. All others are raised: the
    cluster then computes the block again, maybe on another host.
    """
    for number, (first, last) in blocks:
        if differs := expected.differences(Fingerprint.own()):
            yield _cant_give_the_same(differs, expected)
            return
        parallel.set_threads(1)
        opened = _open(request.spec)
        compiling.use(opened.task.compiled)
        start = time.process_time()
        with threadpool_limits(limits=1, user_api="blas"), _Memory() as memory:
            try:
                result = opened.task.work(first, last)
            except JobError as error:
                yield str(error)
                return
            path = Path(request.results) / result_name(number)
            mapped_pickle.write(path, pickle.dumps(result, protocol=5))
        cpu = time.process_time() - start
        yield BlockCost(
            platform.node(), cpu, memory.peak >> 20, opened.mapped >> 20, own_processor()
        )


def _open(spec: str) -> _Opened:
    global _opened
    if _opened is None or _opened.spec != spec:
        _opened = None  # freed before the next one is opened
        # pyspark collects garbage after each block. That takes .06 s, nearly as long as a block of
        # ALS, unless the objects of the libraries are left out. What is opened is not left out, as
        # it could never be freed.
        gc.collect()
        gc.freeze()
        _opened = _Opened(spec, *mapped_pickle.load(Path(spec)))
    return _opened


class _Memory:
    """Measures the most memory that this process takes for itself while a block is computed."""

    def __enter__(self) -> "_Memory":
        self.peak = _private_bytes()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)
        self._thread.start()
        return self

    def _measure(self) -> None:
        while not self._end.wait(MEASURE_MEMORY):
            self.peak = max(self.peak, _private_bytes())

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.peak = max(self.peak, _private_bytes())


def _private_bytes() -> int:
    """Return the memory of this process that holds no part of a file; 0 if it isn't known."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return 0


def introduce(folder: str, nonce: str, expected: Fingerprint) -> Processor | str:
    """Return this host's processor if it sees the folder of the engine and computes as expected.

    Otherwise return what is wrong. It leaves a file in the folder, by which the driver knows that
    both see the same one.
    """
    host = platform.node()
    try:
        seen = (Path(folder) / nonce).read_text()
    except OSError:
        seen = ""
    if seen != nonce:
        return (
            f"host {host} does not see the files of {folder}: WORK must lie on a file system that "
            "all hosts mount, at the same path"
        )
    if differs := expected.differences(Fingerprint.own()):
        return _cant_give_the_same(differs, expected)
    mapped_pickle.write(Path(folder) / f"{nonce}-{uuid4().hex}", nonce.encode())
    return own_processor()


def _cant_give_the_same(differs: list[str], expected: Fingerprint) -> str:
    if expected.of_any_processor().differences(Fingerprint.own()):
        to_do = "Install the same Python, code and packages on all hosts"
    else:
        to_do = (
            f"Use hosts of one kind of processor, or pass {MIXED_PROCESSORS} if the last digits of "
            "scores may differ from those of another run"
        )
    return (
        f"host {platform.node()} can't give the same bytes as this one, because of its "
        f"{'; '.join(differs)}. {to_do}"
    )
