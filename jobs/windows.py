"""Cut the past into three windows, for training the ranker, for choosing by, and for the report.

    python -m jobs.windows --work data [--split auto|time|user] [--share 0.1] [--gap DAYS]

Each window is a folder WORK/windows/NAME in which the other jobs run as they do in WORK: its
listens end at a cut, and holdout.parquet has what came next, up to the next window's cut. So
"report" foresees the last tenth of the data, "choose" the tenth before, "train" the one before it.

A cut is a moment ("time") or a place in each user's own history ("user"). The first is right where
users share a clock and come back. Where most come once and stay away, it judges by the few who
don't, so "auto" then takes the second, unless tracks come and go: a place in each user's history
would let the model know the hits of tomorrow. Where they do, a holdout is as short as half the life
of a track, or it would ask for tracks that nobody could know.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import command, contract, listens
from jobs.contract import JobError
from jobs.listens import SECONDS_A_DAY, Listens

SPLIT = "split.json"
FEWEST_LISTENS = 3  # of a user from whom "user" holds something out
SHORT_LIFE = 0.02  # of the data's span: users who come once
FEWEST_KNOWN = 0.5  # of the holdout's users should have a past
MOST_DAYS = 36_500  # of a gap
BRIEF_TRACKS = 0.2  # of the data's span: tracks that come and go
MOST_LISTENS = 20_000_000
SEED = 20
SHARE, SMALLEST_SHARE = 0.1, 0.01  # of the listens, held out by a window


@dataclass(frozen=True)
class Window:
    """Which listens are a window's past, and which its holdout: (listens,) bool each."""

    past: np.ndarray
    holdout: np.ndarray
    cut: str


def by_time(data: Listens, share: float, gap_days: float) -> list[Window]:
    """Windows from the latest to the earliest, cut at moments; a moment is never split."""
    result = []
    end = np.inf
    for i in range(1, 4):
        at = np.quantile(data.at, 1 - i * share, method="higher")
        past, before_end = data.at < at, data.at < end
        holdout = before_end & (data.at >= at + gap_days * SECONDS_A_DAY)
        result.append(Window(past, holdout, datetime.fromtimestamp(int(at), UTC).isoformat()))
        end = at
    return result


def by_user(data: Listens, share: float) -> list[Window]:
    """Windows from the latest to the earliest, cut after a share of each user's own listens."""
    result = []
    place = np.arange(len(data.user)) - data.starts[data.user]
    length = np.diff(data.starts)
    for _ in range(3):
        held = np.maximum(1, np.round(share * length)).astype(np.int64)
        left = np.where(length >= FEWEST_LISTENS, length - held, length)
        past, before_end = place < left[data.user], place < length[data.user]
        result.append(Window(past, before_end & ~past, f"each user's last {share:.0%}"))
        length = left
    return result


def share_with_a_past(data: Listens, window: Window) -> float:
    """The share of the holdout's users who have listens in the window's past."""
    held, past = (np.unique(data.user[rows]) for rows in (window.holdout, window.past))
    return float(np.isin(held, past).mean()) if len(held) else 0.0


def median_life(key: np.ndarray, at: np.ndarray) -> float:
    """From first to last listen of the user or track (key) that the median listen belongs to.

    As a share of the time that the data spans.
    """
    first, last = np.full(key.max() + 1, at.max()), np.full(key.max() + 1, at.min())
    np.minimum.at(first, key, at)
    np.maximum.at(last, key, at)
    return float(np.median((last - first)[key]) / max(at.max() - at.min(), 1))


def choose_split(data: Listens, asked: str, share: float, gap_days: float) -> tuple[str, str]:
    """The split to use, and why: what was asked for, or what the data is fit for."""
    if asked != "auto":
        return asked, "as asked"
    windows = by_time(data, share, gap_days)
    if not all_filled(windows):
        return "user", "the listens have too few distinct times to cut between them"
    users, tracks = median_life(data.user, data.at), median_life(data.item, data.at)
    known = share_with_a_past(data, windows[0])
    seen = (
        f"of the time spanned users live {users:.1%} and tracks {tracks:.1%}; "
        f"{known:.0%} of the users after {windows[0].cut} have a past"
    )
    stays_away = users < SHORT_LIFE or known < FEWEST_KNOWN
    return ("user" if stays_away and tracks > BRIEF_TRACKS else "time"), seen


def choose_share(data: Listens, split: str, gap_days: float) -> float:
    """The share of the listens that a window holds out: less where tracks come and go.

    But enough for all windows to have a past and a holdout.
    """
    life = median_life(data.item, data.at)
    if split == "user" or life > BRIEF_TRACKS:
        return SHARE
    share = float(np.clip(life / 2, SMALLEST_SHARE, SHARE))
    while share < SHARE and not all_filled(by_time(data, share, gap_days)):
        share = min(2 * share, SHARE)
    return share


def all_filled(windows: list[Window]) -> bool:
    """Whether each window has a past and a holdout."""
    return all(window.past.any() and window.holdout.any() for window in windows)


def sample(data: Listens) -> np.ndarray:
    """(users,) bool: those that the windows are made of."""
    n = data.shape[0]
    kept = int(n * min(1, MOST_LISTENS / max(len(data.item), 1)))
    result = np.zeros(n, bool)
    result[np.random.default_rng(SEED).permutation(n)[: max(kept, 1)]] = True
    return result


def users_share(folder: Path) -> float:
    """The share of all users that a window has, or 1 for a folder that is no window."""
    path = folder / SPLIT
    if not path.exists():
        return 1.0
    return float(contract.read_json(path, made_by="jobs.windows")["users"])


def write_window(
    work: Path,
    name: str,
    sampled: np.ndarray,
    data: Listens,
    window: Window,
    facts: dict[str, Any],
) -> None:
    """Make the window's folder: listens, users, items and holdout.

    sampled (listens of WORK,) bool marks those that data and window are of.
    """
    folder = work / "windows" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (
        contract.writer(contract.LISTENS, folder) as keep,
        contract.writer(contract.HOLDOUT, folder) as hold,
    ):
        seen = start = 0
        for batch in contract.batches(contract.LISTENS, work, contract.LISTENS.schema.names):
            among = sampled[seen : seen + len(batch)]
            table = pa.Table.from_batches([batch]).filter(pa.array(among))
            rows = slice(start, start + len(table))
            keep(table.filter(pa.array(window.past[rows])))
            hold(table.filter(pa.array(window.holdout[rows])))
            seen, start = seen + len(batch), rows.stop
    _write_users(folder, data, window.past)
    _link(work / contract.ITEMS.file, folder / contract.ITEMS.file)
    contract.write_json(folder / SPLIT, facts | {"cut": window.cut})


def _write_users(folder: Path, data: Listens, past: np.ndarray) -> None:
    counts = np.bincount(data.user[past], minlength=len(data.user_ids))
    last = np.zeros(len(data.user_ids), np.int64)
    np.maximum.at(last, data.user[past], data.at[past])
    users = np.flatnonzero(counts)
    table = {
        "user_id": data.user_ids[users],
        "user_id_enc": np.arange(len(users), dtype=np.int32),
        "listens": counts[users],
        "last_at": pc.cast(pa.array(last[users] * 1_000_000), contract.TIME),
    }
    contract.write(contract.USERS, folder, pa.table(table))


def _link(source: Path, target: Path) -> None:
    with contract.atomic(target) as temporary:
        os.link(source, temporary)


def main() -> str:
    """Make windows/train, windows/choose and windows/report."""
    parser = command.parser(__doc__)
    parser.add_argument("--split", choices=["auto", "time", "user"], default="auto")
    parser.add_argument("--share", type=float, help="share of the listens held out")
    parser.add_argument("--gap", type=float, default=0, help="days between past and holdout")
    args = parser.parse_args()
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
    named = dict(zip(reversed(contract.WINDOWS), windows, strict=True))
    for name, window in named.items():
        if not (window.past.any() and window.holdout.any()):
            raise JobError(
                f"the {split} split leaves the window {name!r} without a past or a holdout: "
                f"there are {len(data.user):,} listens; give more of them, or another --split"
            )
    facts = {"split": split, "reason": reason, "share": share, "gap_days": args.gap}
    facts["users"] = float(users.mean())  # of all, in the sample
    sampled = np.repeat(users, np.diff(whole.starts))
    for name, window in named.items():
        write_window(args.work, name, sampled, data, window, facts)
    held = ", ".join(f"{name} {int(window.holdout.sum()):,}" for name, window in named.items())
    some = "" if users.all() else f" of a sample of {users.mean():.1%} of the users"
    return f"{split} split ({reason}); listens{some} held out: {held}"


if __name__ == "__main__":
    command.run(main)
