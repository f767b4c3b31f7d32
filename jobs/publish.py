"""Make a release of the lists and let the link `current` point to it.

    python -m jobs.publish --work data [--keep 5] [--force]
    python -m jobs.publish --work data --list | --activate ID | --rollback

Makes releases/<id>/ with every file of the contract (hard links: the files are never changed in
place; what is as it was in the current release is a hard link to that), the arrays that the service
maps into memory, and manifest.json; then current points to it, and previous to the one before.
Beside the current release it may not fall too far (gate.MAY_FALL): without --force it is then kept
but not activated, and the exit code is 1; comparison.json and report/release.html compare them. Of
the releases the last --keep stay, and those two. --list shows them; --activate and --rollback move
the links, and the service follows at /load_recommendations.
"""

from collections.abc import Sequence
from pathlib import Path

from jobs.contract import storage
from jobs.contract.names import CURRENT, PREVIOUS, RELEASES
from jobs.contract.results import Manifest, ServedSettings, read_manifest
from jobs.contract.storage import JobError
from jobs.releases import store
from jobs.runtime import cli, memory, parallel

KEEP = 5  # releases
PAGE = Path("report/release.html")


def check_link(work: Path) -> None:
    """JobError if current or previous is something else than this job's link."""
    for link in (work / CURRENT, work / PREVIOUS):
        if link.exists() and not link.is_symlink():
            raise JobError(f"{link} is no link, though this job makes one: move it elsewhere")


def listing(work: Path) -> str:
    """A line a release, the newest first: which it is, from when, of which data, how good."""
    links = {store.pointed(work, name): name for name in (PREVIOUS, CURRENT)}
    columns = "{:24} {:9} {:26} {:20} {:>8} {:>9}".format
    lines = [columns("release", "is", "made", "data until", "NDCG@10", "MB")]
    for release in reversed(storage.listed(work)):
        try:
            told = _told(read_manifest(work / RELEASES / release))
        except JobError:
            told = ["no manifest", "", "", ""]
        lines.append(columns(release, links.get(release, ""), *told))
    return "\n".join(lines)


def _told(manifest: Manifest[ServedSettings]) -> list[str]:
    """When the release was made, until when its data went, how good it is, and how large."""
    ndcg = manifest.metrics.lists.get("final list", {}).get("all", {}).get("@10", {}).get("ndcg")
    size = sum(entry.bytes for entry in manifest.files.values())
    shown = "" if ndcg is None else f"{ndcg:.4f}"
    until = manifest.data.last if manifest.data else ""
    return [manifest.created_at.isoformat(), until, shown, f"{size / 1e6:,.1f}"]


def main(argv: Sequence[str]) -> str:
    """Make a release and let current point to it, or move current, or show what there is."""
    parser = cli.parser(__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show the releases")
    what.add_argument("--activate", metavar="ID", help="let current point to this release")
    what.add_argument("--rollback", action="store_true", help="exchange current and previous")
    parser.add_argument("--keep", type=int, default=KEEP, help=f"last releases that stay ({KEEP})")
    parser.add_argument("--force", action="store_true", help="activate it however far it fell")
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("publish", args))
    work = args.work
    if args.keep < 1:
        raise JobError(f"--keep is {args.keep}: expected at least 1")
    if args.list:
        print(listing(work))
        return f"{len(storage.listed(work))} releases in {work}"
    check_link(work)
    if args.activate is not None or args.rollback:
        wanted = store.before_current(work) if args.rollback else args.activate
        known = store.chosen(work, wanted)
        store.activate(work, known)
        return f"release {known} is current; a service takes it at /load_recommendations"
    return publish(work, args.keep, args.force)


def publish(work: Path, keep: int, force: bool) -> str:
    """Make a release, activate it unless it fell too far, and remove old ones; the summary."""
    # These load for a second, and moving a link needs none of them.
    from jobs.releases import build
    from jobs.reporting import release_page

    build.check(work)
    (work / PAGE).unlink(missing_ok=True)  # it describes the release before
    made = build.make(work)
    if made.comparison is not None:
        release_page.page(made.comparison).write(work / PAGE)
    if force or not made.falls:
        release = made.id
        store.activate(work, release)
    else:
        release = store.known_as(work, made.id)
    gone = store.prune(work, keep, release)
    if made.falls and not force:
        raise JobError(
            f"release {release} is kept but not activated: {'; '.join(made.falls)}. See "
            f"{work / PAGE}; "
            f"python -m jobs.publish --work {work} --activate {release} activates it, and so does "
            "--force at once"
        )
    folder = work / RELEASES / release
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    compared = f", {made.not_compared}" if made.not_compared else ""
    return (
        f"release {release} of {size / 1e6:,.1f} MB is current{compared}; "
        f"{len(gone)} old ones removed"
    )


if __name__ == "__main__":
    cli.run(main)
