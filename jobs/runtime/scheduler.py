"""Run the jobs of a line, several side by side where their input and their memory allow it.

Every job runs in a process of its own, forked from one that has imported the libraries. So the time
for that is paid once, while a job's peak memory, its CPU time and its exit code stay its own. A job
waits for those before it in the line that make what it reads (up_to_date.FILES).

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
from collections.abc import Iterator, Sequence
from itertools import pairwise
from multiprocessing.connection import wait
from typing import Any

from jobs.runtime import up_to_date
from jobs.runtime.up_to_date import Task

LIBRARIES = (  # what most jobs import; what only one or two import is left to them
    "numpy", "scipy.sparse", "pandas", "pyarrow.parquet", "pyarrow.compute", "implicit.cpu.als",
    "threadpoolctl", "tqdm",
)  # fmt: skip
INTERRUPTED = 128 + signal.SIGINT  # the exit code, as a shell says it of ctrl-C


def needs_to_run(task: Task) -> bool:
    """Whether a job is not up to date; says on the console that it is, or why it is not."""
    changed = task.what_changed()
    if changed is None:
        print(f"{task.job}: nothing has changed since it ran", flush=True)
    elif changed:
        print(f"{task.job}: runs again, because {changed}", flush=True)
    return changed is not None


def run_task(task: Task) -> None:
    """Run a job in this process, and leave a record of it."""
    task.record.unlink(missing_ok=True)
    before = {
        "options": list(task.options),
        "code": up_to_date.code_hash(task.job),
        "read": task.state(task.reads()),
    }
    start = time.time()
    sys.argv = [task.job, *task.argv]
    runpy.run_module(f"jobs.{task.job}", run_name="__main__", alter_sys=True)
    cost = {
        "start": start,
        "seconds": time.time() - start,
        "cpu_seconds": time.process_time(),
        "peak_mb": up_to_date.peak_mb(),
    }
    made = {"made": task.state(task.makes())}
    up_to_date.write(task.record, before | made | cost)


def run_line(tasks: Sequence[Task]) -> int:
    """Run the jobs of a line, each as soon as it may; return the exit code.

    When one fails, those that run beside it are ended, and its exit code is returned: the next run
    goes on from there.
    """
    line = _Line(tasks)
    signal.signal(signal.SIGTERM, _stop)  # as `systemctl stop` and `timeout` send it
    try:
        while line.waiting or line.running:
            line.start_what_may_run()
            for task, code in line.ended():
                if code:
                    print(f"{task.job} {_how_it_ended(code)}: the run stops here", file=sys.stderr)
                    return code if code > 0 else 128 - code  # as a shell says it of a signal
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        line.terminate()
    return 0


def _stop(number: int, _: object) -> None:
    """End this process as a signal asks for, after it has ended the jobs that still run."""
    sys.exit(128 + number)


def _how_it_ended(code: int) -> str:
    """Say how a job ended that did not succeed; codes below 0 are signals."""
    if code > 0:
        return "failed"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (the memory may have run out)" if name == "SIGKILL" else "")


class _Line:
    """The jobs that are still to run, and those that run, as processes."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.waiting = list(tasks)
        self.running: dict[Task, multiprocessing.process.BaseProcess] = {}
        self._memory = 0  # bytes that were available when no job was running
        self._context = multiprocessing.get_context("fork")

    def start_what_may_run(self) -> None:
        """Start each waiting job that no earlier one holds up; forget those that are up to date."""
        before = [*self.running]
        for task in [*self.waiting]:
            if any(task.must_follow(other) for other in before):
                before.append(task)
            elif not self._fits(task):
                return  # a later, smaller job must not delay it
            else:
                self.waiting.remove(task)
                if needs_to_run(task):
                    self._start(task)
                    before.append(task)

    def _fits(self, task: Task) -> bool:
        """Whether there is a processor for the job, and memory for it beside those that run."""
        if not self.running:
            return True
        if len(self.running) >= (os.cpu_count() or 1):
            return False
        return sum(map(_memory_needed, (*self.running, task))) <= min(self._memory, _limit(task))

    def _start(self, task: Task) -> None:
        _import_libraries()
        if not self.running:
            self._memory = memory().available()
        process = self._context.Process(target=_child, args=(task, bool(self.running)))
        process.start()
        self.running[task] = process

    def ended(self) -> Iterator[tuple[Task, int]]:
        """Wait until a job ends; yield those that have, with their exit codes."""
        if not self.running:
            return
        wait([process.sentinel for process in self.running.values()])
        for task, process in [*self.running.items()]:
            if not process.is_alive():
                process.join()
                del self.running[task]
                yield task, process.exitcode or 0

    def terminate(self) -> None:
        """End every job that still runs; what it has not finished is done again by the next run."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.join()


def memory() -> Any:
    """Return the module of that name: it loads libraries, which a run without changes spares."""
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
    """Import what most jobs need, so that they need not; with one BLAS thread, as jobs compute.

    A forked process has none of the threads of its parent, so no library may have started any that
    it computes with. OpenBLAS would, when it is loaded; Arrow's allocator has one for cleaning up,
    and starts it again after a fork.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in LIBRARIES:
        importlib.import_module(name)


def _child(task: Task, beside_another: bool) -> None:
    """Run a job in its own process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if beside_another:
        from jobs.runtime import progress

        progress.only_lines()  # the bar on the terminal belongs to the other job
    try:
        run_task(task)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
