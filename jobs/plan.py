"""Estimate what a run of another size would take, by a model fitted to runs that were measured.

    python -m jobs.plan WORK ... --times 10 [--hosts 10] [--cores 16] [--memory 64G] [--network 25]

Each WORK has a finished run of run_all.sh on data of one service at another size, such as those of
jobs.benchmark. One more such run on a cluster tells what hosts read and what processes take there.
The estimate is for so many times the listens, users and tracks of the largest run, on a cluster of
equal hosts and a driver like them. Prints a table, what it assumes, and what does not fit first.

The model of a job's cost at n listens is

    a + b min(n, 20 million) + c n        and for `similar`   a + b min(n, 20 million) + c n^1.5

with a, b and c from 0 on, which fit the measured costs with the least squares of relative errors:
the windows, on which jobs learn, hold a sample of at most 20 million listens, and `similar`
compares tracks with those of cells, whose number grows as the square root of the tracks.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from jobs.contract import tables
from jobs.contract.storage import JobError
from jobs.data.splitting import MOST_LISTENS
from jobs.runtime import cli, costs, memory

POWER = {"similar": 1.5}  # with which the cost of a job grows; 1 for all others
GB = 1e9
MB_A_GB = 1e3


@dataclass(frozen=True)
class Run:
    """What the jobs of a run took."""

    listens: int
    costs: pd.DataFrame  # a row for each job; see costs.costs
    on_cluster: pd.DataFrame  # a row for each job that used it; see costs.costs_on_cluster

    @classmethod
    def read(cls, work: Path) -> "Run":
        """Return the run of a folder; JobError if none has finished there."""
        found = costs.costs(work)
        listens = memory.rows(work / tables.LISTENS.file)
        if not listens or "publish" not in found.index:
            raise JobError(f"{work} has no finished run: bash run_all.sh --work {work}")
        return cls(listens, found, costs.costs_on_cluster(work))


@dataclass(frozen=True)
class Cluster:
    """What jobs shall run on: so many equal hosts, and a driver like one of them."""

    hosts: int
    cores: int  # of a host
    memory: int  # bytes of a host
    network: float  # gigabits a second, with which a host reads


def main(argv: Sequence[str]) -> str:
    """Print the table and what does not fit."""
    args = arguments(argv)
    runs = sorted((Run.read(work) for work in args.runs), key=lambda run: run.listens)
    local = [run for run in runs if run.on_cluster.empty]
    clustered = [run for run in runs if not run.on_cluster.empty]
    if len({run.listens for run in local}) < 2:
        raise JobError("runs of at least two sizes with --engine local are needed to fit a model")
    target = round(local[-1].listens * args.times)
    cluster = Cluster(args.hosts, args.cores, args.memory, args.network)
    table = plan(local, clustered, target, cluster)
    print(markdown(table))
    print()
    for line in [*assumptions(local, clustered, target, cluster), *limits(table, cluster)]:
        print(line)
    return f"{table['wall, min'].sum():,.0f} minutes for {target:,} listens"


def features(listens: np.ndarray, job: str, largest: int) -> np.ndarray:
    """Return what a job's cost may grow with, (sizes, terms), 1 at the largest measured size.

    The sample of the windows is a term only if it was smaller than the listens of a measured run.
    """
    n = np.asarray(listens, float)
    terms = [np.ones_like(n), (n / largest) ** POWER.get(job, 1.0)]
    if largest > MOST_LISTENS:
        terms.append(np.minimum(n, MOST_LISTENS) / MOST_LISTENS)
    return np.stack(terms, axis=1)


def fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the coefficients (terms,), from 0 on, of the least squares of relative errors.

    x (sizes, terms); y (sizes,) above 0.
    """
    weights: np.ndarray = nnls(x / y[:, None], np.ones(len(y)))[0]
    return weights


def estimate(measured: dict[int, float], job: str, target: int) -> tuple[float, float]:
    """Return a cost of a job at `target` listens, and the model's largest relative error.

    `measured` has the cost by the number of listens. Both results are 0 if it has none above 0.
    """
    measured = {listens: value for listens, value in measured.items() if value > 0}
    if not measured:
        return 0.0, 0.0
    listens, values = np.array([*measured]), np.array([*measured.values()])
    x = features(listens, job, largest := int(listens.max()))
    weights = fitted(x, values)
    error = float(np.abs(x @ weights / values - 1).max())
    return float((features(np.array([target]), job, largest) @ weights)[0]), error


def by_size(
    runs: Sequence[Run], job: str, column: str, on_cluster: bool = False
) -> dict[int, float]:
    """Return what a job cost in some runs, by their numbers of listens."""
    tables_ = {run.listens: run.on_cluster if on_cluster else run.costs for run in runs}
    return {n: float(table[column].get(job, 0)) for n, table in tables_.items()}


def plan(
    local: Sequence[Run], clustered: Sequence[Run], target: int, cluster: Cluster
) -> pd.DataFrame:
    """Return a row for each job: what it takes at `target` listens.

    The wall time of a job on the cluster is the processor time of its driver, then that of its
    blocks, by all cores, and the time to read.
    """
    rows: dict[str, dict[str, Any]] = {}
    for job in map(str, local[-1].costs.index):
        cpu, error = estimate(by_size(local, job, "cpu_seconds"), job, target)
        wall, driver_mb = (
            estimate(by_size(local, job, column), job, target)[0]
            for column in ("seconds", "peak_mb")
        )
        if job == "prepare" and driver_mb * memory.MB > cluster.memory:
            driver_mb = memory.of_prepare(in_files=True).bytes(target, 0, 0, threads=1)
            driver_mb /= memory.MB
        driver_cpu = cpu
        if clustered and job in clustered[-1].on_cluster.index:
            driver_cpu = wall = min(
                cpu, estimate(by_size(clustered, job, "cpu_seconds"), job, target)[0]
            )
        read, mapped, private = (
            estimate(by_size(clustered, job, column, on_cluster=True), job, target)[0] / MB_A_GB
            for column in ("read_mb", "mapped_mb", "private_mb")
        )
        computing = (cpu - driver_cpu) / (cluster.hosts * cluster.cores)
        rows[job] = {
            "CPU s, measured": local[-1].costs["cpu_seconds"][job],
            "model's error": error,
            "CPU s": cpu,
            "on the cluster": 1 - driver_cpu / cpu,
            "driver, GB": driver_mb / MB_A_GB,
            "host, GB": mapped + private * cluster.cores,
            "a host reads, GB": read,
            "wall, min": (wall + computing + read * 8 / cluster.network) / 60,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def assumptions(
    local: Sequence[Run], clustered: Sequence[Run], target: int, cluster: Cluster
) -> list[str]:
    """Return what the estimate assumes, a sentence each."""
    sizes = ", ".join(f"{run.listens:,}" for run in local)
    of_cluster = ", ".join(f"{run.listens:,}" for run in clustered) or "none"
    return [
        f"- Measured: runs of {sizes} listens on this machine, and on a cluster: {of_cluster}.",
        f"- Users and tracks grow as the listens do, to {target:,}.",
        f"- {cluster.hosts} hosts with {cluster.cores} cores, as fast as those here, and "
        f"{cluster.memory / GB:,.0f} GB; each reads {cluster.network:g} Gbit/s, and the arrays of "
        "each call once. A host computes as many blocks at a time as it has cores.",
        "- What the driver does takes as long as here; its memory is that of a run on one machine, "
        "but for prepare, which keeps the rows in files where that is too much.",
    ]


def limits(table: pd.DataFrame, cluster: Cluster) -> list[str]:
    """Return which job is the first that does not fit, on the driver and on the hosts."""
    result = []
    for column, where in (("driver, GB", "the driver"), ("host, GB", "a host")):
        over = table[table[column] * GB > cluster.memory]
        largest = table[column].idxmax()
        result.append(
            f"- {over.index[0]} is the first job that does not fit on {where}: it needs "
            f"{over[column].iloc[0]:,.0f} GB; the most is {table[column].max():,.0f} GB, for "
            f"{largest}."
            if len(over)
            else f"- All jobs fit on {where}: the most is {table[column].max():,.0f} GB, for "
            f"{largest}."
        )
    return result


def markdown(table: pd.DataFrame) -> str:
    """Return the table of `plan` as Markdown."""
    lines = [["job", *table.columns], ["---"] * (len(table.columns) + 1)]
    for job, row in table.iterrows():
        cells = [
            f"{value:.0%}" if name in ("model's error", "on the cluster") else f"{value:,.0f}"
            for name, value in row.items()
        ]
        lines.append([str(job), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="WORK", help="of a finished run")
    parser.add_argument(
        "--times", type=_above_0, default=10.0, help="the size of the largest run (10)"
    )
    parser.add_argument("--hosts", type=_count, default=10, help="of the cluster (10)")
    parser.add_argument("--cores", type=_count, default=16, help="of a host (16)")
    parser.add_argument(
        "--memory", type=memory.size, default=memory.size("64G"), help="of a host (64G)"
    )
    parser.add_argument(
        "--network", type=_above_0, default=25.0, help="Gbit/s with which a host reads (25)"
    )
    return parser.parse_args(argv)


def _above_0(text: str) -> float:
    value = float(text)
    if not 0 < value < np.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return value


if __name__ == "__main__":
    cli.run(main)
