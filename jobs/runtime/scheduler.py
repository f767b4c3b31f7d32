"""Run many jobs, several at the same time if their input and their memory allow it.

Every job runs in its own process, so its peak memory, CPU time and exit code can be measured. The
process is forked from one that has imported the libraries, so their import takes time only once. A
job waits for the earlier jobs in the line that make what it reads (up_to_date.FILES).

For example, after `tune` the jobs of two windows run side by side: top_popular of "train" and of
"validation" read different folders. personal_als of "train" waits for train_als of "train".
"""

import importlib
import math
import multiprocessing
import multiprocessing.process
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from jobs.runtime import processors, up_to_date
from jobs.runtime.cluster import ADDRESS, LOCAL, NoSession, Session
from jobs.runtime.processors import MIXED_PROCESSORS
from jobs.runtime.up_to_date import Task

LIBRARIES = (  # those that most jobs import; a job imports any others itself
    "numpy", "scipy.sparse", "pandas", "pyarrow.parquet", "pyarrow.compute", "implicit.cpu.als",
    "threadpoolctl", "tqdm",
)  # fmt: skip
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # ctrl-C; `systemctl stop` and `timeout`
LOOK_FOR_SIGNALS = 0.1  # seconds


def needs_to_run(task: Task, mixed: bool = False) -> bool:
    """Return whether a job is not up to date; print that it is up to date, or why it runs again.

    If `mixed`, files that a mix of processors has made are as good as any others.
    """
    changed = task.what_changed()
    if changed is None and not mixed and task.has_mixed_processors:
        changed = f"a mix of processors made its files, and {MIXED_PROCESSORS} is not given"
    if changed is None:
        print(f"{task.job}: nothing has changed since it ran", flush=True)
    elif changed:
        print(f"{task.job}: runs again, because {changed}", flush=True)
    return changed is not None


def run_task(task: Task) -> None:
    """Run a job in this process, and write its record."""
    task.record.unlink(missing_ok=True)
    before = {
        "options": list(task.options),
        "code": up_to_date.code_hash(task.job),
        "read": task.state(task.reads()),
    }
    start = time.time()
    sys.argv = [task.job, *task.argv]
    runpy.run_module(f"jobs.{task.job}", run_name="__main__", alter_sys=True)
    from jobs.runtime import engine  # not above, since it imports more than the standard library

    cost = {
        "start": start,
        "seconds": time.time() - start,
        "cpu_seconds": time.process_time(),
        "peak_mb": up_to_date.peak_mb(),
    }
    made: dict[str, Any] = {"made": task.state(task.makes())}
    if mixed := processors.noted():
        made["mixed_processors"] = [kind._asdict() for kind in mixed]
    if on_cluster := engine.record():
        made["on_cluster"] = on_cluster
    up_to_date.write(task.record, before | made | cost)


def run_line(
    tasks: Sequence[Task], engine: str = LOCAL, work: Path | None = None, mixed: bool = False
) -> int:
    """Run the jobs of a line, each as soon as possible; return the exit code.

    If a job fails, the other running jobs are ended and its exit code is returned. The next run
    skips the jobs that have finished. Jobs compute on the engine; on a cluster they share one
    session, whose files lie in `work`. It is started only if a job has to run. If `mixed`, its
    hosts may have other kinds of processors.
    """
    os.environ.pop(ADDRESS, None)  # another session is none of this run
    received = _note_signals()
    line = _Line(tasks, lambda: _session(engine, work, received, mixed), mixed)
    try:
        while line.waiting or line.running:
            line.start_what_may_run()
            for task, code in line.ended():
                if code and not received:
                    print(f"{task.job} {_how_it_ended(code)}: the run stops here", file=sys.stderr)
                    return code if code > 0 else 128 - code  # 128 + the signal, as in a shell
            if received:
                return 128 + received[0]
    except NoSession as error:
        if received:
            return 128 + received[0]
        print(f"engine: {error}", file=sys.stderr)
        return 1
    finally:
        line.terminate()
    return 0


def _session(
    engine: str, work: Path | None, received: Sequence[int], mixed: bool
) -> Session | None:
    """Start the session of a cluster; return None where jobs compute by their own threads."""
    return None if engine == LOCAL or work is None else Session(engine, work, received, mixed)


def _note_signals() -> list[int]:
    """Return a list to which the signals that ask for an end are added from now on.

    A handler that raised an exception could do so between the fork of a job and the line that
    keeps its process: the run would then not end the job, but wait for it.
    """
    received: list[int] = []
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # a shell's background jobs ignore SIGINT
            signal.signal(number, lambda number, _: received.append(number))
    return received


def _how_it_ended(code: int) -> str:
    """Return how a job failed, for an exit code that is not 0; codes below 0 are signals."""
    if code > 0:
        return "failed"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (the memory may have run out)" if name == "SIGKILL" else "")


class _Line:
    """The jobs that have not started, and the processes of those that run."""

    def __init__(
        self, tasks: Sequence[Task], start_session: Callable[[], Session | None], mixed: bool
    ) -> None:
        self.waiting = list(tasks)
        self._mixed = mixed
        self._start_session: Callable[[], Session | None] | None = start_session
        self._session: Session | None = None
        self.running: dict[Task, multiprocessing.process.BaseProcess] = {}
        self._memory = 0  # bytes that were available when no job was running
        self._context = multiprocessing.get_context("fork")

    def start_what_may_run(self) -> None:
        """Start each waiting job that need not wait for another.

        Those that are up to date are dropped, and those of windows that do not exist.
        """
        before = [*self.running]
        for task in [*self.waiting]:
            if any(task.must_follow(other) for other in before):
                before.append(task)
            elif task.has_no_window:
                self.waiting.remove(task)  # the line names all windows that there may be
            elif not self._fits(task):
                return  # a later, smaller job must not delay it
            else:
                self.waiting.remove(task)
                if needs_to_run(task, self._mixed):
                    self._start(task)
                    before.append(task)

    def _fits(self, task: Task) -> bool:
        """Return whether a core is free for the job, and enough memory beside the running jobs."""
        if not self.running:
            return True
        if len(self.running) >= (os.cpu_count() or 1):
            return False
        return sum(map(_memory_needed, (*self.running, task))) <= min(self._memory, _limit(task))

    def _start(self, task: Task) -> None:
        if self._start_session:
            self._session, self._start_session = self._start_session(), None
        _import_libraries()
        if not self.running:
            self._memory = memory().available()
        process = self._context.Process(target=_child, args=(task, bool(self.running)))
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # until the job has its own handlers
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self.running[task] = process

    def ended(self) -> Iterator[tuple[Task, int]]:
        """Wait a moment for a job to end; yield those that have ended, with their exit codes."""
        if not self.running:
            return
        wait([process.sentinel for process in self.running.values()], LOOK_FOR_SIGNALS)
        for task, process in [*self.running.items()]:
            if not process.is_alive():
                process.join()
                del self.running[task]
                yield task, process.exitcode or 0

    def terminate(self) -> None:
        """End every running job; the next run starts it again."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.join()
        if self._session:
            self._session.end()


def memory() -> Any:
    """Return jobs.runtime.memory, imported late: a run without changes needs no libraries."""
    return importlib.import_module("jobs.runtime.memory")


def _memory_needed(task: Task) -> int:
    """Return the bytes that a job needs with all its threads."""
    needed: int = memory().needed(task.job, task.folder, task.data if task.takes_data else None)
    return needed


def _limit(task: Task) -> float:
    """Return the job's --memory-limit in bytes: jobs that run side by side share it."""
    given = [value for option, value in pairwise(task.argv) if option == "--memory-limit"]
    return memory().size(given[-1]) if given else math.inf


def _import_libraries() -> None:
    """Import what most jobs need before they are forked, with one BLAS thread.

    A forked process has none of its parent's threads, so no library may have started threads that
    it computes with. OpenBLAS would start them when it is loaded, so it is limited to one. The
    thread of Arrow's allocator is no problem: it only cleans up, and starts again after a fork.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in LIBRARIES:
        importlib.import_module(name)


def _child(task: Task, beside_another: bool) -> None:
    """Run a job in its own process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if beside_another:
            from jobs.runtime import progress

            progress.only_lines()  # the bar on the terminal belongs to the other job
        run_task(task)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as in a shell
