"""Releases are kept, listed, shared and gone back to; what a link points to is never removed."""

import pytest

from jobs import contract
from jobs.contract import JobError
from jobs.releases import pointed
from tests import releases
from tests.work import copied, run


@pytest.fixture(scope="module")
def publishable(finished, tmp_path_factory):
    """A finished folder without releases; not to be changed."""
    return copied(finished, tmp_path_factory.mktemp("publishable") / "work")


def links(work):
    return pointed(work, contract.CURRENT), pointed(work, contract.PREVIOUS)


def test_a_rollback_exchanges_current_and_previous(tmp_path, capsys):
    for name in ("a", "b", "c"):
        releases.make(tmp_path, name)
    with pytest.raises(JobError, match="no previous release: see --list"):
        run("publish", tmp_path, "--rollback")
    assert "release a is current" in run("publish", tmp_path, "--activate", "a")
    assert links(tmp_path) == ("a", "c")
    for expected in (("c", "a"), ("a", "c")):
        run("publish", tmp_path, "--rollback")
        assert links(tmp_path) == expected
    assert run("publish", tmp_path, "--list") == f"3 releases in {tmp_path}"
    shown = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert shown[1:] == [["c", "previous"], ["b", "2023-01-01T00:00:00"], ["a", "current"]]


def test_only_a_whole_release_that_is_there_is_activated(tmp_path):
    releases.make(tmp_path, "good")
    broken = releases.make(tmp_path, "broken", activate=False)
    (broken / "serving/top_items.npy").write_bytes(b"")
    for name, says in (("broken", "top_items.npy is missing or damaged"), ("../x", "name one of")):
        with pytest.raises(JobError, match=says):
            run("publish", tmp_path, "--activate", name)
    assert links(tmp_path) == ("good", None)


def test_the_last_releases_stay_and_those_that_a_link_points_to(publishable, tmp_path):
    work = copied(publishable, tmp_path / "work")
    for name in ("2020", "2021", "2022", "2023"):
        releases.make(work, name)
    (work / "releases/elsewhere").symlink_to(tmp_path)
    run("publish", work, "--activate", "2020")
    assert "2 old ones removed" in run("publish", work, "--keep", "2")
    current, previous = links(work)
    assert previous == "2020"
    assert contract.listed(work) == ["2020", "2023", current]
    with pytest.raises(JobError, match="--keep is 0: expected at least 1"):
        run("publish", work, "--keep", "0")


def test_a_file_that_is_as_it_was_is_a_hard_link_to_it(publishable, tmp_path):
    work = copied(publishable, tmp_path / "work")
    run("publish", work)
    run("publish", work)
    first, second = (work / contract.RELEASES / name for name in contract.listed(work))
    files = {path.relative_to(first) for path in first.rglob("*") if path.is_file()}
    own = {str(file) for file in files if not (first / file).samefile(second / file)}
    assert own == {contract.MANIFEST}
    damaged = second / "serving/top_items.npy"
    damaged.unlink()
    damaged.write_bytes(b"\0" * (first / "serving/top_items.npy").stat().st_size)
    run("publish", work)
    third = work / contract.RELEASES / contract.listed(work)[-1]
    assert not (third / "serving/top_items.npy").samefile(damaged)
