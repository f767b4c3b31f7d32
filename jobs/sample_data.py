"""Write a synthetic sample of the three input files: tracks, catalog_names and interactions.

    python -m jobs.sample_data --out data/sample --users 2000 --tracks 4000 --listens 100000
    python -m jobs.sample_data --out data/few --shape few-listeners --users 500 --tracks 106844 \
        --listens 2000000

All of it is made up, except for the titles of some well-known tracks. The same options give the
same bytes, and memory does not grow with the number of listens. There are two shapes:

- year: a year of a music service. A few users listen a lot, and a few tracks are popular. Users
  mostly play artists and genres that they like. A session stays with related artists and plays
  albums in order. New tracks are popular at first. The catalogue has gaps and odd names, like a
  real one. Each row is the first listen of a track by a user.
- few-listeners: the play histories of a few hundred people. Some 60 % of the tracks have a single
  listener, and users play a track repeatedly. Use it to measure jobs.similar: ALS gives vectors of
  equal direction to all tracks that only one and the same user plays.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jobs.contract import storage
from jobs.runtime import cli
from jobs.synthetic.input_files import check, generate


def main(argv: Sequence[str]) -> str:
    """Generate the files into --out."""
    args = parse_args(argv)
    check(args.users, args.tracks, args.listens, args.seed, args.shape)
    try:
        generate(args)
    except OSError as error:
        raise storage.JobError(
            f"{args.out} can't be written ({error}): check its permissions, or pass another --out"
        ) from None
    return (
        f"{args.listens:,} synthetic listens of {args.users:,} users and {args.tracks:,} tracks "
        f"in {args.out}"
    )


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; there is no --work, since the files are the input of a run."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data/sample"), help="folder to write (data/sample)"
    )
    parser.add_argument("--users", type=int, default=2_000, help="number of users (2000)")
    parser.add_argument("--tracks", type=int, default=4_000, help="number of tracks (4000)")
    parser.add_argument("--listens", type=int, default=100_000, help="number of listens (100000)")
    parser.add_argument(
        "--shape", choices=["year", "few-listeners"], default="year", help="see above (year)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (0)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
