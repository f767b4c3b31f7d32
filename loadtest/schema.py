"""Send valid and invalid requests, generated from the description at /schema, and check answers.

    python -m loadtest.schema [--work data] [--examples 300] [--seed 1]

Starts the service twice, with its state in a temporary folder: first without keys, then with keys.
The requests send only the key for reading. schemathesis generates them from the service's OpenAPI
description: edge cases of each parameter, and random ones. The exit code is 1 if an answer has
status 500, or a status or body that is not described, if a valid request is refused, or if an
invalid one is accepted.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from loadtest.support import script
from loadtest.support.server import serving

READ_KEY = "a-key-for-reading"
# Either user_id or events must be given, not events in two places, and a body without events is
# ignored: a description cannot say that, so these checks of /recommendations are left out.
EXCEPTIONS = """
[[operations]]
include-path = "/recommendations"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path = "/recommendations"
include-method = "POST"
checks.negative_data_rejection.enabled = false
checks.positive_data_acceptance.enabled = false
"""
KEYS = {"ADMIN_KEY": "a-key-that-is-not-used", "READ_KEY": READ_KEY, "RATE_LIMIT": "0"}


def check(url: str, options: list[str]) -> tuple[int, int]:
    """Run schemathesis on a service; return the number of its requests and its exit code."""
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "run", f"{url}/schema/openapi.json", *options]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "schemathesis.toml").write_text(EXCEPTIONS)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    generated = re.search(r"([\d,]+) generated", done.stdout)
    if done.returncode or not generated:
        print(done.stdout[-20_000:], done.stderr[-2000:])
    return int(generated[1].replace(",", "")) if generated else 0, done.returncode


def main() -> int:
    """Check the service without and with keys; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("data"), help="folder with a release (data)"
    )
    parser.add_argument(
        "--examples", type=int, default=300, help="random requests of each call (300)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random requests (1)")
    options = parser.parse_args()
    schemathesis_options = [
        *("--header", f"X-API-Key: {READ_KEY}"),
        "--continue-on-failure",
        *("--suppress-health-check", "all"),
        *("--max-examples", str(options.examples)),
        *("--seed", str(options.seed)),
    ]
    failed = False
    for name, keys in (("without keys", {}), ("with keys", KEYS)):
        with (
            tempfile.TemporaryDirectory() as state,
            serving(options.work, LOG_LEVEL="WARNING", STATE=state, **keys) as service,
        ):
            n, code = check(service.url, schemathesis_options)
        print(f"{name}: {n:,} requests, {'some' if code else 'no'} answers are wrong")
        failed |= code != 0 or n == 0
    return int(failed)


if __name__ == "__main__":
    script.run(main)
