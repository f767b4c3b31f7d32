"""Convert listens of ListenBrainz into input for the jobs.

    python -m jobs.import_listenbrainz --in listenbrainz-listens-dump-...-full --out IN

The dumps of all public listens are at https://listenbrainz.org/data, under CC0: they may be used
for everything. --in is an unpacked dump (listens/YEAR/MONTH.listens) or the unpacked export of a
user (listens/YEAR/MONTH.jsonl). Every line is a listen as JSON.

The user_id is ListenBrainz's user_id, or the user_name where there is none (or --user, in an
export). The track_id is the recording_msid, which ListenBrainz gives to each pair of an artist's
name and a title; without it, "artist - title" stands in. Ids are text.

The feedback.jsonl of a user's export has tracks that they love or hate, which are written as likes
and dislikes, if there is a listen of the track. How much of a track was played is not told.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from jobs.data.raw_files import LAST_SECOND
from jobs.imports.output import KIND, TEXT, Output, files, id_of, output, parser
from jobs.inputs.files import JSON, PACKED, Part
from jobs.inputs.lines import lines_of
from jobs.runtime import cli

PATTERNS = [f"*{form}{end}" for form in (".listens", ".jsonl") for end in ("", *PACKED)]
FEEDBACK = "feedback.jsonl"
OTHERS = (FEEDBACK, "pinned_recording.jsonl")  # of a user's export
KINDS = {1: "like", -1: "dislike"}  # by the score of a feedback
Text = str | None
T = TypeVar("T")


class Info(msgspec.Struct):
    """The part of additional_info that is read."""

    recording_msid: Text = None


class Mapping(msgspec.Struct):
    """The part of mbid_mapping that is read."""

    recording_mbid: Text = None


class Metadata(msgspec.Struct):
    """What was played."""

    artist_name: str
    track_name: str
    additional_info: Info | None = None
    recording_msid: Text = None  # in a user's export
    mbid_mapping: Mapping | None = None


class Listen(msgspec.Struct):
    """A line."""

    track_metadata: Metadata
    listened_at: int | float | None = None
    timestamp: int | float | None = None  # in older dumps
    user_id: int | None = None
    user_name: Text = None
    recording_msid: Text = None


class Feedback(msgspec.Struct):
    """A line of feedback.jsonl."""

    score: int
    created: int | float
    recording_msid: Text = None
    recording_mbid: Text = None


class Heard:
    """The tracks that have a listen, and those of each recording of MusicBrainz."""

    def __init__(self) -> None:
        self.tracks: set[str] = set()
        self.of_recording: dict[str, set[str]] = {}

    def add(self, listens: Sequence[Listen], tracks: Sequence[str]) -> None:
        """Add the tracks of some listens."""
        self.tracks |= {*tracks}
        for listen, track in zip(listens, tracks, strict=True):
            mapping = listen.track_metadata.mbid_mapping
            if mapping and mapping.recording_mbid:
                self.of_recording.setdefault(mapping.recording_mbid, set()).add(track)

    def tracks_of(self, said: Feedback) -> list[str]:
        """Return the tracks that somebody loves or hates, as far as they have a listen."""
        found = set(self.of_recording.get(said.recording_mbid or "", ()))
        return sorted(found | (self.tracks & {said.recording_msid or ""}))


def main(argv: Sequence[str]) -> str:
    """Write interactions and tracks."""
    options = parser(__doc__)
    options.add_argument("--user", default="listener", help="user_id of listens that name nobody")
    args = options.parse_args(argv)
    parts = [
        Part(path, path.relative_to(args.source).as_posix(), JSON, PACKED.get(path.suffix))
        for path in files(args.source, *PATTERNS)
    ]
    feedback = [part for part in parts if part.path.name.startswith(FEEDBACK)]
    heard = Heard() if feedback else None
    with output(args.out, TEXT, played=[KIND]) as out:
        for part in parts:
            if not part.path.name.startswith(OTHERS):
                convert(part, args.user, out, heard)
        for part in feedback:
            convert_feedback(part, args.user, out, heard or Heard())
    return out.summary(args.out)


def convert(part: Part, user: str, out: Output, heard: Heard | None) -> None:
    """Write the listens of a file."""
    for listens in decoded(part, Listen, time_of, out):
        write(listens, user, out, heard)


def convert_feedback(part: Part, user: str, out: Output, heard: Heard) -> None:
    """Write the likes and dislikes of a file."""
    for lines in decoded(part, Feedback, lambda said: said.created, out):
        rows = [
            (track, said.created, KINDS[said.score])
            for said in lines
            if said.score in KINDS
            for track in heard.tracks_of(said)
        ]
        lost = sum(said.score not in KINDS or not heard.tracks_of(said) for said in lines)
        out.left_out["likes and dislikes of tracks without a listen"] += lost
        tracks, times, kinds = zip(*rows, strict=True) if rows else ((), (), ())
        users = pa.array([user] * len(rows), TEXT)
        seconds = np.array(times, np.float64)
        out.add(users, pa.array(tracks, TEXT), seconds, pa.array(kinds, pa.string()))


def decoded(
    part: Part, form: type[T], time: Callable[[T], float], out: Output
) -> Iterator[list[T]]:
    """Yield the lines of a file, block after block; unreadable ones go to the quarantine.

    `time` returns the time of a line in seconds since 1970.
    """
    decoder = msgspec.json.Decoder(form)
    row = 0
    for lines in lines_of(part):
        good: list[T] = []
        bad: list[int] = []
        for i, line in enumerate(lines):
            try:
                found = decoder.decode(line)
                if not 0 <= time(found) < LAST_SECOND:
                    raise ValueError("not between 1970 and 2099")
                good.append(found)
            except (msgspec.MsgspecError, ValueError):
                bad.append(i)
        texts = [lines[i][:1000].decode(errors="backslashreplace") for i in bad]
        if bad:
            out.add_unreadable(part.name, [row + i for i in bad], texts)
        yield good
        row += len(lines)


def write(listens: Sequence[Listen], user: str, out: Output, heard: Heard | None) -> None:
    """Write some listens and their tracks."""
    users = [
        str(each.user_id) if each.user_id is not None else id_of(each.user_name or user)
        for each in listens
    ]
    tracks = [track_id(each) for each in listens]
    if heard is not None:
        heard.add(listens, tracks)
    ids = pa.array(tracks, TEXT)
    out.add(pa.array(users, TEXT), ids, np.array([*map(time_of, listens)], np.float64))
    names = [each.track_metadata.track_name for each in listens]
    artists = [[each.track_metadata.artist_name] for each in listens]
    out.add_tracks({"track_id": ids, "name": names, "artists": artists})


def time_of(listen: Listen) -> float:
    """Return the time in seconds since 1970; -1 if there is none."""
    found = listen.timestamp if listen.listened_at is None else listen.listened_at
    return -1 if found is None else found


def track_id(listen: Listen) -> str:
    """Return the recording_msid, or the artist's name and the title."""
    played = listen.track_metadata
    info = played.additional_info
    found = listen.recording_msid or played.recording_msid or (info and info.recording_msid)
    return found or id_of(f"{played.artist_name} - {played.track_name}")


if __name__ == "__main__":
    cli.run(main)
