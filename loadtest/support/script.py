"""How the scripts of this package start and end."""

import os
import sys
from collections.abc import Callable
from pathlib import Path


def run(main: Callable[[], int | None]) -> None:
    """Run a script's main and exit with the code that it returns.

    If what reads the output has ended, as `head` does, the script ends with one line, and what it
    has started is ended too.
    """
    try:
        try:
            code = main()
        finally:  # at the end of `--help` too
            sys.stdout.flush()
    except BrokenPipeError:
        # Python writes what is left of the output at its end: into nothing, or it would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(
            f"{Path(sys.argv[0]).stem}: stopped, since the program that reads its output ended"
        )
    sys.exit(code)
