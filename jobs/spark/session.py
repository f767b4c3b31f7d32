"""Start a session on a Spark cluster, and make sure that its hosts can give the same bytes."""

import math
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from jobs.contract.storage import JobError
from jobs.runtime.processors import Processor
from jobs.runtime.up_to_date import ROOT
from jobs.spark import blocks
from jobs.spark.fingerprint import Fingerprint, kernels, own_processor

ENGINE = re.compile(r"local\[\d+\]|local-cluster\[\d+,\d+,\d+\]|spark://[^\s/]+:\d+(,[^\s/]+:\d+)*")
EXPECTED = "local, local[N], local-cluster[WORKERS,CORES,MB] or spark://HOST:PORT"
LOOK_FOR_HOSTS = 0.2  # seconds
SETTLED = 5  # seconds without another host, after which no more are waited for
LONGEST_WAIT = 60  # seconds for the first host
CHOICE_OF_KERNEL = "OPENBLAS_CORETYPE"  # the environment variable that OpenBLAS obeys


@dataclass(frozen=True)
class Session:
    """A session on a cluster whose hosts have been checked."""

    context: Any  # the SparkContext
    cores: int  # of the hosts that were there at the start
    expected: Fingerprint  # of each process that computes
    processors: set[Processor]  # of this host and of all others


def start(engine: str, folder: Path, mixed: bool = False) -> Session:
    """Return a session whose executors compute what this process would, or raise JobError.

    folder is that of the engine, in WORK. If `mixed`, hosts may have other kinds of processors.
    What spark-defaults.conf says goes before the settings that are made here.
    """
    if not ENGINE.fullmatch(engine):
        raise JobError(f"--engine is {engine}: expected {EXPECTED}")
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise JobError(f"--engine {engine} needs Java 17 or later: install it, or set JAVA_HOME")
    try:
        from pyspark import SparkConf, SparkContext
    except ImportError:
        raise JobError(
            f"--engine {engine} needs pyspark: pip install -r requirements-spark.txt"
        ) from None
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    try:
        SparkContext._ensure_initialized()  # starts Java, which reads spark-defaults.conf
        conf = SparkConf().setMaster(engine).setAppName("recommendations")
        for name, value in settings(mixed).items():
            conf.setIfMissing(name, value)
        context = SparkContext(conf=conf)
    except Exception as error:  # of Spark and of the bridge to Java, of several kinds
        raise JobError(
            f"no session could be started on {engine} ({first_line(error)}): see spark.log in WORK"
        ) from None
    context.setLogLevel("WARN")
    try:
        expected = Fingerprint.own().of_any_processor() if mixed else Fingerprint.own()
        cores = _wait_for_cores(context, engine)
        return Session(context, cores, expected, _check_hosts(context, cores, folder, expected))
    except BaseException:
        context.stop()
        raise


def settings(mixed: bool) -> dict[str, str]:
    """Return the settings of a session whose executors compute as this process does.

    If `mixed`, each host may choose the kernel for its own processor, since that of another one
    may have instructions that it lacks. A kernel that the user has chosen is for all hosts.
    """
    kernel = next((name.split()[-1] for name in kernels() if name.startswith("openblas ")), None)
    if mixed:
        kernel = os.environ.get(CHOICE_OF_KERNEL)
    environment = {
        "PYTHONPATH": str(ROOT),
        # One thread for each block, since a host computes several blocks at a time.
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
        **({CHOICE_OF_KERNEL: kernel} if kernel else {}),
    }
    if "NUMBA_CACHE_DIR" in os.environ:
        environment["NUMBA_CACHE_DIR"] = os.environ["NUMBA_CACHE_DIR"]
    return {
        **{f"spark.executorEnv.{name}": value for name, value in environment.items()},
        "spark.scheduler.mode": "FAIR",  # jobs that run side by side share the hosts
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def _wait_for_cores(context: Any, engine: str) -> int:
    """Return how many blocks the cluster computes at a time, once no more hosts seem to join.

    A host that joins later is used and checked too. Raise JobError if none has joined.
    """
    sizes = [int(size) for size in re.findall(r"\d+", engine)]
    expected = math.inf if engine.startswith("spark:") else math.prod(sizes[:2])
    java = context._jsc.sc()
    profile = java.resourceProfileManager().defaultResourceProfile()
    cores, since = 0, time.monotonic()
    while cores < expected:
        found, now = java.maxNumConcurrentTasks(profile), time.monotonic()
        if found != cores:
            cores, since = found, now
        elif now - since > (SETTLED if cores else LONGEST_WAIT):
            break
        time.sleep(LOOK_FOR_HOSTS)
    if not cores:
        raise JobError(
            f"no worker of {engine} has started an executor in {LONGEST_WAIT} s: start workers, or "
            "give them the memory and cores that spark.executor.memory (1g) and "
            "spark.executor.cores ask for; see spark.log"
        )
    return cores


def _check_hosts(context: Any, slots: int, folder: Path, expected: Fingerprint) -> set[Processor]:
    """Return the processors of the cluster and of this host.

    Raise JobError unless every core of the cluster sees the folder and computes as expected.
    """
    nonce = uuid4().hex
    (folder / nonce).write_text(nonce)
    introduce = partial(blocks.introduce, str(folder), nonce, expected)
    # A barrier makes all tasks run at the same time, so that each core has one.
    rows = context.parallelize(range(slots), slots).barrier()
    try:
        answers = rows.mapPartitions(lambda _: [introduce()]).collect()
    except Exception as error:
        raise JobError(f"the hosts can't be checked ({reason(error)}): see spark.log") from None
    if wrong := sorted({answer for answer in answers if isinstance(answer, str)}):
        raise JobError("; ".join(wrong))
    if len([*folder.glob(f"{nonce}-*")]) < slots:
        raise JobError(
            f"what hosts write into {folder} can't be seen here: WORK must lie on a file system "
            "that all hosts mount, at the same path"
        )
    return {own_processor(), *answers}


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().partition("\n")[0]


def reason(error: Exception) -> str:
    """Return why a task failed: the last line of its Python error, or the first of Spark's."""
    found = re.findall(r"^(?:\w+\.)*(\w*(?:Error|Exception): .+)$", str(error), re.MULTILINE)
    of_spark = ("SparkException", "PythonException")
    for line in found:
        if not line.startswith(of_spark):
            return str(line)
    return first_line(error)
