"""Cut the past into three windows, for training the ranker, for choosing by, and for the report.

    python -m jobs.windows --work data [--split auto|time|user] [--share 0.1] [--gap DAYS]

Each window is a folder WORK/windows/NAME in which the other jobs run as they do in WORK: its
listens end at a cut, and holdout.parquet has what came next, up to the next window's cut. So
"test" foresees the last tenth of the data, "validation" the tenth before, "train" the one before.

A cut is a moment ("time") or a place in each user's own history ("user"). The first is right where
users share a clock and come back. Where most come once and stay away, it judges by the few who
don't, so "auto" then takes the second, unless tracks come and go: a place in each user's history
would let the model know the hits of tomorrow. Where they do, a holdout is as short as half the life
of a track, or it would ask for tracks that nobody could know.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import storage, tables
from jobs.contract.names import SPLIT, WINDOWS
from jobs.contract.results import Split
from jobs.contract.storage import JobError
from jobs.data import listens
from jobs.data.listens import Listens
from jobs.data.splitting import SHARE, Window, by_time, by_user, choose_share, choose_split, sample
from jobs.runtime import cli, memory, parallel

MOST_DAYS = 36_500  # of a gap


def write_window(
    work: Path,
    name: str,
    sampled: np.ndarray,
    data: Listens,
    window: Window,
    split: Split,
) -> None:
    """Make the window's folder: listens, users, items and holdout.

    sampled (listens of WORK,) bool marks those that data and window are of.
    """
    folder = work / "windows" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tables.writer(tables.LISTENS, folder) as keep,
        tables.writer(tables.HOLDOUT, folder) as hold,
    ):
        seen = start = 0
        for batch in tables.batches(tables.LISTENS, work, tables.LISTENS.schema.names):
            among = sampled[seen : seen + len(batch)]
            table = pa.Table.from_batches([batch]).filter(pa.array(among))
            rows = slice(start, start + len(table))
            keep(table.filter(pa.array(window.past[rows])))
            hold(table.filter(pa.array(window.holdout[rows])))
            seen, start = seen + len(batch), rows.stop
    _write_users(folder, data, window.past)
    _link(work / tables.ITEMS.file, folder / tables.ITEMS.file)
    storage.write_json(folder / SPLIT, split)


def _write_users(folder: Path, data: Listens, past: np.ndarray) -> None:
    counts = np.bincount(data.user[past], minlength=len(data.user_ids))
    last = np.zeros(len(data.user_ids), np.int64)
    np.maximum.at(last, data.user[past], data.at[past])
    users = np.flatnonzero(counts)
    table = {
        "user_id": data.user_ids[users],
        "user_id_enc": np.arange(len(users), dtype=np.int32),
        "listens": counts[users],
        "last_at": pc.cast(pa.array(last[users] * 1_000_000), tables.TIME),
    }
    tables.write(tables.USERS, folder, pa.table(table))


def _link(source: Path, target: Path) -> None:
    with storage.atomic(target) as temporary:
        os.link(source, temporary)


def main(argv: Sequence[str]) -> str:
    """Make windows/train, windows/validation and windows/test."""
    parser = cli.parser(__doc__)
    parser.add_argument("--split", choices=["auto", "time", "user"], default="auto")
    parser.add_argument("--share", type=float, help="share of the listens held out")
    parser.add_argument("--gap", type=float, default=0, help="days between past and holdout")
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("windows", args))
    if args.share is not None and not 0 < args.share <= 0.25:
        raise JobError(f"--share is {args.share}: expected more than 0 and at most 0.25")
    if not 0 <= args.gap <= MOST_DAYS:
        raise JobError(f"--gap is {args.gap}: expected 0 to {MOST_DAYS:,} days")
    whole = listens.load(args.work)
    users = sample(whole)
    data = whole if users.all() else whole.of_users(np.flatnonzero(users))
    split, reason = choose_split(data, args.split, args.share or SHARE, args.gap)
    share = args.share or choose_share(data, split, args.gap)
    if split == "user" and args.gap:
        raise JobError(
            f"--gap is for the time split, but this is the user split ({reason}): "
            f"leave --gap out, or add --split time"
        )
    windows = by_time(data, share, args.gap) if split == "time" else by_user(data, share)
    named = dict(zip(reversed(WINDOWS), windows, strict=True))
    for name, window in named.items():
        if not (window.past.any() and window.holdout.any()):
            raise JobError(
                f"the {split} split leaves the window {name!r} without a past or a holdout: "
                f"there are {len(data.user):,} listens; give more of them, or another --split"
            )
    sampled = np.repeat(users, np.diff(whole.starts))
    for name, window in named.items():
        facts = Split(
            split=split,
            reason=reason,
            share=share,
            gap_days=args.gap,
            users=float(users.mean()),
            cut=window.cut,
        )
        write_window(args.work, name, sampled, data, window, facts)
    held = ", ".join(f"{name} {int(window.holdout.sum()):,}" for name, window in named.items())
    some = "" if users.all() else f" of a sample of {users.mean():.1%} of the users"
    return f"{split} split ({reason}); listens{some} held out: {held}"


if __name__ == "__main__":
    cli.run(main)
