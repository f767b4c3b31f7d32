"""Convert Spotify's extended streaming history of one or more people into input for the jobs.

    python -m jobs.import_spotify --in my_spotify_data --out IN

Anybody can ask Spotify for their own history (Account > Privacy > Download your data), and it is
theirs. --in has the unpacked files, Streaming_History_Audio_*.json or the older endsong_*.json.
Where these lie in folders of several people, the folder's name is the user_id, else --user.

`ts` is the time at which a play ended, so a listen starts at ts - ms_played. Podcast episodes,
audiobooks and other entries without a track are left out and counted. Nothing else than the time,
the track, its title and its artist is written: no user name, IP address, country or device.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from jobs.data.raw_files import LAST_SECOND
from jobs.imports.output import TEXT, Output, files, id_of, output, parser
from jobs.runtime import cli

PATTERNS = ("Streaming_History_Audio_*.json", "endsong_*.json")
TRACK = "spotify:track:"


def main(argv: Sequence[str]) -> str:
    """Write interactions and tracks."""
    options = parser(__doc__)
    options.add_argument("--user", default="listener", help="user_id of files beside each other")
    args = options.parse_args(argv)
    with output(args.out, TEXT) as out:
        for path in files(args.source, *PATTERNS):
            inside = path.parent.relative_to(args.source)
            user = id_of(inside.as_posix() if inside.parts else args.user)
            convert(path, user, out)
    return out.summary(args.out)


def convert(path: Path, user: str, out: Output) -> None:
    """Write the listens of a file, which has a JSON array."""
    try:
        plays = msgspec.json.decode(path.read_bytes(), type=list[Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        out.add_unreadable(path.name, [0], [f"the whole file: {error}"])
        return
    ids, names, artists, starts = [], [], [], []
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
        names.append(text(play.get("master_metadata_track_name")))
        artist = text(play.get("master_metadata_album_artist_name"))
        artists.append([artist] if artist else [])
        starts.append(start)
    track = pa.array(ids, TEXT)
    out.add(pa.array([user] * len(ids), TEXT), track, np.array(starts, np.float64))
    out.add_tracks({"track_id": track, "name": names, "artists": artists})


def started(play: dict[str, Any]) -> float:
    """Return when a play started, in seconds since 1970.

    >>> started({"ts": "1970-01-01T00:01:00Z", "ms_played": 15_000})
    45.0
    """
    end = datetime.strptime(play["ts"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    start = end.timestamp() - int(play["ms_played"]) / 1000
    if not 0 <= start < LAST_SECOND:
        raise ValueError(f"{start} is not between 1970 and 2099")
    return start


def text(value: Any) -> str | None:
    """Return a value that is text; None for another one."""
    return value if isinstance(value, str) else None


if __name__ == "__main__":
    cli.run(main)
