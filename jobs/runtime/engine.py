"""Work on blocks of rows by the engine of the run: threads of this process, or a cluster.

A job gives a function of a range of rows and gets the results in order, whatever the engine is. On
a cluster (see jobs/spark) the function is saved with all arrays that it uses in the folder of the
engine, which all hosts see; processes of the hosts open it, compute blocks, and write each result
into a file; and the job reads these files in order. The results are the same bytes.

A function may only return its result: arrays of the job that it changed would be changed in a copy
on a cluster.
"""

import multiprocessing.connection
import os
import pickle
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from jobs.contract import compiling
from jobs.contract.storage import JobError
from jobs.runtime import mapped_pickle, parallel, processors
from jobs.runtime.cluster import ADDRESS
from jobs.runtime.processors import Processor
from jobs.runtime.progress import progress_bar

T = TypeVar("T")
FOLDER = ".engine.tmp"  # in WORK, for what goes to and from a cluster; run_all.sh removes old ones
LOOK_FOR_RESULTS = 0.01  # seconds
CALLS_KEPT = 2  # calls whose arrays stay on disk, as the next one may use them again


@dataclass(frozen=True)
class Welcome:
    """What the session of a cluster tells a job first."""

    folder: str  # of the engine
    processor: Processor  # of this host


@dataclass(frozen=True)
class Request:
    """What a job asks of the session of a cluster."""

    spec: str  # the file with the Task
    results: str  # the folder of the results
    ranges: Sequence[tuple[int, int]]  # of rows, one for each block
    name: str  # for the session's own display


@dataclass(frozen=True)
class Task:
    """A function of a block of rows, with the state of the process that it needs."""

    work: Callable[[int, int], Any]
    compiled: bool  # whether it computes by compiled loops


@dataclass(frozen=True)
class BlockCost:
    """What a block took on its host."""

    host: str
    cpu_seconds: float
    private_mb: int  # the most memory of the process that it shares with no other
    mapped_mb: int  # arrays that are in memory once for all processes of the host
    processor: Processor


@dataclass
class Costs:
    """What all blocks of this job took on a cluster."""

    blocks: int = 0
    hosts: set[str] = field(default_factory=set)
    cpu_seconds: float = 0
    private_mb: int = 0  # of the process that had most
    mapped_mb: int = 0  # of the call that had most
    read_mb: int = 0  # arrays that a host reads, if it computes blocks of each call
    written_mb: float = 0  # the results of all hosts

    def add(self, blocks: Sequence[BlockCost], written: int) -> None:
        """Count the blocks of a call, whose results have so many bytes."""
        mapped = max(block.mapped_mb for block in blocks)
        self.blocks += len(blocks)
        self.hosts |= {block.host for block in blocks}
        self.cpu_seconds += sum(block.cpu_seconds for block in blocks)
        self.private_mb = max(self.private_mb, *(block.private_mb for block in blocks))
        self.mapped_mb = max(self.mapped_mb, mapped)
        self.read_mb += mapped
        self.written_mb += written / 1e6

    def __str__(self) -> str:
        n = len(self.hosts)
        return (
            f"{self.blocks:,} blocks on {n} host{'s' if n > 1 else ''} took "
            f"{self.cpu_seconds:,.0f} CPU s; a process had at most {self.private_mb:,} MB of its "
            f"own and {self.mapped_mb:,} MB mapped"
        )


def in_blocks(work: Callable[[int, int], T], n: int, size: int, name: str | None) -> Iterator[T]:
    """Yield work(first, last) for every block of n rows, in order, computed by the engine.

    name is that of the progress, None for no progress. A single block is computed here.
    """
    address = os.environ.get(ADDRESS)
    if address is None or n <= size:
        return parallel.in_blocks(work, n, size, name)
    ranges = [(first, min(first + size, n)) for first in range(0, n, size)]
    return _on_cluster(address, work, ranges, name)


_own_folder: Path | None = None  # jobs that run side by side must not remove each other's arrays
_arrays_of_calls: deque[set[Path]] = deque()
_costs = Costs()


def _on_cluster(
    address: str, work: Callable[[int, int], T], ranges: list[tuple[int, int]], name: str | None
) -> Iterator[T]:
    try:
        session = multiprocessing.connection.Client(address)
    except OSError:
        raise JobError(_session_has_ended()) from None
    total = ranges[-1][1]
    with session, progress_bar(total=total, desc=name, unit_scale=True, disable=not name) as shown:
        welcome: Welcome = session.recv()
        folder = _folder_of_job(Path(welcome.folder))
        results = folder / f"results-{uuid4().hex}"
        results.mkdir()
        spec = None
        try:
            spec, arrays = mapped_pickle.save(Task(work, compiling.is_used()), folder)
            _keep_arrays(arrays)
            session.send(Request(str(spec), str(results), ranges, name or ""))
            answers = _Answers(session)
            written = 0
            for number, (first, last) in enumerate(ranges):
                content = _read_result(results, number, answers)
                written += len(content)
                yield pickle.loads(content)
                shown.update(last - first)
            costs = answers.wait()
            _costs.add(costs, written)
            processors.note({welcome.processor, *(cost.processor for cost in costs)})
        finally:
            shutil.rmtree(results, ignore_errors=True)
            if spec:
                spec.unlink(missing_ok=True)


class _Answers:
    """The answer of the session, which comes when all blocks are done."""

    def __init__(self, session: multiprocessing.connection.Connection) -> None:
        self._session = session
        self._costs: list[BlockCost] | None = None

    def came(self, seconds: float) -> bool:
        """Wait so long for the answer; return whether it has come."""
        if self._costs is None and self._session.poll(seconds):
            self.wait()
        return self._costs is not None

    def wait(self) -> list[BlockCost]:
        """Return the costs of the blocks, or raise JobError where a block has failed."""
        if self._costs is None:
            try:
                answer = self._session.recv()
            except (EOFError, ConnectionError):
                raise JobError(_session_has_ended()) from None
            if isinstance(answer, str):
                raise JobError(answer)
            self._costs = answer
        return self._costs


def _read_result(results: Path, number: int, answers: _Answers) -> bytes:
    path = results / result_name(number)
    while not path.exists():
        if answers.came(LOOK_FOR_RESULTS) and not path.exists():
            raise JobError(
                f"block {number} was computed, but its file {path} can't be seen here: WORK must "
                "lie on a file system that all hosts mount"
            )
    content = path.read_bytes()
    path.unlink()
    return content


def result_name(number: int) -> str:
    """Return the name of the file with the result of a block."""
    return f"block-{number:06}.pickle"


def works_for(folder: Path, job: str) -> bool:
    """Return whether the cluster computes blocks for a job now; folder is that of the engine."""
    return any(folder.glob(f"{job}-*/results-*"))


def _folder_of_job(folder: Path) -> Path:
    """Return this job's own folder inside that of the engine."""
    global _own_folder
    if _own_folder is None:
        _own_folder = folder / f"{Path(sys.argv[0]).stem}-{os.getpid()}"
        _own_folder.mkdir()
    return _own_folder


def clean() -> None:
    """Remove what this job has written for the engine."""
    if _own_folder is not None:
        shutil.rmtree(_own_folder, ignore_errors=True)


def _keep_arrays(arrays: set[Path]) -> None:
    """Remove the arrays that the last calls have not used, and remember those of this call."""
    _arrays_of_calls.append(arrays)
    if len(_arrays_of_calls) > CALLS_KEPT:
        for path in _arrays_of_calls.popleft() - set().union(*_arrays_of_calls):
            path.unlink(missing_ok=True)


def _session_has_ended() -> str:
    return "the session of the cluster has ended: see spark.log in WORK, and run again"


def summary() -> str:
    """Return what the blocks of this job took on a cluster, in words; "" if there were none."""
    return str(_costs) if _costs.blocks else ""


def record() -> dict[str, Any]:
    """Return the same for the job's record; empty if there were no blocks on a cluster."""
    return asdict(_costs) | {"hosts": len(_costs.hosts)} if _costs.blocks else {}
