"""Files that are whole or not there: atomic writes, JSON, and the error that users can fix."""

import filecmp
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec
from msgspec import Struct

from jobs.contract.names import RELEASES

T = TypeVar("T")


class JobError(Exception):
    """A problem that the user can fix: the message says what was found and what to do."""


def listed(work: Path) -> list[str]:
    """Return the ids of the releases in WORK/releases, oldest first: folders only, no links."""
    releases = work / RELEASES
    if not releases.is_dir():
        return []
    folders = (f for f in releases.iterdir() if f.is_dir() and not f.is_symlink())
    return sorted(f.name for f in folders if not f.name.startswith("."))


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; the file written there replaces `path` at the end.

    If `path` has the same bytes already, it is left alone: its time and inode do not change, so a
    job that reads it need not run again.
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


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)
        with target.open("rb+") as file:
            os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Write the folder itself to disk, so that a rename inside it survives a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Struct | dict[str, Any]) -> None:
    """Write a JSON file atomically; keys keep their order, and fields that are UNSET are left out.

    `content` is a struct of contract.results, or the values of a file that has a form of its own.
    """
    with atomic(path) as temporary:
        text = json.dumps(msgspec.to_builtins(content), indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n")


@overload
def read_json(path: Path, made_by: str) -> dict[str, Any]: ...


@overload
def read_json(
    path: Path, made_by: str, form: type[T], upgrade: Callable[[Any], Any] = ...
) -> T: ...


def read_json(
    path: Path,
    made_by: str,
    form: Any = None,
    upgrade: Callable[[Any], Any] = lambda content: content,
) -> Any:
    """Read a JSON object that the job `made_by` wrote, as a struct of the given form.

    `upgrade` turns the content of a file of an earlier version into the present form. JobError
    where the file is missing, is not JSON, lacks a field or has one of another type.
    """
    again = f"run python -m {made_by} again"

    class Content(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            raise JobError(f"{path} has no {key!r}, it may be of another version: {again}")

    try:
        content = json.loads(path.read_text(), object_hook=Content)
    except FileNotFoundError:
        raise JobError(f"{path} is missing: run python -m {made_by}") from None
    except (ValueError, OSError, RecursionError) as error:
        raise JobError(f"{path} is not JSON ({error}): {again}") from None
    if not isinstance(content, dict):
        raise JobError(f"{path} holds no JSON object: {again}")
    if form is None:
        return content
    try:
        return msgspec.convert(upgrade(content), form)
    except msgspec.ValidationError as error:
        raise JobError(
            f"{path} can't be used ({error}), it may be of another version: {again}"
        ) from None
