"""Run one job or many jobs, and skip those that are up to date.

    python -m jobs.run similar --work data        one job, with its own options
    python -m jobs.run --line < FILE              many, as run_all.sh does
    python -m jobs.run --line ENGINE WORK < FILE  the same on a cluster, with its files in WORK;
                                                  its hosts may have other kinds of processors
                                                  if --mixed-processors stands at the end

A job is skipped if it has run on the same input, with the same options and code: see
runtime/up_to_date.py. With --line the jobs come from standard input: every argument ends with a NUL
byte, and every job with an empty argument. Jobs that do not depend on each other run at the same
time: see runtime/scheduler.py.

Only the standard library is imported here, so that a run without any changes takes no time.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.runtime import scheduler
from jobs.runtime.cluster import LOCAL
from jobs.runtime.processors import MIXED_PROCESSORS
from jobs.runtime.up_to_date import FILE_OPTIONS, FILES, IGNORED_OPTIONS, Task


def main(argv: Sequence[str]) -> None:
    """Run the job that the command line names, or the line of jobs on standard input."""
    if argv and argv[0] == "--line":
        if len(argv) not in (1, 3) and (len(argv) != 4 or argv[3] != MIXED_PROCESSORS):
            sys.exit(
                "jobs.run: after --line stands nothing, or an engine and the folder WORK, and then "
                f"{MIXED_PROCESSORS} or nothing"
            )
        tasks = [parse(job) for job in read_line(sys.stdin.buffer.read())]
        engine, work = argv[1:3] or (LOCAL, ".")
        sys.exit(scheduler.run_line(tasks, engine, Path(work), MIXED_PROCESSORS in argv))
    task = parse(argv)
    if scheduler.needs_to_run(task):
        scheduler.run_task(task)


def read_line(content: bytes) -> list[list[str]]:
    r"""Split the input of --line into the arguments of each job.

    >>> read_line(b"prepare\0--work\0data\0\0similar\0\0")
    [['prepare', '--work', 'data'], ['similar']]
    """
    jobs: list[list[str]] = [[]]
    for argument in content.decode().split("\0")[:-1]:
        if argument:
            jobs[-1].append(argument)
        else:
            jobs.append([])
    return [job for job in jobs if job]


def parse(argv: Sequence[str]) -> Task:
    """Parse a job and its arguments; paths become absolute, so that equal ones compare equal."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("job", choices=sorted(FILES), metavar="JOB")
    for option in IGNORED_OPTIONS:
        parser.add_argument(option, help="passed on to the job, as all other options")
    if argv and argv[0].startswith("-") and argv[0] not in ("-h", "--help"):
        parser.error("the job comes first, then its options")
    known, others = parser.parse_known_args(argv)
    options = [part for other in others for part in split(other)]
    for i, option in enumerate(options[:-1]):
        if option in ("--data", *FILE_OPTIONS):
            options[i + 1] = str(Path(options[i + 1]).absolute())
    data = options[options.index("--data") + 1] if "--data" in options[:-1] else "."
    folder = Path(known.work or known.out or "data")
    return Task(known.job, folder, Path(data), tuple(options), tuple(argv[1:]))


def split(argument: str) -> list[str]:
    """Split an option from its value if both are in one argument, as in --work=data."""
    return argument.split("=", 1) if argument.startswith("--") else [argument]


if __name__ == "__main__":
    main(sys.argv[1:])
