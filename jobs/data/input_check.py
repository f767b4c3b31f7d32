"""Say how the user's files are understood, and what of a sample would go to the quarantine."""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jobs.contract.ids import TEXT
from jobs.contract.text_ids import Kinds, TextIds
from jobs.data import clock, id_columns, raw_columns, raw_files
from jobs.data.catalogue import Inputs
from jobs.data.cleaning import (
    LATER_THAN_NOW,
    REASONS,
    Ids,
    check,
    read_names,
    read_tracks,
    settle_tracks,
)
from jobs.data.id_columns import AUTO, Texts
from jobs.data.ids import Encoder
from jobs.data.quarantine import bad_rows, json_lines, reasons_of
from jobs.data.raw_files import Sample
from jobs.data.tombstones import Tombstones
from jobs.inputs import sizes
from jobs.inputs.files import CSV, PARQUET, Input

SAMPLE = 200_000  # rows of listens that are looked at, from all parts together
SHOWN_ROWS, SHOWN_PARTS, SHOWN_REASONS, SHOWN_CHARACTERS = 3, 3, 10, 150
NOTHING = np.zeros(0, np.int64)
NO_ONE = Tombstones(NOTHING, NOTHING, NOTHING)


class BadRow(NamedTuple):
    """A row that would be quarantined."""

    reason: str
    place: str  # its number, and its part if there are several
    content: str


class Known(NamedTuple):
    """The tracks that are known, by their numbers or texts; neither if any may be."""

    numbers: Encoder | None = None
    texts: TextIds | None = None


def check_inputs(
    inputs: Inputs, events: Input | None, options: argparse.Namespace
) -> Iterator[str]:
    """Yield lines about the inputs, which catalogue.find has found.

    Raises JobError if one of them can't be used at all.
    """
    kinds = _kinds(inputs, options)
    names, bad_names = read_names(inputs.names, kinds.tracks)
    known = Known()
    if inputs.tracks.parts:
        items, texts, bad_tracks = read_tracks(inputs.tracks, names, kinds.tracks)
        known = Known(texts=texts) if texts else Known(Encoder.of(items["track_id"].to_numpy()))
        yield from _about(inputs.tracks)
        yield from _about_bad(_whole(inputs.tracks, bad_tracks), "all rows")
    if inputs.names.parts:
        yield from _about(inputs.names)
        yield from _about_bad(_whole(inputs.names, bad_names), "all rows")
    for source in filter(None, (inputs.played, events)):
        yield from _about(source)
        sample = [*raw_files.sample(source, SAMPLE)]
        n = sum(len(each.batch) for each in sample)
        each_part = "the file" if len(source.parts) == 1 else "each part"
        what = f"a sample of {n:,} rows from {each_part}"
        yield from _about_bad([*_sampled(source, sample, known, kinds, options.now)], what)
    if inputs.note:
        yield f"There is {inputs.note}."
    if kinds != Kinds():
        yield f"Ids of users are {kinds.users}, and those of tracks {kinds.tracks}."
    yield "Equal rows, and times that are far from all others, are only found among all rows."


def _kinds(inputs: Inputs, options: argparse.Namespace) -> Kinds:
    """Return of which kinds ids are, those of users by the first rows."""
    kept = id_columns.kept_kinds(options.work)
    tracks = inputs.tracks if inputs.tracks.parts else inputs.played
    track_kind = id_columns.asked_kind(options.track_ids, kept and kept.tracks)
    if track_kind == AUTO and inputs.tracks.parts:
        track_kind = id_columns.kind_of_tracks(tracks, kept, options)
    guess = partial(id_columns.likely_kind, inputs.played, options.max_bad_share)
    user_kind = id_columns.asked_kind(options.user_ids, kept and kept.users)
    return Kinds(
        guess("user_id") if user_kind == AUTO else user_kind,
        guess("track_id") if track_kind == AUTO else track_kind,
    )


def _about(source: Input) -> Iterator[str]:
    """Yield lines on the files, rows and columns of an input, and its first rows."""
    part, n = source.parts[0], sizes.rows(source)
    size = sum(each.path.stat().st_size for each in source.parts)
    about = "" if part.form == PARQUET else "about "
    parts = "" if len(source.parts) == 1 else f"{len(source.parts):,} parts of "
    yield f"{source.path}: {parts}{part.form}, {_bytes(size)}, {about}{n:,} rows"
    if len(source.parts) > 1:
        shown = ", ".join(each.name for each in source.parts[:SHOWN_PARTS])
        yield f"  parts: {shown}{', ...' if len(source.parts) > SHOWN_PARTS else ''}"
    columns, others = raw_columns.describe(source)
    called = source.reading.columns
    for name, dtype in columns.items():
        kind = "text" if part.form == CSV else dtype
        yield f"  {name}: {kind}" + (f", called {called[name]}" if name in called else "")
    if others:
        yield f"  not read: {', '.join(others)}"
    for each in raw_files.sample(source, SHOWN_ROWS):
        rows = _understood(source, each.batch.slice(0, SHOWN_ROWS))
        yield from (f"  {_cut(row)}" for row in json_lines(rows))
        break


def _understood(source: Input, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows with times as prepare understands them, null where it can't."""
    if "started_at" not in batch.schema.names:
        return batch
    reading, place = source.reading, batch.schema.get_field_index("started_at")
    values, flaws = raw_files.times(batch["started_at"], reading.unit, reading.origin)
    times = pa.array(values, pa.timestamp("us"), mask=flaws > 0)
    return batch.set_column(place, "started_at", times)


def _whole(source: Input, codes: np.ndarray) -> list[BadRow]:
    """Return the bad rows of an input, those with a code (n,)."""
    tables = (table.to_pylist() for table in bad_rows(source, codes))
    return [
        BadRow(row["reason"], f"row {row['row']:,} of {row['file']}", row["content"])
        for row in chain.from_iterable(tables)
    ]


def _sampled(
    source: Input, sample: Sequence[Sample], known: Known, kinds: Kinds, now: datetime
) -> Iterator[BadRow]:
    """Yield the bad rows of a sample of listens, as far as each can be judged alone.

    Without known tracks, none is unknown.
    """
    latest, reasons = clock.latest_right(now), reasons_of(source)
    for part, first, batch in sample:
        users = Texts() if kinds.users == TEXT else None
        tracks: Encoder | Texts = Texts()
        if kinds.tracks != TEXT:
            any_track = np.unique(raw_files.ids(batch["track_id"])[0])
            tracks = known.numbers or Encoder.of(any_track)
        (listens, codes, _), _ = check(batch, Ids(tracks, users), NO_ONE, source.reading)
        if known.texts and isinstance(tracks, Texts):
            settle_tracks(listens, codes, tracks, known.texts)
        codes[(codes == 0) & (listens.time > latest)] = REASONS.index(LATER_THAN_NOW)
        rows = np.flatnonzero(codes)
        content = json_lines(batch.take(pa.array(rows))) if len(rows) else []
        for row, line in zip(rows.tolist(), content, strict=True):
            yield BadRow(reasons[codes[row]], f"row {first + row:,} of {part.name}", line)


def _about_bad(rows: Sequence[BadRow], what: str) -> Iterator[str]:
    """Yield lines on the bad rows among those of `what`."""
    yield f"  of {what}, {len(rows):,} would be quarantined{':' if rows else ''}"
    counts = Counter(row.reason for row in rows)
    for reason, n in counts.most_common(SHOWN_REASONS):
        first = next(row for row in rows if row.reason == reason)
        yield f"    {n:,} where {reason}: {first.place} is {_cut(first.content)}"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _bytes(size: int) -> str:
    """Return a size as people read it.

    >>> _bytes(999), _bytes(25_300_000)
    ('999 bytes', '25.3 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
