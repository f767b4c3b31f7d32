"""What every job's command line has in common: --work, clear errors, one summary line."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from threadpoolctl import threadpool_limits

from jobs.contract import JobError


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser that shows the module's docstring as its help and knows --work."""
    result = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    result.add_argument(
        "--work", type=Path, default=Path("data"), help="folder to read and write (default: data)"
    )
    return result


def run(main: Callable[[], str]) -> None:
    """Run a job's main and print its summary line; a JobError becomes one line and exit code 1.

    So does a file that can't be read or written, as on a full disk: what was there is still whole.
    BLAS is held to one thread, since with more of them sums, and so lists, differ between runs.
    """
    job = Path(sys.argv[0]).stem
    start = time.monotonic()
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            summary = main()
    except JobError as error:
        sys.exit(f"{job}: {error}")
    except OSError as error:
        sys.exit(
            f"{job}: a file can't be read or written ({error}): free it or name another --work"
        )
    print(f"{job}: {summary} ({time.monotonic() - start:.1f} s)", flush=True)
