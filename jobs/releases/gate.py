"""A new release beside the current one: what changed, and whether it fell too far to be served."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jobs.contract import serving, storage
from jobs.contract.names import CONTRACT_VERSION, METRICS, SERVING
from jobs.contract.results import (
    Change,
    ListMetrics,
    MetricChange,
    Overlap,
    ReleaseComparison,
    Turnover,
    read_manifest,
)
from jobs.contract.tables import RELEASED, n_rows

FINAL = "final list"  # as metrics.json calls it

# the largest falls, as shares of the current value, with which a release is still activated
MAX_DROP = {"ndcg": 0.1, "coverage": 0.25, "rows": 0.2}
USERS = 10_000  # whose lists are compared
SEED = 20


def comparable(folder: Path) -> bool:
    """Whether there is a release of this contract."""
    try:
        manifest = read_manifest(folder)
    except storage.JobError:
        return False
    tables = (table.file for table in RELEASED)
    arrays = (f"{SERVING}/{name}.npy" for name in serving.SERVING_ARRAYS)
    whole = all((folder / name).is_file() for name in (*tables, *arrays))
    return manifest.contract == CONTRACT_VERSION and whole


def compare(old: Path, new: Path, release: str) -> ReleaseComparison:
    """Compare the files of a new release, in a folder that may have another name, with an old one.

    The old release must be comparable.
    """
    changes = compare_metrics(_metrics_of(old), _metrics_of(new))
    rows = {
        table.file: change(*(n_rows(table, folder) for folder in (old, new))) for table in RELEASED
    }
    return ReleaseComparison(
        old=old.resolve().name,
        new=release,
        metrics=changes,
        rows=rows,
        overlap=overlap(old, new),
        tracks=turnover(*(_array(folder, "track_ids") for folder in (old, new))),
        users=turnover(*(_array(folder, "user_ids") for folder in (old, new))),
        falls=falls(changes, rows),
    )


def share_of_change(old: float, new: float) -> float | None:
    """Return by which share of the old value the new one is more; None where the old one is 0."""
    return (new - old) / old if old else None


def change(old: float, new: float) -> Change:
    """Return two values beside each other."""
    return Change(old, new, share_of_change(old, new))


def compare_metrics(old: ListMetrics, new: ListMetrics) -> dict[str, MetricChange]:
    """Compare NDCG and coverage at 10 of the final list, each on its own test window.

    What the old one lacks is left out; what only the new one lacks counts as 0.
    """
    result = {}
    for name in ("ndcg", "coverage"):
        before, after = (_value(metrics, name) for metrics in (old, new))
        if before:
            result[name] = MetricChange(before, after, share_of_change(before, after))
    if "ndcg" in result:
        result["ndcg"].old_interval = old.intervals.get(FINAL)
        result["ndcg"].new_interval = new.intervals.get(FINAL)
    return result


def _value(metrics: ListMetrics, name: str) -> float:
    value = metrics.lists.get(FINAL, {}).get("all", {}).get("@10", {}).get(name, 0.0)
    return 0.0 if np.isnan(value) else value


def _metrics_of(folder: Path) -> ListMetrics:
    path = folder / METRICS
    return storage.read_json(path, "jobs.evaluate", ListMetrics) if path.exists() else ListMetrics()


def overlap(old: Path, new: Path) -> Overlap:
    """How much of a user's list stayed, at 10 and at 100: means over users with a list in both.

    The share of tracks that both lists have among the first k, of the longer of the two.
    """
    lists = [_final_lists(folder) for folder in (old, new)]
    both = np.intersect1d(lists[0][0], lists[1][0])
    if len(both) > USERS:
        both = np.random.default_rng(SEED).choice(both, USERS, replace=False)
    shares: dict[int, list[float]] = {10: [], 100: []}
    of_users = [_lists_of(both, *found) for found in lists]
    for one, other in zip(*of_users, strict=True):
        for k, found in shares.items():
            common = len({*one[:k]} & {*other[:k]})
            found.append(common / max(len(one[:k]), len(other[:k])))
    means = {k: float(np.mean(found)) if found else None for k, found in shares.items()}
    return Overlap(len(both), first_10=means[10], first_100=means[100])


def _final_lists(folder: Path) -> tuple[np.ndarray, np.ndarray, Path]:
    """Who has a final list, and where each user's begins and ends: (users,), (users, 2)."""
    offsets = _array(folder, "recommendations_offsets")
    bounds = np.column_stack([offsets[:-1], offsets[1:]])
    some = bounds[:, 0] < bounds[:, 1]
    return _array(folder, "user_ids")[some], bounds[some], folder


def _lists_of(
    wanted: np.ndarray, users: np.ndarray, bounds: np.ndarray, folder: Path
) -> list[list[int]]:
    """The track ids of each wanted user's list."""
    items, ids = _array(folder, "recommendations_items"), _array(folder, "track_ids")
    return [ids[items[first:last]].tolist() for first, last in bounds[users.searchsorted(wanted)]]


def turnover(old: np.ndarray, new: np.ndarray) -> Turnover:
    """Return how many ids there were and are, how many are new and how many are lost."""
    both = len(np.intersect1d(old, new, assume_unique=True))
    share = share_of_change(len(old), len(new))
    return Turnover(len(old), len(new), share, come=len(new) - both, gone=len(old) - both)


def _array(folder: Path, name: str) -> np.ndarray:
    found: np.ndarray = np.load(folder / SERVING / f"{name}.npy", mmap_mode="r")
    return found


def falls(metrics: Mapping[str, Change], rows: Mapping[str, Change]) -> list[str]:
    """Return what fell by more than it may, each in words."""
    changes = {f"{name}@10": (MAX_DROP[name], found) for name, found in metrics.items()}
    changes |= {f"rows of {name}": (MAX_DROP["rows"], found) for name, found in rows.items()}
    return [
        f"{name} fell by {-found.change:.1%}, from {found.old:,.5g} to {found.new:,.5g} "
        f"(at most {most:.0%})"
        for name, (most, found) in changes.items()
        if found.change is not None and found.change < -most
    ]
