"""Files that are whole or not there: atomic writes, JSON, and the error that a user can mend."""

import filecmp
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.contract.names import RELEASES


class JobError(Exception):
    """A problem that the user can mend: says what, what was found and what to do."""


def listed(work: Path) -> list[str]:
    """The ids of the releases in WORK/releases, oldest first: real folders only, never a link."""
    releases = work / RELEASES
    if not releases.is_dir():
        return []
    folders = (f for f in releases.iterdir() if f.is_dir() and not f.is_symlink())
    return sorted(f.name for f in folders if not f.name.startswith("."))


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there takes its place at the end.

    If `path` has the very same bytes already, it stays, so that nobody takes it for changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            return
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` last through a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically; keys keep their order."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """Read a JSON object that the job `made_by` wrote; a key that it lacks is a JobError too."""
    again = f"run python -m {made_by} again"

    class Content(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            raise JobError(f"{path} has no {key!r}, it may be of another version: {again}")

    try:
        content = json.loads(path.read_text(), object_hook=Content)
    except FileNotFoundError:
        raise JobError(f"{path} is missing: run python -m {made_by}") from None
    except (ValueError, OSError) as error:
        raise JobError(f"{path} is not JSON ({error}): {again}") from None
    if not isinstance(content, dict):
        raise JobError(f"{path} holds no JSON object: {again}")
    return content
