"""Estimate what a run of another size would take, by a model fitted to runs that were measured.

    python -m jobs.plan WORK ... --times 10 [--hosts 10] [--cores 16] [--memory 64G] [--network 25]
        [--driver-share 0.1]

Each WORK has a finished run of run_all.sh on data of one service at another size, such as those of
jobs.benchmark. Two more such runs on a cluster tell what hosts read and what processes take there.
The estimate is for so many times the listens, users and tracks of the largest run, on a cluster of
equal hosts and a driver like them. Prints a table, what it assumes, and what does not fit first.

The model of a job's processor time, of its wall time and of its memory at n listens is

    a + b min(n, 20 million) + c n        and for `similar`   a + b min(n, 20 million) + c n^1.5

with a, b and c from 0 on, which fit the measured values with the least squares of relative errors:
the windows, on which jobs learn, hold a sample of at most 20 million listens, and `similar`
compares tracks with those of cells, whose number grows as the square root of the tracks. What
processes of a cluster read and hold has the model a + c n; it is that of the job in WORK, without
those in windows.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    driver_share: float  # of what grows with the listens in a job on the cluster


def main(argv: Sequence[str]) -> str:
    """Print the table and what does not fit."""
    args = arguments(argv)
    runs = sorted((Run.read(work) for work in args.runs), key=lambda run: run.listens)
    local = [run for run in runs if run.on_cluster.empty]
    clustered = [run for run in runs if not run.on_cluster.empty]
    check_sizes(local, "--engine local")
    if clustered:
        check_sizes(clustered, "a cluster")
    target = round(local[-1].listens * args.times)
    cluster = Cluster(args.hosts, args.cores, args.memory, args.network, args.driver_share)
    table = plan(local, clustered, target, cluster)
    print(markdown(table))
    print()
    for line in [*assumptions(local, clustered, target, cluster), *limits(table, cluster)]:
        print(line)
    return f"{table['wall, min'].sum():,.0f} minutes for {target:,} listens"


def check_sizes(runs: Sequence[Run], engine: str) -> None:
    """Raise JobError unless there are runs of two sizes, which a model needs."""
    if len({run.listens for run in runs}) < 2:
        raise JobError(f"runs of at least two sizes with {engine} are needed to fit a model")


@dataclass(frozen=True)
class Model:
    """What a value of a job is at any number of listens; see the head of this file."""

    power: float
    sampled: bool  # whether there is a term of the sample of the windows
    largest: int  # listens of a run that was measured
    weights: np.ndarray  # (terms,): what each term is at the largest run

    @classmethod
    def of(cls, measured: dict[int, float], power: float = 1, sampled: bool = True) -> "Model":
        """Fit a model to values by the number of listens. One without any above 0 is always 0.

        The sample is a term only if it is smaller than the largest run.
        """
        measured = {listens: value for listens, value in measured.items() if value > 0}
        largest = max(measured, default=1)
        model = cls(power, sampled and largest > MOST_LISTENS, largest, np.zeros(3))
        if not measured:
            return model
        x = np.stack([model._terms(listens) for listens in measured])
        y = np.array([*measured.values()])
        return replace(model, weights=nnls(x / y[:, None], np.ones(len(y)))[0])

    def _terms(self, listens: int) -> np.ndarray:
        sample = min(listens, MOST_LISTENS) / MOST_LISTENS if self.sampled else 0.0
        return np.array([1.0, sample, (listens / self.largest) ** self.power])

    def at(self, listens: int) -> float:
        """Return the value at a number of listens."""
        return float(self._terms(listens) @ self.weights)

    def growing(self, listens: int) -> float:
        """Return the part of this value that grows with all listens."""
        return float(self._terms(listens)[-1] * self.weights[-1])

    def error(self, measured: dict[int, float]) -> float:
        """Return the largest relative error, for values above 0."""
        return max(abs(self.at(listens) / value - 1) for listens, value in measured.items())


def by_size(runs: Sequence[Run], job: str, column: str) -> dict[int, float]:
    """Return what a job took in some runs, by their numbers of listens."""
    return {run.listens: float(run.costs[column].get(job, 0)) for run in runs}


def by_size_on_cluster(runs: Sequence[Run], job: str, column: str) -> dict[int, float]:
    """Return what the blocks of a job took in some runs, by their numbers of listens."""
    return {run.listens: float(run.on_cluster[column].get(job, 0)) for run in runs}


def plan(
    local: Sequence[Run], clustered: Sequence[Run], target: int, cluster: Cluster
) -> pd.DataFrame:
    """Return a row for each job: what it takes at `target` listens.

    Of a job on the cluster, what grows with the listens is computed there by all cores but for the
    driver's share, which is as fast as one core, and so is what does not grow.
    """
    rows: dict[str, dict[str, Any]] = {}
    for job in map(str, local[-1].costs.index):
        power = POWER.get(job, 1.0)
        measured = by_size(local, job, "cpu_seconds")
        cpu = Model.of(measured, power)
        seconds = Model.of(by_size(local, job, "seconds"), power).at(target)
        peak_mb = Model.of(by_size(local, job, "peak_mb")).at(target)
        if job == "prepare" and peak_mb * memory.MB > cluster.memory:
            peak_mb = memory.of_prepare(in_files=True).bytes(target, 0, 0, threads=1) / memory.MB
        spread = 0.0
        if any(job in run.on_cluster.index for run in clustered):
            spread = cpu.growing(target) * (1 - cluster.driver_share)
            seconds = cpu.at(target) - spread + spread / (cluster.hosts * cluster.cores)
        read, mapped, private = (
            Model.of(by_size_on_cluster(clustered, job, column), sampled=False).at(target) / MB_A_GB
            for column in ("read_mb", "mapped_mb", "private_mb")
        )
        rows[job] = {
            "CPU s, measured": local[-1].costs["cpu_seconds"][job],
            "model's error": cpu.error(measured),
            "CPU s": cpu.at(target),
            "on the cluster": spread / cpu.at(target),
            "driver, GB": peak_mb / MB_A_GB,
            "host, GB": mapped + private * cluster.cores,
            "a host reads, GB": read,
            "wall, min": (seconds + read * 8 / cluster.network) / 60,
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
        f"- Of what grows with the listens in a job on the cluster, the driver does "
        f"{cluster.driver_share:.0%}: it reads the input, and writes the results.",
        "- The memory of the driver is that of a run on one machine, but for prepare, which keeps "
        "the rows in files where that is too much. Jobs run one after the other.",
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
        "--times", type=float, default=10.0, help="how many times the largest run (10)"
    )
    parser.add_argument("--hosts", type=int, default=10, help="of the cluster (10)")
    parser.add_argument("--cores", type=int, default=16, help="of a host (16)")
    parser.add_argument("--memory", type=memory.size, default="64G", help="of a host (64G)")
    parser.add_argument(
        "--network", type=float, default=25.0, help="Gbit/s with which a host reads (25)"
    )
    parser.add_argument(
        "--driver-share",
        type=float,
        default=0.1,
        help="of what grows with the listens in a job on the cluster, 0 to 1 (0.1)",
    )
    options = parser.parse_args(argv)
    for name in ("times", "network"):
        if not 0 < getattr(options, name) < np.inf:
            parser.error(f"--{name} is {getattr(options, name)}, expected a number above 0")
    for name in ("hosts", "cores"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}, expected at least 1")
    if not 0 <= options.driver_share <= 1:
        parser.error(f"--driver-share is {options.driver_share}, expected 0 to 1")
    return options


if __name__ == "__main__":
    cli.run(main)
