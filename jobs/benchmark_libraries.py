"""Measure common libraries on the steps of our jobs, for comparison.

    python -m jobs.benchmark_libraries notebook --data IN
    python -m jobs.benchmark_libraries recommend --work WORK [--users N] [--threads N]

"notebook" reads, cleans, encodes and counts the listens with pandas, as a notebook would, for the
steps of jobs.prepare and jobs.top_popular. "recommend" makes the lists of N random users (at most
all) with implicit, and then as jobs.personal_als does, with the same factors and threads. The
result is printed as JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from implicit.cpu.als import AlternatingLeastSquares
from sklearn.preprocessing import LabelEncoder
from threadpoolctl import threadpool_limits

from jobs.contract import compiling
from jobs.contract.names import LIST_LENGTH
from jobs.contract.top_k import NormOrder, top_k
from jobs.data import listens
from jobs.models import als_model
from jobs.runtime import up_to_date
from jobs.runtime.parallel import in_blocks

SEED = 20
USERS_A_BLOCK = 1024  # as in jobs.personal_als


def notebook(data: Path) -> dict[str, Any]:
    """Return seconds and peak memory of pandas on the three input files."""
    start = time.perf_counter()
    tracks = pd.read_parquet(data / "tracks.parquet")
    events = pd.read_parquet(data / "interactions.parquet")
    events = events[events["track_id"].isin(tracks["track_id"])].drop_duplicates()
    events["user_id_enc"] = LabelEncoder().fit_transform(events["user_id"])
    events["track_id_enc"] = LabelEncoder().fit_transform(events["track_id"])
    events = events.sort_values(["user_id", "started_at", "track_seq"])
    top = events.groupby("track_id")["user_id"].nunique().sort_values(ascending=False)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "peak_mb": up_to_date.peak_mb(),
        "rows": len(events),
        "tracks": len(top),
    }


def recommend(work: Path, users: int, threads: int) -> dict[str, Any]:
    """Return the time a user of implicit and of our search, and how much their lists agree."""
    data = listens.load(work, timed=False)
    user_factors, item_factors = als_model.load(work, data.shape)
    n = min(users, len(user_factors))
    drawn = np.sort(np.random.default_rng(SEED).choice(len(user_factors), n, replace=False))
    model = AlternatingLeastSquares(factors=item_factors.shape[1], num_threads=threads)
    model.user_factors, model.item_factors = user_factors, item_factors
    heard = data.of_users(drawn).pairs()
    compiling.set_by_size(work)
    order = NormOrder.of(item_factors[:LIST_LENGTH])
    top_k(user_factors[:1], order, LIST_LENGTH)  # loads compiled code, which implicit has loaded
    start = time.perf_counter()
    theirs, their_scores = model.recommend(drawn, heard, LIST_LENGTH)
    middle = time.perf_counter()
    order = NormOrder.of(item_factors)

    def lists(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        return top_k(user_factors[drawn[first:last]], order, LIST_LENGTH, heard[first:last])

    found = list(in_blocks(lists, n, USERS_A_BLOCK, "recommend", threads))
    end = time.perf_counter()
    ours, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    listed = ours >= 0  # a user can have less than LIST_LENGTH tracks
    return {
        "users": n,
        "threads": threads,
        "implicit_ms_a_user": (middle - start) / n * 1e3,
        "ms_a_user": (end - middle) / n * 1e3,
        "times_faster": (middle - start) / (end - middle),
        "same_places": float((ours == theirs)[listed].mean()),
        "compiled": compiling.is_used(),
        "largest_difference": float(np.abs(scores - their_scores)[listed].max()),
    }


def main(argv: Sequence[str]) -> None:
    """Measure one of the two and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=["notebook", "recommend"], help="see above")
    parser.add_argument(
        "--data", type=Path, default=Path("data/sample"), help="input files (data/sample)"
    )
    parser.add_argument("--work", type=Path, default=Path("data"), help="folder of a run (data)")
    parser.add_argument("--users", type=int, default=50_000, help="users to draw (50000)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="threads (all cores)"
    )
    args = parser.parse_args(argv)
    with threadpool_limits(limits=1, user_api="blas"):
        if args.what == "notebook":
            result = notebook(args.data)
        else:
            result = recommend(args.work, args.users, args.threads)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
