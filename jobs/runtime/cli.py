"""What all jobs share: --work and --memory-limit, how errors end a job, and the summary line."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from threadpoolctl import threadpool_limits

from jobs.contract.storage import JobError
from jobs.runtime import engine, memory


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with --work and --memory-limit, whose help is the script's docstring."""
    result = argparse.ArgumentParser(
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


def run(main: Callable[[Sequence[str]], str]) -> None:
    """Run a job's main with the command line's arguments and print its summary line.

    A JobError, or a file that can't be read or written (as on a full disk), ends the job with one
    line and exit code 1; the files of an earlier run stay complete. BLAS uses one thread, because
    with more of them sums, and so the lists, would differ between runs.
    """
    with output_that_may_end():
        _run(main)


@contextmanager
def output_that_may_end() -> Iterator[None]:
    """End the program with one line if what reads its output has ended, as `head` does."""
    try:
        try:
            yield
        finally:  # at the end of `--help` too
            sys.stdout.flush()
    except BrokenPipeError:
        # Python writes what is left of the output at its end: into nothing, or it would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        script = Path(sys.argv[0])
        name = script.parent.name if script.stem == "__main__" else script.stem
        sys.exit(f"{name}: stopped, since the program that reads its output ended")


def _run(main: Callable[[Sequence[str]], str]) -> None:
    job, start = Path(sys.argv[0]).stem, time.monotonic()
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            summary = main(sys.argv[1:])
    except BrokenPipeError:  # an OSError of which output_that_may_end tells
        raise
    except JobError as error:
        sys.exit(f"{job}: {error}")
    except OSError as error:
        sys.exit(
            f"{job}: a file can't be read or written ({error}): check disk space and permissions, "
            "or pass another --work"
        )
    finally:
        engine.clean()
    where = _window(sys.argv[1:])
    print(f"{job}: {where}{summary} ({time.monotonic() - start:.1f} s)", flush=True)
    if on_cluster := engine.summary():
        print(f"{job}: {where}{on_cluster}", flush=True)


def _window(argv: Sequence[str]) -> str:
    """Return "window NAME: " where --work is the folder of a window."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--work", type=Path, default=Path())
    work: Path = options.parse_known_args(argv)[0].work
    return f"window {work.name}: " if work.parent.name == "windows" else ""
