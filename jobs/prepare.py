"""Check, encode and sort the input files into listens, users, items, songs and quarantine.

    python -m jobs.prepare --data IN --work WORK [--events FILE] [--forgotten FILE]

IN has interactions and, if they are known, tracks and catalog_names: each a file of parquet, CSV or
JSON lines, or a folder of such parts. --columns, --time-unit, --origin, --delimiter and --no-header
say how they are written, and --check only shows how they are understood. A row that can't be used
goes to WORK/quarantine.parquet with the reason. When a file can't be read, or more than
--max-bad-share of the interactions are bad, WORK stays as it was.

A listen that is over a day later than now has a wrong time, and so has one that is far from all
others. The middle 96 % of the listens lie between two days. A time is far if it is before the first
or after the last of them by more than --far times the number of days between them, which counts as
at least 30. Both kinds go to the quarantine, and a warning counts them. If
more than --max-bad-share of the interactions are later than now, the clock of this machine is
probably wrong; the job stops then. --now sets the moment, and WORK/clock.json records it.

Ids of users and of tracks are whole numbers from 0 to 2^53 - 1, or text, which is used as it
stands. --user-ids and --track-ids say which. By default they are as in WORK before. In a new WORK
they are text if more than --max-bad-share of them are not such numbers; otherwise rows with other
ids are bad. If ids were text in WORK and are whole numbers now, the job stops and names the option.

A row of the interactions may be another than a listen: a column `kind` says listen, skip, like,
unlike, dislike or undislike, and played_share, or played_ms and the tracks' duration_ms, say how
much was played. A listen of less than --skip-under of the track is a skip. Listens go to
listens.parquet, and likes and dislikes to feedback.parquet; kinds.json counts all of them. See
data/kinds.

--events names a file with more interactions, as jobs.export_events writes them. Its rows do
not count for --max-bad-share: a listen of a track that tracks.parquet does not have yet, and one
that is also in interactions.parquet, only go to the quarantine.

What users did before they asked the service to forget them is left out and is not kept in the
quarantine. The times of these requests are in WORK/state/forgotten.db, or in the file that
--forgotten names.

Two tracks with the same artists and, but for marks such as "(Remastered 2011)", the same title are
one song (see data/songs). WORK/songs.parquet names them, and all later jobs count their listens
together and list one of them. --same-song off leaves every track a song of its own.

Accounts that do not play as a listener does (see jobs/data/accounts) are written to
WORK/suspicious.parquet. By default they are left out of what all users get, such as the top list;
they still get lists of their own. --suspicious keep counts them as all others.

The rows are sorted in memory or, where it is too small for all of them, in temporary files of WORK
that nobody else sees. WORK then needs 44 to 60 bytes of free space for each row.

A listen without a readable track_seq gets the number after that of the listen before it in the
user's history, and 1 if it is the first.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import journal, storage, tables, text_ids
from jobs.contract.ids import INTEGER, TEXT
from jobs.contract.names import CLOCK, FORGOTTEN, JOURNAL, KINDS, STATE
from jobs.contract.results import Clock, KindsOfRows
from jobs.contract.storage import JobError
from jobs.contract.text_ids import FolderIds, Kinds
from jobs.data import (
    accounts,
    clock,
    equal_rows,
    feedback,
    id_columns,
    input_check,
    input_options,
    kinds,
    raw_columns,
    songs,
    tombstones,
)
from jobs.data.allocator import Allocator
from jobs.data.catalogue import find as find_inputs
from jobs.data.cleaning import (
    FAR_TIME,
    LATER_THAN_NOW,
    LOST_LINK,
    NOT_YET,
    REASONS,
    SAME_ROW,
    UNKNOWN_TRACK,
    ReadListens,
    read_listens,
    read_names,
    read_tracks,
    share_not_integer,
)
from jobs.data.histories import Listens, histories
from jobs.data.id_columns import AUTO
from jobs.data.kinds import SortedOut
from jobs.data.needed_memory import allocator_for
from jobs.data.quarantine import bad_rows, stop_if_bad
from jobs.data.tombstones import Tombstones
from jobs.inputs import files
from jobs.inputs.files import Input
from jobs.runtime import cli


def main(argv: Sequence[str]) -> str:
    """Make the files; the summary counts what was kept and what was left out."""
    options = arguments(argv)
    if options.check:
        return check(options)
    allocator = allocator_for(options)
    tracks, catalogue, interactions, note = find_inputs(options.data, options.readings)
    played = [interactions]
    if options.events:
        played.append(events_of(options, tracks))
        raw_columns.check(played[-1])
    kept = id_columns.kept_kinds(options.work)
    track_kind = id_columns.kind_of_tracks(tracks, kept, options)
    names, bad_names = read_names(catalogue, track_kind)
    items, track_texts, bad_tracks = read_tracks(tracks, names, track_kind)
    song = (
        songs.same_songs(items) if options.same_song == "on" else items["track_id_enc"].to_numpy()
    )
    to_forget = tombstones.read(options.forgotten or options.work / STATE / FORGOTTEN)
    (listens, bad, told), user_texts, ends = read_played(
        options,
        kept and kept.users,
        partial(read_listens, played, items, to_forget, track_texts, allocator),
        interactions,
    )
    user_kind = INTEGER if user_texts is None else TEXT
    id_columns.check_kept("user_id", kept and kept.users, user_kind, options.user_ids, options.work)
    check_state(to_forget, Kinds(user_kind, track_kind), options)
    forgotten = (listens.user < 0) & (bad == 0)
    of_file, of_events = np.split(bad, ends[:1])  # views
    of_events[of_events == REASONS.index(UNKNOWN_TRACK)] = REASONS.index(NOT_YET)
    codes = {catalogue: bad_names, tracks: bad_tracks}
    codes = {source: bad for source, bad in codes.items() if source.parts}
    codes |= dict(zip(played, (of_file, of_events), strict=False))
    clock.mark_later_than_now(listens, bad, options.now)
    stop_if_clock_is_wrong(played[0], of_file, options)
    bounds = clock.mark_far(listens, bad, len(of_file), options.far)
    asked = options.user_ids, options.track_ids
    stop_if_bad(played[0], of_file, options.max_bad_share, asked)
    other = told and kinds.sort_out(
        listens, told, durations_of(items), options.skip_under, allocator
    )
    plays = equal_rows.are_plays(listens, len(of_file), options.equal_rows)
    if plays and options.equal_rows == "auto":
        equal_rows.stop_if_doubled(listens, len(of_file), played[0], allocator)
    stop_if_no_listen(listens, other, forgotten, played[0])
    try:
        known = user_texts and id_columns.number_users(
            listens, user_texts, other and other.feedback
        )
        n_plays = len(of_file) if plays else 0
        ids = FolderIds(known, track_texts)
        result = write(
            options, Prepared(items, song, listens, other, bad, codes, n_plays, ids), allocator
        )
        tombstones.note(options.work, to_forget)
        storage.write_json(options.work / CLOCK, record_of_times(bad, bounds, options))
    except OSError as error:
        raise JobError(
            f"{options.work} can't be written ({error}): check disk space and permissions, "
            "or pass another --work"
        ) from None
    for source in codes:
        for warning in source.notes.values():
            print(f"prepare: warning: {warning}", file=sys.stderr)
    warn_of_times(bad, bounds, options)
    id_columns.warn_of_text(ids, kept, options)
    if says := result.habits.sentence(options.suspicious):
        print(
            f"prepare: warning: {says}: see {options.work / tables.SUSPICIOUS.file}",
            file=sys.stderr,
        )
    parts = [
        f"{options.data}: {result.listens:,} listens of {result.users:,} users and "
        f"{result.heard:,} tracks",
        f"{result.shared:,} tracks are one song with another" if options.same_song == "on" else "",
        about_kinds(other) if other else "",
        f"{sum(map(np.count_nonzero, codes.values())):,} rows quarantined{lost_links(bad_tracks)}",
        note,
        f"{forgotten.sum():,} listens of forgotten users left out" if forgotten.any() else "",
        summary_of_events(of_events, forgotten[len(of_file) :], tracks) if options.events else "",
    ]
    return "; ".join(filter(None, parts))


def stop_if_no_listen(
    listens: Listens, other: SortedOut | None, forgotten: np.ndarray, source: Input
) -> None:
    """Raise JobError if nothing is left that trains: say which of the rows `source` has instead."""
    if (listens.user >= 0).any():
        return
    if other and not forgotten.all():
        raise JobError(
            f"{source.path} holds no listen, only {about_kinds(other)}: add listens, or "
            "pass a lower --skip-under"
        )
    raise JobError(
        f"every usable listen in {source.path} is of a user who asked to be forgotten: "
        "add listens of other users"
    )


def durations_of(items: pa.Table) -> np.ndarray | None:
    """Return the durations of the tracks (n,) in milliseconds; None if no file has them."""
    if kinds.DURATION not in items.column_names:
        return None
    durations: np.ndarray = items[kinds.DURATION].to_numpy()
    return durations


def about_kinds(other: SortedOut) -> str:
    """Return how many rows are no listens, by what they are.

    >>> nothing = dict.fromkeys(feedback.KINDS, 0)
    >>> about_kinds(SortedOut(nothing | {"skip": 7, "like": 1}, 5, 0, None, None, None))
    '7 skips, 1 likes'
    """
    found = [f"{n:,} {kind}s" for kind, n in other.counts.items() if n and kind != "listen"]
    return ", ".join(found) or "no skips, likes or dislikes"


def read_played(
    options: argparse.Namespace,
    kept: str | None,
    read: Callable[[str], ReadListens],
    source: Input,
) -> ReadListens:
    """Return what `read` returns for the kind of the user ids, which `source` has.

    With --user-ids auto the kind is guessed. If it turns out to be the other one, all is read
    again.
    """
    kind = id_columns.asked_kind(options.user_ids, kept)
    if kind != AUTO:
        return read(kind)
    least = 0 if kept == TEXT else options.max_bad_share
    guessed = id_columns.likely_kind(source, least)
    found = read(guessed)
    (listens, bad, _), texts, (n, *_) = found
    if texts is None:
        share = share_not_integer(bad[:n])
    else:
        share = id_columns.share_of_text(listens, texts, n)
    kind = TEXT if share > least else INTEGER
    return found if kind == guessed else read(kind)


def check_state(to_forget: Tombstones, kinds: Kinds, options: argparse.Namespace) -> None:
    """Raise JobError if the service's events or tombstones in WORK have ids of another kind."""
    path, user_kind = options.work / STATE / JOURNAL, kinds.users
    found = journal.kinds_of_events(path)
    for column, kind, of_events in zip(id_columns.OPTIONS, kinds, found or kinds, strict=True):
        if kind != of_events:
            raise JobError(
                f"in {path} each {column} is {of_events}, but here it is {kind}: pass "
                f"{id_columns.OPTIONS[column]} {of_events}, or move the service's state elsewhere"
            )
    if to_forget.kind not in (None, user_kind):
        raise JobError(
            f"the users of {options.forgotten or options.work / STATE / FORGOTTEN} have "
            f"{to_forget.kind} ids, but here user ids are {user_kind}: pass "
            f"--user-ids {to_forget.kind}, or move the service's state elsewhere"
        )


def events_of(options: argparse.Namespace, tracks: Input) -> Input:
    """Return the events, which are compared with the tracks."""
    return replace(files.at(options.events, files.INTERACTIONS), tracks=tracks.path.name)


def check(options: argparse.Namespace) -> str:
    """Print how the inputs are understood. Nothing is written."""
    inputs = find_inputs(options.data, options.readings, read_listens=False)
    events = events_of(options, inputs.tracks) if options.events else None
    for line in input_check.check_inputs(inputs, events, options):
        print(line, flush=True)
    return "nothing was written: run it without --check"


def lost_links(bad_tracks: np.ndarray) -> str:
    """Return how many tracks lack artists or genres that can't be read, by the rows' codes (n,)."""
    n = np.count_nonzero(bad_tracks == REASONS.index(LOST_LINK))
    return f" ({n:,} of them tracks that lack an artist or a genre that is not an id)" if n else ""


def stop_if_clock_is_wrong(source: Input, bad: np.ndarray, options: argparse.Namespace) -> None:
    """Raise JobError if more listens than --max-bad-share are later than now."""
    later = np.count_nonzero(bad == REASONS.index(LATER_THAN_NOW))
    if later > options.max_bad_share * len(bad):
        raise JobError(
            f"{source.path}: {later:,} of {len(bad):,} listens are over "
            f"a day later than now, which is {options.now.isoformat(timespec='seconds')}: correct "
            "the clock of this machine, or pass the right moment as --now"
        )


def record_of_times(bad: np.ndarray, bounds: clock.Bounds, options: argparse.Namespace) -> Clock:
    """Return what clock.json records: the moment of the run, and which times could be right."""
    later, far = (np.count_nonzero(bad == REASONS.index(r)) for r in (LATER_THAN_NOW, FAR_TIME))
    return Clock(options.now.replace(microsecond=0), str(bounds), int(later), int(far))


def warn_of_times(bad: np.ndarray, bounds: clock.Bounds, options: argparse.Namespace) -> None:
    """Print a line on stderr for each kind of wrong times that were left out, and if all may be."""
    if options.time_unit and not options.origin and bounds.last < clock.NO_LOGS_BEFORE:
        print(
            f"prepare: warning: nearly all listens are in {bounds}, which is so if times are "
            f"counted in a unit that is too small: look at --time-unit {options.time_unit}",
            file=sys.stderr,
        )
    for reason, expected in (
        (LATER_THAN_NOW, f"now is {options.now.isoformat(timespec='seconds')}"),
        (FAR_TIME, f"listens from {bounds} are near enough"),
    ):
        if n := np.count_nonzero(bad == REASONS.index(reason)):
            print(
                f"prepare: warning: {n:,} rows left out, where {reason} ({expected}): see "
                f"{options.work / tables.QUARANTINE.file}",
                file=sys.stderr,
            )


def summary_of_events(bad: np.ndarray, forgotten: np.ndarray, tracks: Input) -> str:
    """Return what became of the events, by their codes (n,) and whether each is to be forgotten.

    The five numbers add up to all events.
    """
    codes = bad[~forgotten]
    kept, aside, known = (np.sum(codes == REASONS.index(r)) for r in ("", NOT_YET, SAME_ROW))
    flawed = len(codes) - kept - aside - known
    left = int(forgotten.sum())
    return (
        f"of {len(bad):,} events {kept:,} were taken in, {known:,} were there already, "
        f"{aside:,} wait for tracks that {tracks.path.name} doesn't know, {flawed:,} are bad"
        + (f" and {left:,} are of forgotten users" if left else "")
    )


class Prepared(NamedTuple):
    """What is written: the content of the input files, checked and encoded."""

    items: pa.Table
    song: np.ndarray  # the number of each track's song, (tracks,)
    listens: Listens
    other: SortedOut | None  # the rows that are no listens
    bad: np.ndarray  # the codes of the listens, (rows,)
    codes: dict[Input, np.ndarray]  # the codes of each file's rows
    n_plays: int  # in so many of the first rows, equal rows are plays
    ids: FolderIds


class Written(NamedTuple):
    """What is in the files, for the summary: numbers of rows, and what accounts do."""

    listens: int
    users: int
    heard: int  # tracks with a listen
    shared: int  # tracks that are one song with another
    habits: accounts.Habits


def write(options: argparse.Namespace, prepared: Prepared, allocator: Allocator) -> Written:
    """Write the files.

    A listen that equals an earlier one gets its code here, but for the first n_plays rows. Where
    that makes too many interactions bad, nothing is written. `allocator` makes the arrays that are
    needed to sort.
    """
    items, song, listens, other, bad, codes, n_plays, ids = prepared
    track_ids = items["track_id"].to_numpy()
    heard = np.zeros(len(track_ids), bool)
    shared, heard_by = songs.shared(song), np.zeros(len(track_ids), np.int64)
    parts, habits = [], accounts.Habits()
    share = other and other.share
    with (
        tables.writer(tables.LISTENS, options.work, ids) as append,
        writer_of_shares(options.work, share) as append_share,
    ):
        for part, repeated, shares in histories(listens, allocator, n_plays, share):
            if ids.users is not None:
                part = part._replace(user=ids.users.numbers[part.user])
            bad[repeated] = REASONS.index(SAME_ROW)
            heard[part.track] = True
            if shared.any():
                heard_by += songs.listeners(part.user, part.track, shared)
            append(listens_table(part, track_ids))
            if shares is not None:
                append_share(pa.table({"played_share": shares}))
            parts.append(users_table(part))
            habits.add(part.user, part.track, part.time // 1_000_000)
        played = next(source for source in codes if source.kind == files.INTERACTIONS)
        asked = options.user_ids, options.track_ids
        stop_if_bad(played, codes[played], options.max_bad_share, asked)
        # Until all files are new, no job may find the old listens beside them.
        (options.work / tables.LISTENS.file).unlink(missing_ok=True)
        text_ids.write(options.work, ids)
        tables.write(tables.ITEMS, options.work, items)
        n_shared = songs.write(options.work, track_ids, song, heard_by)
        users = pa.concat_tables(parts)
        tables.write(tables.USERS, options.work, encoded(users))
        write_other(options, other, ids, track_ids)
        tables.write(tables.SUSPICIOUS, options.work, habits.table(options.suspicious))
        with tables.writer(tables.QUARANTINE, options.work) as append_bad:
            for source in sorted(codes, key=lambda source: source.path.name):
                for rows in bad_rows(source, codes[source]):
                    append_bad(rows)
    n_listens = pc.sum(users["listens"]).as_py()
    return Written(n_listens, len(users), int(heard.sum()), n_shared, habits)


@contextmanager
def writer_of_shares(work: Path, share: np.ndarray | None) -> Iterator[Callable[[pa.Table], None]]:
    """Yield what writes shares.parquet, which is removed if no share is known."""
    if share is None:
        yield lambda rows: None
        (work / tables.SHARES.file).unlink(missing_ok=True)
        return
    with tables.writer(tables.SHARES, work) as append:
        yield append


def write_other(
    options: argparse.Namespace, other: SortedOut | None, ids: FolderIds, track_ids: np.ndarray
) -> None:
    """Write feedback.parquet and kinds.json, or remove those of an earlier run."""
    if other is None:
        for name in (tables.FEEDBACK.file, KINDS):
            (options.work / name).unlink(missing_ok=True)
        return
    said = other.feedback
    user = said.user if ids.users is None else ids.users.numbers[said.user]
    order = np.lexsort((said.seq, said.time, said.track, user))  # stable: ties keep file order
    columns = {
        "user_id": user[order].astype(np.int64),
        "track_id": track_ids[said.track[order]],
        "at": said.time[order].astype("datetime64[us]"),
        "kind": pa.array(feedback.KINDS).take(pa.array(other.kind[order])),
    }
    feedback.write(options.work, pa.table(columns))
    content = KindsOfRows(other.counts, options.skip_under, other.under, other.shares)
    storage.write_json(options.work / KINDS, content)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the inputs")
    parser.add_argument("--events", type=Path, help="more interactions, by jobs.export_events")
    parser.add_argument(
        "--forgotten", type=Path, help="whom to forget (default: WORK/state/forgotten.db)"
    )
    parser.add_argument(
        "--max-bad-share",
        type=float,
        default=0.1,
        help="stop when more of the interactions than this are bad, 0 to 1 (default: 0.1)",
    )
    parser.add_argument(
        "--equal-rows",
        choices=equal_rows.RULES,
        default="auto",
        help="what equal interactions are (default: plays where all times are whole minutes and "
        "there is no track_seq, else copies of one play)",
    )
    parser.add_argument(
        "--skip-under",
        type=float,
        default=kinds.SKIP_UNDER,
        help="a listen of which a smaller share of the track was played is a skip, 0 to 1 "
        f"(default: {kinds.SKIP_UNDER})",
    )
    for option, name in (("--user-ids", "users"), ("--track-ids", "tracks")):
        parser.add_argument(
            option,
            choices=id_columns.KINDS,
            default=AUTO,
            help=f"of which kind ids of {name} are (default: as they were in WORK; text if more "
            "than --max-bad-share of them are not whole numbers from 0 to 2^53 - 1)",
        )
    parser.add_argument(
        "--same-song",
        choices=("on", "off"),
        default="on",
        help="whether tracks with the same artists and title are one song (default: on)",
    )
    parser.add_argument(
        "--now",
        type=clock.moment,
        help="what counts as now, as 2026-05-01T12:00 in UTC (default: now)",
    )
    parser.add_argument(
        "--far",
        type=float,
        default=clock.FAR,
        help="how far from all others a time is wrong, in distances of the middle 96 %% "
        f"(default: {clock.FAR:g}; inf: no time is)",
    )
    parser.add_argument(
        "--suspicious",
        choices=accounts.RULES,
        default=accounts.LEAVE_OUT,
        help="whether accounts that do not play as a listener does count in what all users get",
    )
    input_options.add(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="only say how the files are understood, and what of a sample would be quarantined",
    )
    options = parser.parse_args(argv)
    try:
        options.readings = input_options.readings(options)
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    options.now = options.now or datetime.now(UTC)
    if not options.far >= 1:
        parser.error(f"--far is {options.far}, expected at least 1")
    if not 0 <= options.max_bad_share <= 1:
        parser.error(f"--max-bad-share is {options.max_bad_share}, expected 0 to 1")
    if not 0 <= options.skip_under <= 1:
        parser.error(f"--skip-under is {options.skip_under}, expected 0 to 1")
    if options.events and not options.events.is_file():
        raise JobError(f"{options.events} is no file: run python -m jobs.export_events")
    if options.forgotten and not options.forgotten.is_file():
        raise JobError(
            f"{options.forgotten} is no file: name forgotten.db in the service's RECO_STATE"
        )
    return options


def listens_table(listens: Listens, track_ids: np.ndarray) -> pa.Table:
    """Return sorted listens as rows of listens.parquet."""
    columns = (listens.user, track_ids[listens.track], listens.time, listens.seq)
    arrays = [pa.array(c.astype(np.int64)) for c in columns]
    return pa.table(arrays, names=tables.LISTENS.schema.names)


def users_table(listens: Listens) -> pa.Table:
    """Return the users of sorted listens, without user_id_enc."""
    starts = np.flatnonzero(np.append(True, np.diff(listens.user) != 0))
    ends = np.append(starts[1:], len(listens.user))
    columns = {
        "user_id": listens.user[starts].astype(np.int64),
        "listens": (ends - starts).astype(np.int32),
        "last_at": listens.time[ends - 1].astype("datetime64[us]"),
    }
    return pa.table(columns)


def encoded(users: pa.Table) -> pa.Table:
    """Return users, by user_id, with their position as user_id_enc."""
    return users.append_column("user_id_enc", pa.array(np.arange(len(users), dtype=np.int32)))


if __name__ == "__main__":
    cli.run(main)
