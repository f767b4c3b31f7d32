"""Run the whole line on a cluster and by threads, and compare every file that they make.

    python -m jobs.compare_engines --data IN --out DIR --engine "local-cluster[2,1,2048]"

Makes DIR/local and DIR/cluster, and ends with exit code 1 if a file differs by a byte. With --kill
one executor is killed in the middle of each job that is named; the engine must be local-cluster,
whose executors the run itself has started. Options of run_all.sh may follow after --.

Left out are the records of jobs.run, Spark's log, and what a release says of its own id and time.
"""

import argparse
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from jobs.contract.names import MANIFEST, RELEASES
from jobs.contract.storage import JobError
from jobs.runtime import cli
from jobs.runtime.engine import FOLDER, works_for
from jobs.runtime.up_to_date import ROOT

EXECUTOR = "CoarseGrainedExecutorBackend"  # the class that Spark's executors run
SPREAD = ("train_als", "personal_als", "similar", "next_played", "rank")  # over the cluster
OF_THE_RUN = {"id", "created_at"}  # what a release says of itself
NOW = "2100-01-01"  # for both runs, since WORK keeps it
LOOK = 0.01  # seconds


def main(argv: Sequence[str]) -> str:
    """Run both and compare them."""
    args = arguments(argv)
    killed: list[str] = []
    for name, engine in (("local", "local"), ("cluster", args.engine)):
        work = args.out / name
        command = ["bash", str(ROOT / "run_all.sh"), "--data", str(args.data), "--work", str(work)]
        print(f"compare_engines: {engine} works in {work}", flush=True)
        command += ["--now", NOW, "--engine", engine, *args.options]
        with subprocess.Popen(command) as run:
            if args.kill and name == "cluster":
                kill_executors(run, work, args.kill, killed)
        if run.returncode:
            raise JobError(f"run_all.sh with --engine {engine} ended with code {run.returncode}")
    if missed := ", ".join(job for job in args.kill if job not in killed):
        raise JobError(
            f"no executor was killed in {missed}: give it more data, so that it has blocks"
        )
    different, n = differences(args.out / "local", args.out / "cluster")
    if different:
        raise JobError(f"of {n} files {len(different)} differ: {', '.join(different[:10])}")
    kills = f", although an executor was killed in {', '.join(killed)}" if killed else ""
    return f"all {n} files have the same bytes{kills}"


def kill_executors(
    run: subprocess.Popen[bytes], work: Path, jobs: Sequence[str], killed: list[str]
) -> None:
    """Kill one executor of a run in each of the jobs, as soon as the cluster works for it.

    The jobs in which that was possible are added to `killed`.
    """
    while run.poll() is None:
        for job in jobs:
            if job not in killed and works_for(work / FOLDER, job):
                executors = [*_executors(run.pid)]
                if executors:
                    os.kill(executors[0].pid, signal.SIGKILL)
                    killed.append(job)
                    print(
                        f"compare_engines: killed executor {executors[0].pid} in {job}", flush=True
                    )
        try:
            run.wait(LOOK)
        except subprocess.TimeoutExpired:
            continue


def _executors(pid: int) -> Iterator[psutil.Process]:
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if any(EXECUTOR in word for word in process.cmdline()):
                yield process
        except psutil.Error:  # it has ended
            continue


def differences(one: Path, other: Path) -> tuple[list[str], int]:
    """Return the files of two WORK folders that differ, and how many there are."""
    ours, theirs = contents(one), contents(other)
    names = sorted({*ours, *theirs})
    return [name for name in names if ours.get(name) != theirs.get(name)], len(names)


def contents(work: Path) -> dict[str, Any]:
    """Return what each file of WORK holds, by path; the id of a release is left out of both."""
    result: dict[str, Any] = {}
    for path in sorted(work.glob("**/*")):
        name = str(path.relative_to(work))
        if not path.is_file() or ".done/" in name or path.name == "spark.log":
            continue
        name = re.sub(rf"^{RELEASES}/[^/]+/", f"{RELEASES}/ID/", name)
        content: Any = path.read_bytes()
        if path.name == MANIFEST:
            content = {k: v for k, v in json.loads(content).items() if k not in OF_THE_RUN}
        result[name] = content
    return result


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the inputs")
    parser.add_argument("--out", type=Path, required=True, help="folder to work in")
    parser.add_argument("--engine", required=True, help="the cluster, as for run_all.sh")
    parser.add_argument(
        "--kill", nargs="+", default=[], choices=SPREAD, metavar="JOB",
        help=f"kill one executor in each of these jobs, of {', '.join(SPREAD)}",
    )  # fmt: skip
    parser.add_argument("options", nargs="*", help="more options of run_all.sh, after --")
    args = parser.parse_args(argv)
    if args.kill and not args.engine.startswith("local-cluster["):
        parser.error(
            f"--kill ends executors that the run itself has started: expected --engine "
            f"local-cluster[WORKERS,CORES,MB], found {args.engine}"
        )
    return args


if __name__ == "__main__":
    cli.run(main)
