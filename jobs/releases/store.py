"""The releases in WORK/releases, and the links `current` and `previous` to two of them."""

import filecmp
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.contract import storage
from jobs.contract.names import COMPARISON, CURRENT, PREVIOUS, RELEASE_PAGE, RELEASES
from jobs.contract.results import FileEntry, read_manifest
from jobs.contract.storage import JobError
from jobs.releases import gate


@contextmanager
def new_folder(releases: Path, release: str) -> Iterator[Path]:
    """Yield a hidden folder that becomes releases/<release> at the end; an error removes it."""
    temporary = _hidden(releases, release)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        storage.fsync_folder(temporary)
        temporary.rename(releases / release)
        storage.fsync_folder(releases)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _hidden(releases: Path, release: str) -> Path:
    return releases / f".{release}.tmp"


def linked_release(work: Path, link: str) -> str | None:
    """Return the id of the release that WORK/current or WORK/previous points to, if it exists."""
    path = work / link
    name = path.readlink().name if path.is_symlink() else None
    return name if name in storage.listed(work) else None


def activate(work: Path, release: str) -> None:
    """Point `current` to the release and `previous` to the one before, each in one step."""
    before = linked_release(work, CURRENT)
    _point(work, CURRENT, release)
    if before not in (None, release):
        _point(work, PREVIOUS, str(before))


def _point(work: Path, link: str, release: str) -> None:
    temporary = work / f".{link}.{os.getpid()}.tmp"
    temporary.symlink_to(Path(RELEASES) / release)
    temporary.replace(work / link)
    storage.fsync_folder(work)


def check_intact(work: Path, release: str) -> None:
    """Raise JobError if the release does not exist, or a file is missing or of another size."""
    if release not in (known := storage.listed(work)):
        raise JobError(f"there is no release {release!r} in {work}: pass one of {', '.join(known)}")
    folder = work / RELEASES / release
    try:
        files = read_manifest(folder).files
    except JobError:
        files = {}
    for name, entry in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise JobError(f"{path} is missing or damaged: activate another release")
    if not gate.comparable(folder):
        raise JobError(
            f"{folder} is incomplete, or of another version of the code: activate another release"
        )


def without_copies(work: Path, release: str) -> str:
    """Remove the release if another one has the same files; return the id of the one that stays."""
    files = _file_entries(work, release)
    for name in storage.listed(work):
        if name != release and _file_entries(work, name) == files:
            _remove(work, release)
            return name
    return release


def _file_entries(work: Path, release: str) -> dict[str, FileEntry]:
    """Return the manifest's entries of a release's files, without those of the comparison."""
    try:
        files = read_manifest(work / RELEASES / release).files
    except JobError:
        return {}
    for name in (COMPARISON, RELEASE_PAGE):
        files.pop(name, None)
    return files


def _remove(work: Path, release: str) -> None:
    releases = work / RELEASES
    (releases / release).rename(_hidden(releases, release))  # so that nobody reads a part of it
    shutil.rmtree(_hidden(releases, release))


def previous_release(work: Path) -> str:
    """Return the release that was current before. Raises JobError if there is none."""
    previous = linked_release(work, PREVIOUS)
    if previous in (None, linked_release(work, CURRENT)):
        raise JobError(
            f"{work} has no previous release: choose one that --list shows, and pass it to "
            "--activate"
        )
    return str(previous)


def link_unchanged(folder: Path, earlier: Path) -> None:
    """Replace each file that equals the one in an earlier release by a hard link to that one."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        same = earlier / path.relative_to(folder)
        if same.is_file() and not same.samefile(path) and filecmp.cmp(same, path, shallow=False):
            temporary = path.with_name(f".{path.name}.tmp")
            with suppress(OSError):  # a file system without hard links
                os.link(same, temporary)
                temporary.replace(path)


def prune(work: Path, keep: int, made: str) -> list[str]:
    """Remove all but the last `keep` releases; return the ids of those that were removed.

    The release that was just made and those of the links `current` and `previous` always stay.
    """
    protected = {made, *(linked_release(work, link) for link in (CURRENT, PREVIOUS))}
    removed = [name for name in storage.listed(work)[:-keep] if name not in protected]
    for name in removed:
        _remove(work, name)
    return removed
