"""Start a session on a Spark cluster, and make sure that its hosts can give the same bytes."""

import os
import re
import shutil
import sys
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
CHOICE_OF_KERNEL = "OPENBLAS_CORETYPE"  # the environment variable that OpenBLAS obeys


@dataclass(frozen=True)
class Session:
    """A session on a cluster whose hosts have been checked."""

    context: Any  # the SparkContext
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
        raise JobError(f"no session on {engine} ({first_line(error)}): see spark.log") from None
    context.setLogLevel("WARN")
    try:
        expected = Fingerprint.own().of_any_processor() if mixed else Fingerprint.own()
        return Session(context, expected, _check_hosts(context, folder, expected))
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
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",  # all hosts are checked at the start
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def _check_hosts(context: Any, folder: Path, expected: Fingerprint) -> set[Processor]:
    """Return the processors of the cluster and of this host.

    Raise JobError unless every core of the cluster sees the folder and computes as expected.
    """
    nonce = uuid4().hex
    (folder / nonce).write_text(nonce)
    slots = context.defaultParallelism
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
