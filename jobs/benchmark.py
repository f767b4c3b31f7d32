"""Measure what each job costs on data of several sizes, and how the cost grows.

    python -m jobs.benchmark --out benchmark [--sizes 1 3 10] [--memory-limit 12G] [--tune quick]

A size is a percentage of a service's year: 1,373,221 users, 1,000,000 tracks, 222,629,898 listens.
For each size, synthetic data are made and run_all.sh runs on them in OUT/SIZE; jobs that are up to
date are not run again. At the largest size, our jobs are compared with implicit and with pandas
(jobs.benchmark_libraries). Makes OUT/benchmark.md and OUT/benchmark.svg.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from jobs.runtime import memory, up_to_date
from jobs.runtime.costs import costs

USERS, TRACKS, LISTENS = 1_373_221, 1_000_000, 222_629_898  # at 100 %
# The jobs in the plot; "all" is the sum (of memory the largest value) of all jobs.
SHOWN = ("prepare", "train_als", "personal_als", "similar", "next_played", "rank", "all")


def scaled(size: float) -> tuple[int, int, int]:
    """Return the numbers of users, tracks and listens of a size in percent."""
    users, tracks, listens = (round(n * size / 100) for n in (USERS, TRACKS, LISTENS))
    return users, tracks, listens


def run_size(folder: Path, size: float, options: list[str]) -> pd.DataFrame:
    """Make the data of a size and run run_all.sh on them; return the costs, a row for each job."""
    data, work = folder / "data", folder / "work"
    users, tracks, listens = scaled(size)
    sizes = ["--users", str(users), "--tracks", str(tracks), "--listens", str(listens)]
    python("jobs.run", "sample_data", "--out", str(data), *sizes)
    line = ["bash", str(up_to_date.ROOT / "run_all.sh"), "--data", str(data), "--work", str(work)]
    if subprocess.run([*line, *options], check=False).returncode:
        print(
            f"benchmark: run_all.sh failed at {size:g} %: the costs are those of the jobs before",
            file=sys.stderr,
        )
    result = costs(work)
    result["need_mb"] = [needed_mb(job, data, work) for job in result.index]
    total = {name: "max" if name in ("peak_mb", "need_mb") else "sum" for name in result}
    return pd.concat([result, result.agg(total).to_frame("all").T])


def needed_mb(job: str, data: Path, work: Path) -> float:
    """Return the estimate of the job's memory with all threads; NaN for a job without one."""
    needed = memory.needed(job, work, data if job == "prepare" else None)
    return needed / memory.MB if needed else float("nan")


def python(module: str, *arguments: str) -> str:
    """Run a module in its own process; return what it prints."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=up_to_date.ROOT
    ).stdout


def exponent(listens: np.ndarray, seconds: np.ndarray) -> float:
    """Return e where seconds grow as listens**e: 1 is linear, 2 is quadratic; NaN for one size.

    It is the slope of a line through the logarithms.
    """
    if len(listens) < 2:
        return float("nan")
    return float(np.polyfit(np.log(listens), np.log(np.maximum(seconds, 1e-3)), 1)[0])


def table(measured: dict[float, pd.DataFrame]) -> pd.DataFrame:
    """Return a row for each job; `measured` are the results of run_size by size.

    The columns of each size are seconds, CPU seconds, and peak memory in MB with the job's estimate
    in parentheses. Then come the exponent with which CPU seconds grow, and for the largest size
    listens a second and MB written.
    """
    listens = {size: scaled(size)[2] for size in measured}
    largest = max(measured)
    result = pd.DataFrame(index=measured[largest].index)
    for size, jobs in measured.items():
        result[f"{size:g} %: s"] = jobs["seconds"].round(1)
        result[f"{size:g} %: CPU s"] = jobs["cpu_seconds"].round(1)
        result[f"{size:g} %: MB (estimate)"] = [
            f"{peak:,.0f} ({need:,.0f})".replace("nan", "–")
            for peak, need in zip(jobs["peak_mb"], jobs["need_mb"], strict=True)
        ]
    cpu = pd.DataFrame({listens[size]: jobs["cpu_seconds"] for size, jobs in measured.items()})
    result["growth"] = [
        round(exponent(np.array(cpu.columns, float), row), 2) for row in cpu.to_numpy()
    ]
    result["listens/s"] = (listens[largest] / measured[largest]["seconds"]).round().astype(int)
    result["MB written"] = measured[largest]["written_mb"].round(1)
    return result


def plot(measured: dict[float, pd.DataFrame], path: Path) -> None:
    """Plot CPU seconds and peak memory over listens, on logarithmic scales, with a line a job."""
    listens = [scaled(size)[2] for size in measured]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, column, name in zip(
        axes, ("cpu_seconds", "peak_mb"), ("processor seconds", "peak memory, MB"), strict=True
    ):
        for job in SHOWN:
            values = [jobs[column][job] for jobs in measured.values()]
            axis.plot(listens, values, marker="o", label=job)
        axis.set(xscale="log", yscale="log", xlabel="listens", ylabel=name)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize="small")
    figure.savefig(path)
    plt.close(figure)


def compare(folder: Path, costs_of_jobs: pd.DataFrame) -> dict[str, Any]:
    """Return how our jobs compare with implicit, and with a notebook that uses pandas.

    costs_of_jobs is the result of run_size for the folder.
    """
    recommend = json.loads(
        python("jobs.benchmark_libraries", "recommend", "--work", str(folder / "work"))
    )
    pandas = json.loads(
        python("jobs.benchmark_libraries", "notebook", "--data", str(folder / "data"))
    )
    return {f"recommend: {name}": value for name, value in recommend.items()} | {
        "pandas: seconds": pandas["seconds"],
        "pandas: peak MB": pandas["peak_mb"],
        "prepare: seconds": float(costs_of_jobs["seconds"]["prepare"]),
        "prepare: peak MB": int(costs_of_jobs["peak_mb"]["prepare"]),
    }


def main(argv: Sequence[str]) -> None:
    """Run every size, then write the tables and the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark"), help="folder (benchmark)")
    parser.add_argument(
        "--sizes", type=float, nargs="+", default=[1, 3, 10], help="in percent (1 3 10)"
    )
    parser.add_argument("--memory-limit", help="of each job, as 12G (default: what is available)")
    parser.add_argument(
        "--tune", choices=["off", "quick", "full"], default="quick", help="as of jobs.tune (quick)"
    )
    args = parser.parse_args(argv)
    options = ["--tune", args.tune]
    if args.memory_limit:
        options += ["--memory-limit", args.memory_limit]
    measured = {
        size: run_size(args.out / f"{size:g}", size, options) for size in sorted(args.sizes)
    }
    largest = max(measured)
    compared = compare(args.out / f"{largest:g}", measured[largest])
    plot(measured, args.out / "benchmark.svg")
    lines = [f"- {name}: {value:,.4g}" for name, value in compared.items()]
    text = "\n".join([markdown(table(measured)), "", f"At {largest:g} %:", "", *lines, ""])
    (args.out / "benchmark.md").write_text(text)
    print(text)


def markdown(frame: pd.DataFrame) -> str:
    """Return a frame as a Markdown table."""
    rows = [["job", *frame.columns], ["---"] * (len(frame.columns) + 1)]
    rows += [
        [str(name), *map(str, row)]
        for name, row in zip(frame.index, frame.to_numpy(object), strict=True)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main(sys.argv[1:])
