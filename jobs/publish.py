"""Make a release of the lists and point the link `current` to it.

    python -m jobs.publish --work data [--keep 5] [--force]
    python -m jobs.publish --work data --list | --activate ID | --rollback

Makes releases/<id>/ with every file of the contract, the arrays that the service maps into memory,
and manifest.json. The files are hard links to those in WORK, which are never changed in place; a
file that equals the one in the current release is a hard link to that one. Where the file system
has no hard links, the files are copied. Then `current` points to
the new release, and `previous` to the one before.

comparison.json and report/release.html compare the new release with the current one. If it is too
much worse (gate.MAX_DROP), it is kept but not activated, and the exit code is 1; --force activates
it. The last --keep releases stay, and those that the links point to. --list shows them; --activate
and --rollback change the links. The service loads the current release when /load_recommendations
is called.
"""

from collections.abc import Sequence
from pathlib import Path

from jobs.contract import storage
from jobs.contract.names import CURRENT, PREVIOUS, RELEASE_PAGE, RELEASES
from jobs.contract.results import Manifest, ServedSettings, read_manifest
from jobs.contract.storage import JobError
from jobs.releases import store
from jobs.runtime import cli, memory, parallel

KEEP = 5  # releases


def check_link(work: Path) -> None:
    """Raise JobError if `current` or `previous` exists and is not a link."""
    for link in (work / CURRENT, work / PREVIOUS):
        if link.exists() and not link.is_symlink():
            raise JobError(f"{link} is not a link, but this job needs that name: move it elsewhere")


def listing(work: Path) -> str:
    """Return a table of the releases, newest first: link, time, end of its data, NDCG@10, size."""
    links = {store.linked_release(work, name): name for name in (PREVIOUS, CURRENT)}
    columns = "{:24} {:9} {:26} {:20} {:>8} {:>9}".format
    lines = [columns("release", "link", "made", "data until", "NDCG@10", "MB")]
    for release in reversed(storage.listed(work)):
        try:
            facts = _facts(read_manifest(work / RELEASES / release))
        except JobError:
            facts = ["no manifest", "", "", ""]
        lines.append(columns(release, links.get(release, ""), *facts))
    return "\n".join(lines)


def _facts(manifest: Manifest[ServedSettings]) -> list[str]:
    """Return when a release was made, the time of its last listen, its NDCG@10 and its MB."""
    ndcg = manifest.metrics.lists.get("final list", {}).get("all", {}).get("@10", {}).get("ndcg")
    size = sum(entry.bytes for entry in manifest.files.values())
    shown = "" if ndcg is None else f"{ndcg:.4f}"
    until = manifest.data.last if manifest.data else ""
    return [manifest.created_at.isoformat(), until, shown, f"{size / 1e6:,.1f}"]


def main(argv: Sequence[str]) -> str:
    """Make a release and activate it, or activate an existing one, or list the releases."""
    parser = cli.parser(__doc__)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="show the releases")
    action.add_argument("--activate", metavar="ID", help="point current to this release")
    action.add_argument("--rollback", action="store_true", help="exchange current and previous")
    parser.add_argument(
        "--keep", type=int, default=KEEP, help=f"how many releases to keep ({KEEP})"
    )
    parser.add_argument("--force", action="store_true", help="activate it even if it is worse")
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
        release = store.previous_release(work) if args.rollback else args.activate
        store.check_intact(work, release)
        store.activate(work, release)
        return f"release {release} is current; call /load_recommendations to make a service load it"
    return publish(work, args.keep, args.force)


def publish(work: Path, keep: int, force: bool) -> str:
    """Make a release, activate it if the gate allows, and remove old ones; return the summary."""
    # These imports take a second, and a change of the links needs none of them.
    from jobs.releases import build
    from jobs.reporting import release_page

    build.check(work)
    (work / RELEASE_PAGE).unlink(missing_ok=True)  # it describes an earlier release
    made = build.make(work, lambda content, path: release_page.page(content).write(path))
    if made.comparison is not None:
        (work / RELEASE_PAGE).parent.mkdir(exist_ok=True)
        storage.link(work / RELEASES / made.id / RELEASE_PAGE, work / RELEASE_PAGE)
    if force or not made.falls:
        release = made.id
        store.activate(work, release)
    else:
        release = store.without_copies(work, made.id)
    removed = store.prune(work, keep, release)
    if made.falls and not force:
        raise JobError(
            f"release {release} is kept but not activated: {'; '.join(made.falls)}. Look at "
            f"{work / RELEASE_PAGE}. To activate it all the same, run "
            f"python -m jobs.publish --work {work} --activate {release}, or publish with --force"
        )
    folder = work / RELEASES / release
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    compared = f", {made.not_compared}" if made.not_compared else ""
    mixed = ", made by a mix of processors" if read_manifest(folder).mixed_processors else ""
    return (
        f"release {release} of {size / 1e6:,.1f} MB is current{mixed}{compared}; "
        f"{len(removed)} old ones removed"
    )


if __name__ == "__main__":
    cli.run(main)
