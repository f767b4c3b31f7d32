"""Split the listens into windows: to train the ranker, to choose settings, to report.

    python -m jobs.windows --work data [--split auto|time|user] [--share 0.1] [--gap DAYS]
                           [--suspicious leave-out|keep]

Each window is a folder WORK/windows/NAME in which the other jobs run as they do in WORK: its
listens end at a cut, and holdout.parquet has the listens after it, up to the next window's cut. So
"test" holds out the last tenth of the data, "validation" the tenth before it, and "train" the tenth
before that. Where these are small, "train2" and "train3" hold out the tenths before, so that the
ranker has more to learn from; see splitting.with_earlier.

A cut is one moment for all users ("time") or a position in each user's own history ("user"). The
time split is right where users come back. Where most users come only once, it evaluates only the
few who return, so "auto" takes the user split there, unless tracks have short lifetimes: with the
user split the model would then learn from listens of others that are later than the holdout. Where
tracks have short lifetimes, the holdout covers only half the lifetime of a track, because otherwise
most of its tracks would be unknown to the model.

One user's listens weigh at most a bounded share where cuts and shares are chosen (see data/bounds).
What listeners like and dislike is known up to the cut, or, in a split by user, up to the user's
last listen before it. A track that a user dislikes at the end of the holdout is not in it.

Suspicious accounts are found in each window again, by its past alone; they are not in its listens,
and suspicious.parquet names them. A holdout is also without the accounts that are suspicious by all
listens. With --suspicious keep nobody is left out.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import storage, tables
from jobs.contract.names import EARLIER, SPLIT, WINDOWS
from jobs.contract.results import Split
from jobs.contract.storage import JobError
from jobs.contract.text_ids import TRACK_IDS, USER_IDS
from jobs.data import bounds, feedback, listens, songs, splitting
from jobs.data.accounts import LEAVE_OUT, RULES, Habits
from jobs.data.feedback import DISLIKE, EVER, KINDS, Feedback
from jobs.data.listens import Listens
from jobs.data.splitting import Window, sample
from jobs.metrics.accuracy import marked
from jobs.runtime import cli, memory, parallel

MOST_DAYS = 36_500  # of a gap


def write_window(
    work: Path,
    name: str,
    sampled: np.ndarray,
    data: Listens,
    window: Window,
    suspicious: pa.Table,
    said: Feedback | None,
    split: Split,
) -> None:
    """Write a window: listens, users, items, songs, suspicious accounts, holdout, split.json.

    `sampled` (listens of WORK,) bool marks the listens that `data` and `window` consist of; `said`
    is what their users like and dislike. Where there are such files, it gets feedback.parquet and
    shares.parquet too.
    """
    folder = work / "windows" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in (USER_IDS, TRACK_IDS):  # of the holdout too, so all of WORK's
        if (work / file).exists():
            _link(work / file, folder / file)
        else:
            (folder / file).unlink(missing_ok=True)
    with (
        tables.writer(tables.LISTENS, folder) as keep,
        tables.writer(tables.HOLDOUT, folder) as hold,
    ):
        seen = start = 0
        for batch in tables.batches(tables.LISTENS, work, tables.LISTENS.schema.names):
            kept = sampled[seen : seen + len(batch)]
            table = pa.Table.from_batches([batch]).filter(pa.array(kept))
            rows = slice(start, start + len(table))
            keep(table.filter(pa.array(window.past[rows])))
            hold(table.filter(pa.array(window.holdout[rows])))
            seen, start = seen + len(batch), rows.stop
    _write_users(folder, data, window.past)
    _write_shares(work, folder, sampled, window.past)
    _write_feedback(folder, data, said and said.before(known_until(data, window)))
    tables.write(tables.SUSPICIOUS, folder, suspicious)
    _link(work / tables.ITEMS.file, folder / tables.ITEMS.file)
    _write_songs(work, folder, data, window.past)
    storage.write_json(folder / SPLIT, split)


def without_suspicious(
    data: Listens, window: Window, left_out: np.ndarray, rule: str
) -> tuple[Window, pa.Table]:
    """Return a window without suspicious accounts, and those accounts, found by its past alone.

    left_out (users,) bool are accounts that are suspicious by all listens. What is known of them
    later than the cut may not change the past, so they are only left out of the holdout.
    """
    habits = Habits()
    start = 0
    for block in data.blocks():
        past = window.past[start : start + len(block.item)]
        habits.add(block.user_ids[block.user[past]], block.item[past], block.at[past].astype(int))
        start += len(block.item)
    table = habits.table(rule)
    found = np.isin(data.user_ids, table.filter(table["left_out"])["user_id"].to_numpy())
    if not (found | left_out).any():
        return window, table
    past = window.past & ~found[data.user]
    holdout = window.holdout & ~(found | left_out)[data.user]
    return replace(window, past=past, holdout=holdout), table


def known_until(data: Listens, window: Window) -> np.ndarray:
    """Return the moment up to which a window knows what each user says, (users,) in seconds.

    It is the cut, also for users without a listen before it, or, where that is a place in each
    history, just after the last listen before it.
    """
    if window.begins is not None:
        return np.full(data.shape[0], window.begins)
    last = np.full(data.shape[0], -1, np.int64)
    last[data.user[window.past]] = data.at[window.past]  # numpy keeps the last, thus latest one
    return last + 1


def without_disliked(
    data: Listens, window: Window, said: Feedback, shown: np.ndarray | None
) -> Window:
    """Return a window without the held-out listens of tracks that the user dislikes at its end.

    `shown` are the tracks under which songs are shown, (tracks,) or None.
    """
    if window.ends is None:
        later = ~(window.past | window.holdout)
        end = np.full(data.shape[0], EVER)
        rows = np.flatnonzero(later)[::-1]  # so that numpy keeps the first one
        end[data.user[rows]] = data.at[rows]
    else:
        end = np.full(data.shape[0], window.ends)
    disliked = said.before(end).standing(DISLIKE, data.shape, shown)
    item = data.item if shown is None else shown[data.item]
    rows = np.flatnonzero(window.holdout)
    holdout = window.holdout.copy()
    holdout[rows] = ~marked(disliked, data.user[rows], item[rows])
    return replace(window, holdout=holdout)


def _write_shares(work: Path, folder: Path, sampled: np.ndarray, past: np.ndarray) -> None:
    """Write shares.parquet of a window's past, if WORK has that file."""
    if not (work / tables.SHARES.file).exists():
        (folder / tables.SHARES.file).unlink(missing_ok=True)
        return
    of_sample = tables.read(tables.SHARES, work).filter(pa.array(sampled))
    tables.write(tables.SHARES, folder, of_sample.filter(pa.array(past)))


def _write_feedback(folder: Path, data: Listens, known: Feedback | None) -> None:
    """Write feedback.parquet of a window, or remove an older one if nothing is known."""
    columns = tables.FEEDBACK.schema.empty_table()
    if known is not None:
        columns = pa.table(
            {
                "user_id": data.user_ids[known.user],
                "track_id": data.track_ids[known.track],
                "at": known.at.astype("datetime64[us]"),
                "kind": pa.array(KINDS).take(pa.array(known.kind)),
            }
        )
    feedback.write(folder, columns)


def _write_users(folder: Path, data: Listens, past: np.ndarray) -> None:
    counts = np.bincount(data.user[past], minlength=len(data.user_ids))
    last = np.zeros(len(data.user_ids), np.int64)
    last[data.user[past]] = data.at[past]  # of equal indices numpy keeps the last, thus latest one
    users = np.flatnonzero(counts)
    table = {
        "user_id": data.user_ids[users],
        "user_id_enc": np.arange(len(users), dtype=np.int32),
        "listens": counts[users],
        "last_at": pc.cast(pa.array(last[users] * 1_000_000), tables.TIME),
    }
    tables.write(tables.USERS, folder, pa.table(table))


def _write_songs(work: Path, folder: Path, data: Listens, past: np.ndarray) -> None:
    """Write songs.parquet: WORK's songs, each shown under the id that is best known in the past."""
    song = songs.shown(work, data.track_ids)
    if song is None:
        (folder / tables.SONGS.file).unlink(missing_ok=True)
        return
    shared, start = songs.shared(song), 0
    heard_by = np.zeros(len(song), np.int64)
    for block in data.blocks():
        kept = past[start : start + len(block.item)]
        heard_by += songs.listeners(block.user[kept], block.item[kept], shared)
        start += len(kept)
    songs.write(folder, data.track_ids, song, heard_by)


def _link(source: Path, target: Path) -> None:
    with storage.atomic(target) as temporary:
        storage.link(source, temporary)


def main(argv: Sequence[str]) -> str:
    """Make windows/train, validation and test, and earlier ones if these are small."""
    parser = cli.parser(__doc__)
    parser.add_argument("--split", choices=["auto", "time", "user"], default="auto")
    parser.add_argument("--share", type=float, help="share of the listens held out")
    parser.add_argument("--gap", type=float, default=0, help="days between past and holdout")
    parser.add_argument(
        "--suspicious", choices=RULES, default=LEAVE_OUT, help="as the same option of jobs.prepare"
    )
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("windows", args))
    if args.share is not None and not 0 < args.share <= 0.25:
        raise JobError(f"--share is {args.share}: expected more than 0 and at most 0.25")
    if not 0 <= args.gap <= MOST_DAYS:
        raise JobError(f"--gap is {args.gap}: expected 0 to {MOST_DAYS:,} days")
    whole = listens.load(args.work, by_song=False)
    left_out = listens.left_out(args.work, whole.user_ids)
    weights = bounds.user_weights(np.diff(whole.starts) * ~left_out)
    users = sample(whole, weights)
    data = whole if users.all() else whole.of_users(np.flatnonzero(users))
    left_out = left_out[users]
    weights = bounds.user_weights(np.diff(data.starts) * ~left_out)
    choice = splitting.choose(data, args.split, args.share, args.gap, weights)
    split, reason = choice.split, choice.reason
    if split == "user" and args.gap:
        raise JobError(
            f"--gap is for the time split, but this is the user split ({reason}): "
            f"leave --gap out, or add --split time"
        )
    cuts = splitting.with_earlier(choice, data, args.gap, weights)
    said = feedback.read(args.work, data.user_ids, data.track_ids)
    if said is not None:
        shown = songs.shown(args.work, data.track_ids)
        cuts = [without_disliked(data, part, said, shown) for part in cuts]
    cleaned = [without_suspicious(data, part, left_out, args.suspicious) for part in cuts]
    named = dict(zip(reversed((*EARLIER, *WINDOWS)), cleaned, strict=False))
    for name in EARLIER:  # those of an earlier run
        if name not in named or not (named[name][0].past.any() and named[name][0].holdout.any()):
            named.pop(name, None)
            shutil.rmtree(args.work / "windows" / name, ignore_errors=True)
    for name, (window, _) in named.items():
        if not (window.past.any() and window.holdout.any()):
            raise JobError(
                f"the {split} split leaves the window {name!r} without a past or a holdout: "
                f"there are {len(data.user):,} listens; give more of them, or another --split"
            )
    sampled = np.repeat(users, np.diff(whole.starts))
    for name, (window, suspicious) in named.items():
        facts = Split(
            split=split,
            reason=reason,
            share=choice.share,
            gap_days=args.gap,
            users=float(users.mean()),
            cut=window.cut,
        )
        write_window(args.work, name, sampled, data, window, suspicious, said, facts)
    held = ", ".join(f"{name} {int(window.holdout.sum()):,}" for name, (window, _) in named.items())
    of_sample = "" if users.all() else f" of a sample of {users.mean():.1%} of the users"
    return f"{split} split ({reason}); listens{of_sample} held out: {held}"


if __name__ == "__main__":
    cli.run(main)
