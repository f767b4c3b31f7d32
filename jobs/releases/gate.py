"""Compare a new release with the current one, and decide whether it is good enough to be served."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from jobs.contract import serving, storage
from jobs.contract.names import CONTRACT_VERSION, METRICS, SERVING
from jobs.contract.results import (
    Change,
    GateMetrics,
    MetricChange,
    Overlap,
    ReleaseComparison,
    Turnover,
    read_manifest,
)
from jobs.contract.tables import LISTENS, RELEASED, n_rows

FINAL = "final list"  # its name in metrics.json

# How far each value may fall, as a share of the current value, before a release is not activated.
MAX_DROP = {"ndcg": 0.1, "coverage": 0.25, "rows": 0.2}
# The same for what the metrics were measured on. Where it collapses, they prove nothing.
MAX_COLLAPSE = {"users of the report": 0.5, "labels of the report": 0.5, "days of listens": 0.8}
MAX_USERS = 10_000  # users whose lists are compared: of more, a random sample
SEED = 20


def comparable(folder: Path) -> bool:
    """Return whether a folder holds a complete release of this version of the contract."""
    try:
        manifest = read_manifest(folder)
    except storage.JobError:
        return False
    tables = (table.file for table in RELEASED)
    arrays = (f"{SERVING}/{name}.npy" for name in serving.SERVING_ARRAYS)
    complete = all((folder / name).is_file() for name in (*tables, *arrays))
    return manifest.contract == CONTRACT_VERSION and complete


def compare(old: Path, new: Path, release: str) -> ReleaseComparison:
    """Compare a new release with an old one, for which comparable() must be true.

    `release` is the id of the new one: its folder `new` can still have a temporary name.
    """
    before, after = _metrics_of(old), _metrics_of(new)
    changes = compare_metrics(before, after)
    rows = {
        table.file: change(*(n_rows(table, folder) for folder in (old, new))) for table in RELEASED
    }
    sizes = [
        _size(metrics) | {"days of listens": span_days(folder)}
        for metrics, folder in ((before, old), (after, new))
    ]
    report = {
        name: change(*(size[name] for size in sizes)) for name in sizes[0] if name in sizes[1]
    }
    return ReleaseComparison(
        old=old.resolve().name,
        new=release,
        metrics=changes,
        rows=rows,
        report=report,
        notes=notes(before, after),
        overlap=overlap(old, new),
        tracks=turnover(*(_array(folder, "track_ids") for folder in (old, new))),
        users=turnover(*(_array(folder, "user_ids") for folder in (old, new))),
        falls=falls(changes, rows, report),
    )


def share_of_change(old: float, new: float) -> float | None:
    """Return the relative change, -0.1 for a fall by a tenth; None where the old value is 0."""
    return (new - old) / old if old else None


def change(old: float, new: float) -> Change:
    """Return an old value, a new value and the relative change."""
    return Change(old, new, share_of_change(old, new))


def _size(metrics: GateMetrics) -> dict[str, float]:
    """Return how many users and labels a report is about, if it says so."""
    window = metrics.window
    sizes = {"users of the report": window.users, "labels of the report": window.labels}
    return {name: size for name, size in sizes.items() if size is not None}


def span_days(folder: Path) -> float:
    """Return the days from the first to the last listen, from the footer of listens.parquet."""
    metadata = pq.read_metadata(folder / LISTENS.file)
    column = metadata.schema.names.index("started_at")
    groups = [
        metadata.row_group(i).column(column).statistics for i in range(metadata.num_row_groups)
    ]
    times = [at for group in groups if group for at in (group.min, group.max)]
    return (max(times) - min(times)) / timedelta(days=1) if times else 0.0


def notes(old: GateMetrics, new: GateMetrics) -> list[str]:
    """Return a sentence for each rule by which the reports of two releases were made differently.

    A rule that one of the reports does not name is not compared.
    """
    windows = [metrics.window for metrics in (old, new)]
    rules = {
        "split": [w.split for w in windows],
        "rule for heard tracks": [w.heard for w in windows],
    }
    return [
        f"the {name} was {before!r} and is {after!r}, so the metrics are not of the same kind"
        for name, (before, after) in rules.items()
        if None not in (before, after) and before != after
    ]


def compare_metrics(old: GateMetrics, new: GateMetrics) -> dict[str, MetricChange]:
    """Compare NDCG and coverage at 10 of the final list; each release has its own test window.

    A metric that the old release does not have is left out. One that only the new release does not
    have counts as 0 there, so it has fallen by 100 %.
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


def _value(metrics: GateMetrics, name: str) -> float:
    value = metrics.lists.get(FINAL, {}).get("all", {}).get("@10", {}).get(name, 0.0)
    return 0.0 if np.isnan(value) else value


def _metrics_of(folder: Path) -> GateMetrics:
    path = folder / METRICS
    return storage.read_json(path, "jobs.evaluate", GateMetrics) if path.exists() else GateMetrics()


def overlap(old: Path, new: Path) -> Overlap:
    """Return how much of a user's final list stayed, at 10 and 100.

    Each is a mean over the users with a list in both releases. For one user it is the number of
    tracks among the first k of both lists, divided by the length of the longer list (at most k):
    [1, 2, 3, 4] and [4, 3, 9] give 2 / 4.
    """
    lists = [_final_lists(folder) for folder in (old, new)]
    both = np.intersect1d(lists[0][0], lists[1][0])
    if len(both) > MAX_USERS:
        both = np.random.default_rng(SEED).choice(both, MAX_USERS, replace=False)
    shares: dict[int, list[float]] = {10: [], 100: []}
    tracks = [_lists_of(both, *release) for release in lists]
    for before, after in zip(*tracks, strict=True):
        for k, shares_at_k in shares.items():
            common = len({*before[:k]} & {*after[:k]})
            shares_at_k.append(common / max(len(before[:k]), len(after[:k])))
    means = {k: float(np.mean(values)) if values else None for k, values in shares.items()}
    return Overlap(len(both), first_10=means[10], first_100=means[100])


def _final_lists(folder: Path) -> tuple[np.ndarray, np.ndarray, Path]:
    """Return the users with a final list (n,), where it begins and ends (n, 2), and the folder."""
    offsets = _array(folder, "recommendations_offsets")
    bounds = np.column_stack([offsets[:-1], offsets[1:]])
    has_list = bounds[:, 0] < bounds[:, 1]
    return _array(folder, "user_ids")[has_list], bounds[has_list], folder


def _lists_of(
    wanted: np.ndarray, users: np.ndarray, bounds: np.ndarray, folder: Path
) -> list[list[int]]:
    """Return the track ids of each wanted user's list."""
    items, ids = _array(folder, "recommendations_items"), _array(folder, "track_ids")
    return [ids[items[first:last]].tolist() for first, last in bounds[users.searchsorted(wanted)]]


def turnover(old: np.ndarray, new: np.ndarray) -> Turnover:
    """Return the numbers of old ids, of new ids, of added ones and of those that are gone."""
    both = len(np.intersect1d(old, new, assume_unique=True))
    share = share_of_change(len(old), len(new))
    return Turnover(len(old), len(new), share, come=len(new) - both, gone=len(old) - both)


def _array(folder: Path, name: str) -> np.ndarray:
    values: np.ndarray = np.load(folder / SERVING / f"{name}.npy", mmap_mode="r")
    return values


def falls(
    metrics: Mapping[str, Change], rows: Mapping[str, Change], report: Mapping[str, Change]
) -> list[str]:
    """Return a sentence for each value that fell further than MAX_DROP or MAX_COLLAPSE allows."""
    limits = {f"{name}@10": (MAX_DROP[name], pair) for name, pair in metrics.items()}
    limits |= {f"rows of {name}": (MAX_DROP["rows"], pair) for name, pair in rows.items()}
    limits |= {f"number of {name}": (MAX_COLLAPSE[name], pair) for name, pair in report.items()}
    return [
        f"{name} fell by {-pair.change:.1%}, from {pair.old:,.5g} to {pair.new:,.5g} "
        f"(at most {limit:.0%})"
        for name, (limit, pair) in limits.items()
        if pair.change is not None and pair.change < -limit
    ]
