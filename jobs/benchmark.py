"""Measure what each job costs on data of several sizes, and how the cost grows.

    python -m jobs.benchmark --out benchmark [--sizes 1 3 10] [--memory-limit 12G] [--tune quick]

A size is a percentage of the synthetic twin of a service's year: 1,373,221 users, 1,000,000 tracks,
222,629,898 listens. Each is made and run with run_all.sh in OUT/SIZE, and what has run before is
not run again; then the largest is compared with implicit and with pandas
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

USERS, TRACKS, LISTENS = 1_373_221, 1_000_000, 222_629_898
SHOWN = ("prepare", "train_als", "personal_als", "similar", "next_played", "rank", "all")


def scaled(size: float) -> tuple[int, int, int]:
    """Users, tracks and listens of a size in percent."""
    users, tracks, listens = (round(n * size / 100) for n in (USERS, TRACKS, LISTENS))
    return users, tracks, listens


def run_size(folder: Path, size: float, options: list[str]) -> pd.DataFrame:
    """Make the data of a size and run the line on it; what that cost, job by job."""
    data, work = folder / "data", folder / "work"
    users, tracks, listens = scaled(size)
    sizes = ["--users", str(users), "--tracks", str(tracks), "--listens", str(listens)]
    python("jobs.run", "sample_data", "--out", str(data), *sizes)
    line = ["bash", str(up_to_date.ROOT / "run_all.sh"), "--data", str(data), "--work", str(work)]
    if subprocess.run([*line, *options], check=False).returncode:
        print(f"benchmark: at {size:g} % the line stopped before its end", file=sys.stderr)
    found = costs(work)
    found["need_mb"] = [needed_mb(job, data, work) for job in found.index]
    most = {name: "max" if name in ("peak_mb", "need_mb") else "sum" for name in found}
    return pd.concat([found, found.agg(most).to_frame("all").T])


def needed_mb(job: str, data: Path, work: Path) -> float:
    """What the job would say beforehand that it needs, with all threads; NaN if it says nothing."""
    needed = memory.needed(job, work, data if job == "prepare" else None)
    return needed / memory.MB if needed else float("nan")


def python(module: str, *arguments: str) -> str:
    """What a module prints, run in a process of its own."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=up_to_date.ROOT
    ).stdout


def exponent(listens: np.ndarray, seconds: np.ndarray) -> float:
    """The slope of log seconds over log listens; NaN of one size."""
    if len(listens) < 2:
        return float("nan")
    return float(np.polyfit(np.log(listens), np.log(np.maximum(seconds, 1e-3)), 1)[0])


def table(found: dict[float, pd.DataFrame]) -> pd.DataFrame:
    """A row a job: by size its seconds, and its peak in MB beside what it said that it needs.

    And how its processor time grows; listens a second and MB written at the largest size.
    """
    listens = {size: scaled(size)[2] for size in found}
    largest = max(found)
    result = pd.DataFrame(index=found[largest].index)
    for size, of in found.items():
        result[f"{size:g} %: s"] = of["seconds"].round(1)
        result[f"{size:g} %: CPU s"] = of["cpu_seconds"].round(1)
        result[f"{size:g} %: MB (said)"] = [
            f"{peak:,.0f} ({need:,.0f})".replace("nan", "–")
            for peak, need in zip(of["peak_mb"], of["need_mb"], strict=True)
        ]
    cpu = pd.DataFrame({listens[size]: of["cpu_seconds"] for size, of in found.items()})
    result["growth"] = [
        round(exponent(np.array(cpu.columns, float), row), 2) for row in cpu.to_numpy()
    ]
    result["listens/s"] = (listens[largest] / found[largest]["seconds"]).round().astype(int)
    result["MB written"] = found[largest]["written_mb"].round(1)
    return result


def plot(found: dict[float, pd.DataFrame], path: Path) -> None:
    """Processor seconds and memory over listens, both logarithmic, a line a job."""
    listens = [scaled(size)[2] for size in found]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, column, name in zip(
        axes, ("cpu_seconds", "peak_mb"), ("processor seconds", "peak memory, MB"), strict=True
    ):
        for job in SHOWN:
            axis.plot(listens, [of[column][job] for of in found.values()], marker="o", label=job)
        axis.set(xscale="log", yscale="log", xlabel="listens", ylabel=name)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize="small")
    figure.savefig(path)
    plt.close(figure)


def compare(folder: Path, found: pd.DataFrame) -> dict[str, Any]:
    """Beside the usual way: implicit's lists, and pandas where jobs.prepare and top_popular are."""
    recommend = json.loads(
        python("jobs.benchmark_libraries", "recommend", "--work", str(folder / "work"))
    )
    pandas = json.loads(
        python("jobs.benchmark_libraries", "notebook", "--data", str(folder / "data"))
    )
    return {f"recommend: {name}": value for name, value in recommend.items()} | {
        "pandas: seconds": pandas["seconds"],
        "pandas: peak MB": pandas["peak_mb"],
        "prepare: seconds": float(found["seconds"]["prepare"]),
        "prepare: peak MB": int(found["peak_mb"]["prepare"]),
    }


def main(argv: Sequence[str]) -> None:
    """Run every size, then write the page and the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=Path("benchmark"))
    parser.add_argument("--sizes", type=float, nargs="+", default=[1, 3, 10], help="percent")
    parser.add_argument("--memory-limit", help="of each job, as 12G (default: what is available)")
    parser.add_argument("--tune", choices=["off", "quick", "full"], default="quick")
    args = parser.parse_args(argv)
    options = ["--tune", args.tune]
    if args.memory_limit:
        options += ["--memory-limit", args.memory_limit]
    found = {size: run_size(args.out / f"{size:g}", size, options) for size in sorted(args.sizes)}
    largest = max(found)
    compared = compare(args.out / f"{largest:g}", found[largest])
    plot(found, args.out / "benchmark.svg")
    lines = [f"- {name}: {value:,.4g}" for name, value in compared.items()]
    text = "\n".join([markdown(table(found)), "", f"At {largest:g} %:", "", *lines, ""])
    (args.out / "benchmark.md").write_text(text)
    print(text)


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table."""
    rows = [["job", *frame.columns], ["---"] * (len(frame.columns) + 1)]
    rows += [
        [str(name), *map(str, row)]
        for name, row in zip(frame.index, frame.to_numpy(object), strict=True)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main(sys.argv[1:])
