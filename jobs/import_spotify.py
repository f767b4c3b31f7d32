"""Convert Spotify's extended streaming history of one or more people into input for the jobs.

    python -m jobs.import_spotify --in my_spotify_data --out IN

Anybody can ask Spotify for their own history (Account > Privacy > Download your data), and it is
theirs. --in has the unpacked files, Streaming_History_Audio_*.json or the older endsong_*.json.
Where these lie in folders of several people, the folder's name is the user_id, else --user.

`ts` is the time at which a play ended, so a listen starts at ts - ms_played. A play that Spotify
says was skipped is a skip. The history has no durations: that of a track is taken to be the longest
of its plays that went on to the end, so that jobs.prepare can tell what share of it was played.

Podcast episodes, audiobooks and other entries without a track are left out and counted. Nothing
else than the time, how much was played, the track, its title and its artist is written: no user
name, IP address, country or device.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from jobs.data.raw_files import LAST_SECOND
from jobs.imports.output import (
    ARTISTS,
    KIND,
    LISTEN,
    NAME,
    NUMBER,
    TEXT,
    Output,
    files,
    id_of,
    output,
    parser,
)
from jobs.runtime import cli

SKIP = "skip"
PLAYED = pa.field("played_ms", NUMBER)
NAMES = [NAME, ARTISTS, pa.field("duration_ms", NUMBER)]
TO_THE_END = "trackdone"  # the reason_end of a play that went on to the end
PATTERNS = ("Streaming_History_Audio_*.json", "endsong_*.json")
TRACK = "spotify:track:"


def main(argv: Sequence[str]) -> str:
    """Write interactions and tracks."""
    options = parser(__doc__)
    options.add_argument("--user", default="listener", help="user_id of files beside each other")
    args = options.parse_args(argv)
    tracks: dict[str, list[Any]] = {}
    with output(args.out, TEXT, NAMES, [KIND, PLAYED]) as out:
        for path in files(args.source, *PATTERNS):
            inside = path.parent.relative_to(args.source)
            user = id_of(inside.as_posix() if inside.parts else args.user)
            convert(path, user, tracks, out)
        columns = zip(*tracks.values(), strict=True) if tracks else [[]] * len(NAMES)
        found = dict(zip([field.name for field in NAMES], columns, strict=True))
        out.add_tracks({"track_id": pa.array([*tracks], TEXT), **found})
    return out.summary(args.out)


def convert(path: Path, user: str, tracks: dict[str, list[Any]], out: Output) -> None:
    """Write the listens of a file, which has a JSON array.

    Adds the title, the artists and the duration of each track to `tracks`.
    """
    try:
        plays = msgspec.json.decode(path.read_bytes(), type=list[Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        out.add_unreadable(path.name, [0], [f"the whole file: {error}"])
        return
    ids, kinds, starts, played = [], [], [], []
    for row, play in enumerate(plays):
        try:
            uri, start = play.get("spotify_track_uri"), started(play)
        except (AttributeError, KeyError, TypeError, ValueError):
            kept = {"ts", "ms_played", "spotify_track_uri"}
            shown = {k: v for k, v in play.items() if k in kept} if isinstance(play, dict) else None
            out.add_unreadable(path.name, [row], [msgspec.json.encode(shown).decode()])
            continue
        if not isinstance(uri, str) or not uri.startswith(TRACK):
            out.left_out["entries without a track, such as podcasts,"] += 1
            continue
        ids.append(uri.removeprefix(TRACK))
        kinds.append(SKIP if play.get("skipped") is True else LISTEN)
        starts.append(start)
        played.append(int(play["ms_played"]))
        name = text(play.get("master_metadata_track_name"))
        artist = text(play.get("master_metadata_album_artist_name"))
        track = tracks.setdefault(ids[-1], [name, [artist] if artist else [], None])
        if play.get("reason_end") == TO_THE_END and played[-1] > 0:
            track[2] = max(track[2] or 0, played[-1])
    out.add(
        pa.array([user] * len(ids), TEXT),
        pa.array(ids, TEXT),
        np.array(starts, np.float64),
        pa.array(kinds, pa.string()),
        played_ms=pa.array(played, NUMBER),
    )


def started(play: dict[str, Any]) -> float:
    """Return when a play started, in seconds since 1970.

    >>> started({"ts": "1970-01-01T00:01:00Z", "ms_played": 15_000})
    45.0
    """
    end = datetime.strptime(play["ts"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    played = int(play["ms_played"]) / 1000
    start = end.timestamp() - played
    if played < 0 or not 0 <= start < LAST_SECOND:
        raise ValueError(f"{start} is not between 1970 and 2099, or after the end")
    return start


def text(value: Any) -> str | None:
    """Return a value that is text; None for another one."""
    return value if isinstance(value, str) else None


if __name__ == "__main__":
    cli.run(main)
