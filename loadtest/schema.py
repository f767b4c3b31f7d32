"""Ask the service whatever its own description at /schema allows, and what it forbids.

    python -m loadtest.schema [--work data] [--examples 300] [--seed 1]

Starts the service twice, with its state in a temporary folder: without keys, and with keys of which
only that for reading is used. schemathesis then makes requests from the description: edges of each
parameter, and random ones, valid and not. An answer with a 500, a status or a body that isn't
described, a valid request that is refused or a bad one that isn't makes the exit code 1.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from loadtest.support.server import started

READ_KEY = "a-key-for-reading"


KEYS = {"ADMIN_KEY": "a-key-that-is-not-used", "READ_KEY": READ_KEY, "RATE_LIMIT": "0"}


def check(port: int, options: list[str]) -> tuple[int, int]:
    """Run schemathesis on a service: how many requests it made up, and its exit code."""
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "run", f"http://127.0.0.1:{port}/schema/openapi.json", *options]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    counted = re.search(r"([\d,]+) generated", done.stdout)
    if done.returncode or not counted:
        print(done.stdout[-20_000:], done.stderr[-2000:])
    return int(counted[1].replace(",", "")) if counted else 0, done.returncode


def main() -> int:
    """Check both services; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("data"), help="folder with a release")
    parser.add_argument("--examples", type=int, default=300, help="random ones of each call (300)")
    parser.add_argument("--seed", type=int, default=1, help="of the random ones (1)")
    options = parser.parse_args()
    asked = [
        "--header",
        f"X-API-Key: {READ_KEY}",
        "--continue-on-failure",
        "--suppress-health-check",
        "all",
    ]
    asked += ["--max-examples", str(options.examples), "--seed", str(options.seed)]
    wrong = 0
    for name, keys in (("without keys", {}), ("with keys", KEYS)):
        with (
            tempfile.TemporaryDirectory() as state,
            started(options.work, LOG_LEVEL="WARNING", STATE=state, **keys) as (_, port),
        ):
            n, code = check(port, asked)
        print(f"{name}: {n:,} requests, {'some answers are wrong' if code else 'none wrong'}")
        wrong |= code or not n
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
