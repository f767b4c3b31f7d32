"""Run a job, unless it has run before on the same input, with the same options and code.

    python -m jobs.run similar --work data

A finished run leaves data/.done/similar.json: its options, a hash of its code, and of each file
that it read and made the size, time and inode. While all of that is as it was, the job is not run
again. The record goes before a run and comes after it, so a killed run has none; a job whose output
is the same as before leaves the old file, so that what reads it need not run again either.

Only the standard library is imported here: skipping a job takes some 30 ms.
"""

import argparse
import runpy
import sys
import time
from pathlib import Path

from jobs.runtime.up_to_date import (
    DONE,
    FILES,
    IGNORED_OPTIONS,
    NAMES_A_FILE,
    code_hash,
    found,
    named,
    peak_mb,
    what_changed,
    write,
)


def main() -> None:
    """Skip the job that the command line names, or run it and leave a record."""
    job, folder, data, options = arguments(sys.argv[1:])
    record = folder / DONE / f"{job}.json"
    changed = what_changed(record, job, folder, data, options)
    if changed is None:
        print(f"{job}: nothing has changed since it ran", flush=True)
        return
    if changed:
        print(f"{job}: runs again, for {changed}", flush=True)
    record.unlink(missing_ok=True)
    reads, makes = FILES[job]
    reads += named(options)
    before = {"options": options, "code": code_hash(job), "read": found(folder, data, reads)}
    start = time.time()
    sys.argv = [job, *sys.argv[2:]]
    runpy.run_module(f"jobs.{job}", run_name="__main__", alter_sys=True)
    end = time.time()
    made = found(folder, data, makes)
    cpu = time.process_time()
    cost = {"start": start, "seconds": end - start, "cpu_seconds": cpu, "peak_mb": peak_mb()}
    write(record, before | {"made": made} | cost)


def arguments(argv: list[str]) -> tuple[str, Path, Path, list[str]]:
    """The job, the folder of its files, that of its input, and the options that matter."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("job", choices=sorted(FILES), metavar="JOB")
    for option in IGNORED_OPTIONS:
        parser.add_argument(option, help="as the job's own, and so are all others")
    if argv and argv[0].startswith("-") and argv[0] not in ("-h", "--help"):
        parser.error("the job comes first, then its options")
    known, others = parser.parse_known_args(argv)
    others = [part for other in others for part in split(other)]
    for i, option in enumerate(others[:-1]):
        if option in ("--data", *NAMES_A_FILE):
            others[i + 1] = str(Path(others[i + 1]).absolute())
    data = others[others.index("--data") + 1] if "--data" in others[:-1] else "."
    return known.job, Path(known.work or known.out or "data"), Path(data), others


def split(argument: str) -> list[str]:
    """An option and its value, if both stand in one argument."""
    return argument.split("=", 1) if argument.startswith("--") else [argument]


if __name__ == "__main__":
    main()
