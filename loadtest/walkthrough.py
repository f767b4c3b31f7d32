"""Walk through a running service, and print each call and its answer, with names of the tracks.

    python -m loadtest.walkthrough [--url http://127.0.0.1:8000] [--user 16] [--listener 47]
        [--key KEY]

It asks for the lists of --listener, who has a final list, and of a new user, reads the statistics,
puts events of five well-known rock songs for --user (the first one twice), and asks for the blended
list. Where ids of tracks are text, it puts the first five tracks of the new user's list. The events
stay, so use a service or a --user that nobody else needs. If the service has keys, --key has to
open reading and writing. If an answer is not 200, it is printed and the exit code is 1.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from loadtest.support import script

URL = "http://127.0.0.1:8000"
Id = int | str
NEW = 47_000_000_000
SONGS = (679169, 630670, 646516, 19152669, 38646012)
SHOWN = 8  # ids of a list that are printed, and names of the blended list


class Service:
    """A running service."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url, self._headers = url.rstrip("/"), {"X-API-Key": key} if key else {}

    def call(self, method: str, path: str, **parameters: Any) -> Any:
        """Return the JSON of an answer; exit with what is wrong if its status is not 200."""
        address = f"{self._url}{path}?{urlencode(parameters, doseq=True)}"
        try:
            with urlopen(
                Request(address, method=method, headers=self._headers), timeout=30
            ) as found:
                return json.load(found)
        except HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}")
        except (URLError, OSError, ValueError) as error:
            sys.exit(f"{method} {path}: no answer of a running service at {self._url}: {error}")

    def shown(self, method: str, path: str, **parameters: Any) -> Any:
        """Print a call and its answer, and return the answer."""
        named = " ".join(f"{name}={value}" for name, value in parameters.items())
        print(f"\n{method} {path} {named}".rstrip())
        answer = self.call(method, path, **parameters)
        print(shortened(answer))
        return answer

    def names(self, track_ids: Iterable[Id]) -> dict[Id, tuple[str, str]]:
        """Return the name and the artists of tracks, by id; without those that are not known."""
        found = self.call("GET", "/tracks", ids=list(track_ids))["tracks"]
        return {
            track["track_id"]: (track["name"] or "no name", ", ".join(track["artists"] or ["?"]))
            for track in found
        }


def shortened(answer: Any) -> str:
    """Return an answer as text, without the end of a long list."""
    recs = answer.get("recs", []) if isinstance(answer, dict) else []
    if len(recs) <= SHOWN:
        return str(answer)
    return f"{{'recs': [{', '.join(map(str, recs[:SHOWN]))}, ...]}} ({len(recs)} tracks)"


def walk(service: Service, user: str, listener: str) -> None:
    """Make the calls in their order."""
    service.shown("POST", "/recommendations", user_id=listener)
    recs = service.shown("POST", "/recommendations", user_id=NEW)["recs"]
    songs = recs[: len(SONGS)] if recs and isinstance(recs[0], str) else SONGS
    service.shown("GET", "/get_statistics")
    service.shown("POST", "/get_user_events", user_id=user)
    names = service.names(songs)
    print(f"\nPOST /put_user_event user_id={user}")
    for track in (songs[0], *songs):
        name, artists = names.get(track, ("not in the release", "?"))
        print(f"{track} - [{name}] [{artists}]")
        print(service.call("POST", "/put_user_event", user_id=user, item_id=track))
    service.shown("POST", "/get_user_events", user_id=user)
    blended = service.shown("POST", "/recommendations", user_id=user)["recs"][:SHOWN]
    names = service.names(blended) if blended else {}
    print()
    for track in blended:
        name, artists = names[track]
        print(f"online rec track name:  [{name!r}]\nonline rec artist name:  [{artists!r}]")


def main() -> int:
    """Walk through the service; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help=f"of the service ({URL})")
    parser.add_argument("--user", default="16", help="who puts events (16)")
    parser.add_argument("--listener", default="47", help="a user with a final list (47)")
    parser.add_argument("--key", help="a key that opens reading and writing")
    options = parser.parse_args()
    walk(Service(options.url or URL, options.key), options.user, options.listener)
    return 0


if __name__ == "__main__":
    script.run(main)
