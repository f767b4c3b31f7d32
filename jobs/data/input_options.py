"""The options that say how the user's files are to be read."""

import argparse
from collections.abc import Mapping, Sequence

from jobs.data import clock
from jobs.data.raw_columns import COLUMNS, NAMED_COLUMNS
from jobs.inputs.files import TRACKS, Reading

KNOWN = COLUMNS | {TRACKS: NAMED_COLUMNS}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument(
        "--columns",
        action="append",
        type=columns,
        help="what columns are called in your files, as interactions.user_id=uid,tracks.track_id=i",
    )
    parser.add_argument(
        "--time-unit",
        choices=("s", "ms", "us"),
        help="what a started_at that is a number counts in",
    )
    parser.add_argument(
        "--origin",
        type=clock.moment,
        help="the moment that it counts from, as 2019-06-30 in UTC (default: 1970-01-01)",
    )
    parser.add_argument(
        "--delimiter",
        type=delimiter,
        help="what stands between the values of CSV: a character, or tab (default: found out)",
    )
    parser.add_argument(
        "--no-header",
        action="store_true",
        help="the first row of CSV has values: its columns are called 1, 2, 3 (default: found out)",
    )


def readings(options: argparse.Namespace) -> dict[str, Reading]:
    """Return how to read the files of each input. Raises ArgumentTypeError if options don't fit."""
    if options.origin and not options.time_unit:
        raise argparse.ArgumentTypeError("--origin needs --time-unit: s, ms or us")
    origin = clock.microseconds(options.origin) if options.origin else 0
    called = together(options.columns or [])
    return {
        kind: Reading(
            called.get(kind, {}),
            options.delimiter,
            not options.no_header,
            options.time_unit,
            origin,
        )
        for kind in COLUMNS
    }


def together(given: Sequence[Mapping[str, dict[str, str]]]) -> dict[str, dict[str, str]]:
    """Return what all --columns say. Raises ArgumentTypeError if two name one column.

    >>> together([columns("interactions.user_id=uid"), columns("interactions.track_id=item")])
    {'interactions': {'user_id': 'uid', 'track_id': 'item'}}
    """
    result: dict[str, dict[str, str]] = {}
    for called in given:
        for kind, names in called.items():
            known = result.setdefault(kind, {})
            if again := sorted(known.keys() & names.keys()):
                raise argparse.ArgumentTypeError(f"{kind}.{again[0]} is named twice in --columns")
            known |= names
    return result


def columns(text: str) -> dict[str, dict[str, str]]:
    """Parse --columns: by input and wanted column the name that the column has in the files.

    >>> columns("interactions.user_id=uid,interactions.started_at=played at")
    {'interactions': {'user_id': 'uid', 'started_at': 'played at'}}
    """
    result: dict[str, dict[str, str]] = {}
    for pair in text.split(","):
        target, equals, name = pair.partition("=")
        kind, _, column = target.strip().partition(".")
        if not equals or not name:
            raise argparse.ArgumentTypeError(
                f"{pair!r} is not INPUT.COLUMN=NAME, as interactions.user_id=uid"
            )
        if column not in KNOWN.get(kind, {}):
            known = ", ".join(f"{kind}.{name}" for kind in KNOWN for name in KNOWN[kind])
            raise argparse.ArgumentTypeError(f"{target.strip()!r} is none of {known}")
        if column in result.setdefault(kind, {}):
            raise argparse.ArgumentTypeError(f"{target.strip()} is named twice")
        result[kind][column] = name
    return result


def delimiter(text: str) -> str:
    """Parse --delimiter: one character, or "tab"."""
    if text in ("tab", "\\t"):
        return "\t"
    if len(text) != 1 or not text.isascii() or text.isalnum() or text in '"\r\n':
        raise argparse.ArgumentTypeError(
            f"{text!r} can't stand between values: expected , ; | or tab"
        )
    return text
