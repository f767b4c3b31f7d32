"""What every job's command line has in common: --work, --memory-limit, clear errors, one line."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from jobs.contract.storage import JobError
from jobs.runtime import memory


class Parser(argparse.ArgumentParser):
    """Parses a job's options, and stops where the job would need more memory than it may take."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The options; as many threads may be used as the job's memory allows."""
        options = super().parse_args(args, namespace)
        memory.check(job(), options)
        return options


def parser(doc: str | None) -> Parser:
    """A parser whose help is the module's docstring; it knows --work and --memory-limit."""
    result = Parser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    result.add_argument(
        "--work", type=Path, default=Path("data"), help="folder to read and write (default: data)"
    )
    result.add_argument(
        "--memory-limit",
        type=memory.size,
        help="most memory to take, as 8G (default: what is available)",
    )
    return result


def job() -> str:
    """The name of the job that runs."""
    return Path(sys.argv[0]).stem


def run(main: Callable[[], str]) -> None:
    """Run a job's main and print its summary line; a JobError becomes one line and exit code 1.

    So does a file that can't be read or written, as on a full disk: what was there is still whole.
    BLAS is held to one thread, since with more of them sums, and so lists, differ between runs.
    """
    start = time.monotonic()
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            summary = main()
    except JobError as error:
        sys.exit(f"{job()}: {error}")
    except OSError as error:
        sys.exit(
            f"{job()}: a file can't be read or written ({error}): free it or name another --work"
        )
    print(f"{job()}: {summary} ({time.monotonic() - start:.1f} s)", flush=True)
