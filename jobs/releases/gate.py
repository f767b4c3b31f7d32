"""A new release beside the current one: what changed, and whether it fell too far to be served."""

from pathlib import Path
from typing import Any

import numpy as np

from jobs.contract import serving, storage
from jobs.contract.names import CONTRACT_VERSION, METRICS, SERVING
from jobs.contract.results import read_manifest
from jobs.contract.tables import RELEASED, n_rows

FINAL = "final list"  # as metrics.json calls it


# the largest falls, as shares of the current value, with which a release is still activated
MAX_DROP = {"ndcg": 0.1, "coverage": 0.25, "rows": 0.2}


USERS = 10_000  # whose lists are compared


SEED = 20


Content = dict[str, Any]


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


def compare(old: Path, new: Path) -> Content:
    """What comparison.json holds, of two folders of releases."""
    content = {
        "metrics": metrics(_metrics_of(old), _metrics_of(new)),
        "rows": {
            table.file: pair(*(n_rows(table, folder) for folder in (old, new)))
            for table in RELEASED
        },
        "overlap": overlap(old, new),
        "tracks": come_and_gone(*(_array(folder, "track_ids") for folder in (old, new))),
        "users": come_and_gone(*(_array(folder, "user_ids") for folder in (old, new))),
    }
    return content | {"falls": falls(content)}


def pair(old: float, new: float) -> Content:
    """Two values, and by which share of the old one the new one is more."""
    return {"old": old, "new": new, "change": (new - old) / old if old else None}


def metrics(old: Content, new: Content) -> Content:
    """NDCG and coverage at 10 of the final list on each one's report window.

    What the old one lacks is left out; what only the new one lacks counts as 0.
    """
    result = {}
    for name in ("ndcg", "coverage"):
        values = [
            content.get("lists", {}).get(FINAL, {}).get("all", {}).get("@10", {}).get(name)
            for content in (old, new)
        ]
        before, after = (0.0 if value is None or np.isnan(value) else value for value in values)
        if before:
            result[name] = pair(before, after)
    if "ndcg" in result:
        bounds = [content.get("intervals", {}).get(FINAL) for content in (old, new)]
        result["ndcg"] |= dict(zip(("old_interval", "new_interval"), bounds, strict=True))
    return result


def _metrics_of(folder: Path) -> Content:
    path = folder / METRICS
    return storage.read_json(path, made_by="jobs.evaluate") if path.exists() else {}


def overlap(old: Path, new: Path) -> Content:
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
    means = {f"@{k}": float(np.mean(found)) if found else None for k, found in shares.items()}
    return {"users": len(both)} | means


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


def come_and_gone(old: np.ndarray, new: np.ndarray) -> Content:
    """How many ids there were and are, which are new and which are lost."""
    both = len(np.intersect1d(old, new, assume_unique=True))
    return pair(len(old), len(new)) | {"come": len(new) - both, "gone": len(old) - both}


def _array(folder: Path, name: str) -> np.ndarray:
    found: np.ndarray = np.load(folder / SERVING / f"{name}.npy", mmap_mode="r")
    return found


def falls(content: Content) -> list[str]:
    """What fell by more than it may, each in words."""
    seen = {f"{name}@10": (MAX_DROP[name], found) for name, found in content["metrics"].items()}
    seen |= {
        f"rows of {name}": (MAX_DROP["rows"], found) for name, found in content["rows"].items()
    }
    return [
        f"{name} fell by {-found['change']:.1%}, from {found['old']:,.5g} to {found['new']:,.5g} "
        f"(at most {most:.0%})"
        for name, (most, found) in seen.items()
        if found["change"] is not None and found["change"] < -most
    ]
