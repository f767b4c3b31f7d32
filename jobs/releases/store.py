"""The releases in WORK/releases, and the links to two of them: current, and previous before it."""

import filecmp
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.contract import storage
from jobs.contract.names import COMPARISON, CURRENT, PREVIOUS, RELEASES
from jobs.contract.results import FileEntry, read_manifest
from jobs.contract.storage import JobError
from jobs.releases import gate


@contextmanager
def new_folder(releases: Path, release: str) -> Iterator[Path]:
    """Yield a hidden folder that becomes releases/<release> at the end, or nothing at all."""
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


def pointed(work: Path, link: str) -> str | None:
    """The id of the release that WORK/current or WORK/previous points to, if there is one."""
    path = work / link
    name = path.readlink().name if path.is_symlink() else None
    return name if name in storage.listed(work) else None


def activate(work: Path, release: str) -> None:
    """Let current point to the release, and previous to the one before; each in one step."""
    before = pointed(work, CURRENT)
    _point(work, CURRENT, release)
    if before not in (None, release):
        _point(work, PREVIOUS, str(before))


def _point(work: Path, link: str, release: str) -> None:
    temporary = work / f".{link}.{os.getpid()}.tmp"
    temporary.symlink_to(Path(RELEASES) / release)
    temporary.replace(work / link)
    storage.fsync_folder(work)


def chosen(work: Path, release: str) -> str:
    """The release, if it is there and its files have the sizes of its manifest."""
    if release not in (known := storage.listed(work)):
        raise JobError(f"there is no release {release} in {work}: name one of {', '.join(known)}")
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
        raise JobError(f"{folder} is not whole, or of another version: activate another release")
    return release


def known_as(work: Path, release: str) -> str:
    """The release, or, where a kept one has just the same files, that: then this one goes."""
    files = _facts(work, release)
    for name in storage.listed(work):
        if name != release and _facts(work, name) == files:
            _remove(work, release)
            return name
    return release


def _facts(work: Path, release: str) -> dict[str, FileEntry]:
    """What its manifest tells of a release's files, but of how it compares with another."""
    try:
        files = read_manifest(work / RELEASES / release).files
    except JobError:
        return {}
    files.pop(COMPARISON, None)
    return files


def _remove(work: Path, release: str) -> None:
    releases = work / RELEASES
    (releases / release).rename(_hidden(releases, release))  # so that nobody finds half of it
    shutil.rmtree(_hidden(releases, release))


def before_current(work: Path) -> str:
    """The release that was current before."""
    previous = pointed(work, PREVIOUS)
    if previous in (None, pointed(work, CURRENT)):
        raise JobError(f"{work} has no previous release: see --list, and --activate one of those")
    return str(previous)


def share(folder: Path, earlier: Path) -> None:
    """Make files that are as they were in an earlier release hard links to those."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        same = earlier / path.relative_to(folder)
        if same.is_file() and not same.samefile(path) and filecmp.cmp(same, path, shallow=False):
            temporary = path.with_name(f".{path.name}.tmp")
            os.link(same, temporary)
            temporary.replace(path)


def prune(work: Path, keep: int, made: str) -> list[str]:
    """Remove all but the last `keep` releases; what was made and what is linked stay. What went."""
    stay = {made, *(pointed(work, link) for link in (CURRENT, PREVIOUS))}
    gone = [name for name in storage.listed(work)[:-keep] if name not in stay]
    for name in gone:
        _remove(work, name)
    return gone
