"""Start and end the process that keeps the session on a cluster; see jobs/spark/server.py.

Only the standard library is imported here, as in all modules that decide what has to run.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from select import select
from typing import Any

from jobs.runtime.processors import MIXED_PROCESSORS

LOCAL = "local"  # the engine of threads, which needs no session
ADDRESS = "RECO_ENGINE"  # the environment variable by which jobs find the session
LOOK_FOR_SIGNALS = 0.1  # seconds
SECONDS_TO_END = 15


class NoSession(Exception):
    """The session can't be used; the message says why and what to do."""


class Session:
    """The session of a run on a cluster, which jobs that are started from now on can use."""

    def __init__(
        self, engine: str, work: Path, received: Sequence[int], mixed: bool = False
    ) -> None:
        """Start a session whose files lie in WORK; raise NoSession if that fails.

        If `received` gets a signal meanwhile, NoSession is raised too. If `mixed`, hosts may have
        other kinds of processors.
        """
        option = [MIXED_PROCESSORS] if mixed else []
        with (work / "spark.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jobs.spark.server", engine, str(work), *option],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        try:
            answer = self._first_line(received)
            if "error" in answer:
                raise NoSession(answer["error"])
        except BaseException:
            self.end()
            raise
        os.environ[ADDRESS] = answer["address"]
        kinds = f", with a mix of processors: {answer['mixed']}" if answer["mixed"] else ""
        cores = f"{answer['cores']} core{'s' if answer['cores'] > 1 else ''}"
        print(f"engine: Spark {answer['spark']} on {engine}, {cores}{kinds}", flush=True)

    def _first_line(self, received: Sequence[int]) -> dict[str, Any]:
        assert self._process.stdout is not None
        while not select([self._process.stdout], [], [], LOOK_FOR_SIGNALS)[0]:
            if received:
                raise NoSession("the run was asked to end")
        try:
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except ValueError:
            raise NoSession("Spark has ended at its start: see spark.log in WORK") from None
        return answer

    def end(self) -> None:
        """End the session."""
        os.environ.pop(ADDRESS, None)
        try:
            self._process.communicate(timeout=SECONDS_TO_END)  # closes its standard input
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
