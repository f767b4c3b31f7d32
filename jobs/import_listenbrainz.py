"""Convert listens of ListenBrainz into input for the jobs.

    python -m jobs.import_listenbrainz --in listenbrainz-listens-dump-...-full --out IN

The dumps of all public listens are at https://listenbrainz.org/data, under CC0: they may be used
for everything. --in is an unpacked dump (listens/YEAR/MONTH.listens) or the unpacked export of a
user (listens/YEAR/MONTH.jsonl). Every line is a listen as JSON.

The user_id is ListenBrainz's user_id, or the user_name where there is none (or --user, in an
export). The track_id is the recording_msid, which ListenBrainz gives to each pair of an artist's
name and a title; without it, "artist - title" stands in. Ids are text.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa

from jobs.data.raw_files import LAST_SECOND
from jobs.imports.output import TEXT, Output, files, id_of, output, parser
from jobs.inputs.files import JSON, PACKED, Part
from jobs.inputs.lines import lines_of
from jobs.runtime import cli

PATTERNS = [f"*{form}{end}" for form in (".listens", ".jsonl") for end in ("", *PACKED)]
OTHERS = ("feedback.jsonl", "pinned_recording.jsonl")  # of a user's export
Text = str | None


class Info(msgspec.Struct):
    """The part of additional_info that is read."""

    recording_msid: Text = None


class Metadata(msgspec.Struct):
    """What was played."""

    artist_name: str
    track_name: str
    additional_info: Info | None = None


class Listen(msgspec.Struct):
    """A line."""

    track_metadata: Metadata
    listened_at: int | float | None = None
    timestamp: int | float | None = None  # in older dumps
    user_id: int | None = None
    user_name: Text = None
    recording_msid: Text = None


def main(argv: Sequence[str]) -> str:
    """Write interactions and tracks."""
    options = parser(__doc__)
    options.add_argument("--user", default="listener", help="user_id of listens that name nobody")
    args = options.parse_args(argv)
    with output(args.out, TEXT) as out:
        for path in files(args.source, *PATTERNS):
            if not path.name.startswith(OTHERS):
                name = path.relative_to(args.source).as_posix()
                convert(Part(path, name, JSON, PACKED.get(path.suffix)), args.user, out)
    return out.summary(args.out)


def convert(part: Part, user: str, out: Output) -> None:
    """Write the listens of a file."""
    decoder = msgspec.json.Decoder(Listen)
    row = 0
    for lines in lines_of(part):
        good: list[Listen] = []
        bad: list[int] = []
        for i, line in enumerate(lines):
            try:
                listen = decoder.decode(line)
                if not 0 <= time_of(listen) < LAST_SECOND:
                    raise ValueError("not between 1970 and 2099")
                good.append(listen)
            except (msgspec.MsgspecError, ValueError):
                bad.append(i)
        texts = [lines[i][:1000].decode(errors="backslashreplace") for i in bad]
        if bad:
            out.add_unreadable(part.name, [row + i for i in bad], texts)
        write(good, user, out)
        row += len(lines)


def write(listens: Sequence[Listen], user: str, out: Output) -> None:
    """Write some listens and their tracks."""
    users = [
        str(each.user_id) if each.user_id is not None else id_of(each.user_name or user)
        for each in listens
    ]
    tracks = [track_id(each) for each in listens]
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
    found = listen.recording_msid or (info and info.recording_msid)
    return found or id_of(f"{played.artist_name} - {played.track_name}")


if __name__ == "__main__":
    cli.run(main)
