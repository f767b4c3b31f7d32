"""What the jobs of a run cost, from the records that jobs.run keeps."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from jobs.contract import storage
from jobs.runtime import engine, up_to_date


def costs(work: Path) -> pd.DataFrame:
    """Return a row for each job, in the order of the run: its costs in all folders of WORK.

    seconds, cpu_seconds and written_mb are sums; peak_mb is the largest of the job's processes.
    """
    rows: list[dict[str, Any]] = []
    seen: set[int] = set()
    for job, record in _records([work / "sample", *sorted((work / "windows").glob("*")), work]):
        made = {inode: size for size, _, inode in record["made"].values()}
        written = sum(made[inode] for inode in made.keys() - seen)  # a hard link is not a new file
        seen |= made.keys()
        rows.append({"job": job, "written_mb": written / 1e6} | record)
    columns = ["job", "seconds", "cpu_seconds", "peak_mb", "written_mb"]
    how = {name: "max" if name == "peak_mb" else "sum" for name in columns[1:]}
    return pd.DataFrame(rows, columns=columns).groupby("job", sort=False).agg(how)


def costs_on_cluster(work: Path) -> pd.DataFrame:
    """Return a row for each job in WORK, without its windows, whose blocks a cluster has computed.

    The columns are the fields of engine.Costs.
    """
    rows = [
        {"job": job} | record["on_cluster"]
        for job, record in _records([work])
        if "on_cluster" in record
    ]
    columns = ["job", *(field.name for field in fields(engine.Costs))]
    return pd.DataFrame(rows, columns=columns).set_index("job")


def _records(folders: Sequence[Path]) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the record of each job in some folders, as they were started."""
    records = [
        (path.stem, storage.read_json(path, made_by="jobs.run"))
        for folder in folders
        for path in (folder / up_to_date.DONE).glob("*.json")
    ]
    return sorted(records, key=lambda pair: pair[1]["start"])
