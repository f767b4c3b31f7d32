"""Keep one session on a Spark cluster for all jobs of a run.

    python -m jobs.spark.server ENGINE WORK [--mixed-processors]

jobs.run starts it. It prints one line: {"address": PATH, ...} once jobs can connect to the socket
PATH, or {"error": TEXT}. A job sends a Request (see runtime/engine) for every function that it
spreads over the cluster, and gets the costs of all blocks, or the text of an error. If a job ends
before that, its blocks are cancelled. The session ends when standard input does, so it never
outlives the run. What Spark itself prints goes to standard error.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from jobs.contract.storage import JobError
from jobs.runtime.engine import FOLDER, BlockCost, Request, Welcome
from jobs.runtime.processors import MIXED_PROCESSORS, in_words
from jobs.spark import blocks, session
from jobs.spark.fingerprint import own_processor
from jobs.spark.session import Session

LOOK_FOR_END = 0.2  # seconds


def main(argv: Sequence[str]) -> None:
    """Start the session and answer requests until standard input ends."""
    engine, work, *option = argv
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C ends the run, which ends this process
    to_run = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed must not come between
    folder, private = Path(work) / FOLDER, Path(tempfile.mkdtemp())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        try:
            opened = session.start(engine, folder, mixed=MIXED_PROCESSORS in option)
        except JobError as error:
            print(json.dumps({"error": str(error)}), file=to_run, flush=True)
            return
        address = str(private / "socket")
        listener = Listener(address)
        threading.Thread(target=_accept, args=(listener, opened, folder), daemon=True).start()
        ready = {
            "address": address,
            "spark": opened.context.version,
            "cores": opened.cores,
            "mixed": in_words(opened.processors) if len(opened.processors) > 1 else "",
        }
        print(json.dumps(ready), file=to_run, flush=True)
        sys.stdin.read()
        listener.close()
        opened.context.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(private, ignore_errors=True)


def _accept(listener: Listener, opened: Session, folder: Path) -> None:
    while True:
        try:
            connection = listener.accept()
        except OSError:  # closed, as the session ends
            return
        threading.Thread(target=_answer, args=(connection, opened, folder), daemon=True).start()


def _answer(connection: Connection, opened: Session, folder: Path) -> None:
    """Answer the request of one connection."""
    from pyspark import InheritableThread

    with connection:
        try:
            connection.send(Welcome(str(folder), own_processor()))
            request: Request = connection.recv()
        except (EOFError, ConnectionError):  # the job has ended before it had saved its function
            return
        answer: list[list[BlockCost] | str] = []
        group = Path(request.spec).stem
        thread = InheritableThread(
            target=lambda: answer.append(_compute(opened, request, group)), daemon=True
        )
        thread.start()
        while thread.is_alive():
            if connection.poll(LOOK_FOR_END):  # a job sends nothing more, so it has ended
                opened.context.cancelJobGroup(group)
                return
        connection.send(answer[0])


def _compute(opened: Session, request: Request, group: str) -> list[BlockCost] | str:
    """Return the costs of all blocks of a request, or what went wrong."""
    context = opened.context
    context.setJobGroup(group, request.name, interruptOnCancel=True)
    numbered = [*enumerate(request.ranges)]
    compute = partial(blocks.compute, replace(request, ranges=()), opened.expected)
    try:
        costs = context.parallelize(numbered, len(numbered)).mapPartitions(compute).collect()
    except Exception as error:
        return (
            f"the cluster could not compute {request.name or 'a block'} "
            f"({session.reason(error)}): see spark.log in WORK"
        )
    return next((cost for cost in costs if isinstance(cost, str)), costs)


if __name__ == "__main__":
    main(sys.argv[1:])
