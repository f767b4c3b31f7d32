"""Releases are kept, listed, shared and gone back to; what a link points to is never removed."""

import json

import msgspec
import pyarrow.compute as pc
import pytest

from jobs.contract import storage, tables
from jobs.contract.names import COMPARISON, CURRENT, MANIFEST, METRICS, PREVIOUS, RELEASES
from jobs.contract.storage import JobError
from jobs.releases import gate
from jobs.releases.store import linked_release
from jobs.runtime import processors
from jobs.runtime.up_to_date import DONE
from tests.support import releases
from tests.support.workspace import copied, run


@pytest.fixture(scope="module")
def publishable(finished, tmp_path_factory):
    """A finished folder without releases; not to be changed."""
    return copied(finished, tmp_path_factory.mktemp("publishable") / "work")


def links(work):
    return linked_release(work, CURRENT), linked_release(work, PREVIOUS)


def test_a_rollback_exchanges_current_and_previous(tmp_path, capsys):
    for name in ("a", "b", "c"):
        releases.make(tmp_path, name)
    with pytest.raises(JobError, match="no previous release: choose one that --list shows"):
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
    for name, says in (("broken", "top_items.npy is missing or damaged"), ("../x", "pass one of")):
        with pytest.raises(JobError, match=says):
            run("publish", tmp_path, "--activate", name)
    assert links(tmp_path) == ("good", None)


def test_the_last_releases_stay_and_those_that_a_link_points_to(publishable, tmp_path):
    work = copied(publishable, tmp_path / "work")
    for name in ("2020", "2021", "2022", "2023"):
        releases.make(work, name)
    (work / "releases/elsewhere").symlink_to(tmp_path)
    run("publish", work, "--activate", "2020")
    assert "2 old ones removed" in run("publish", work, "--keep", "2", "--force")
    current, previous = links(work)
    assert previous == "2020"
    assert storage.listed(work) == ["2020", "2023", current]
    with pytest.raises(JobError, match="--keep is 0: expected at least 1"):
        run("publish", work, "--keep", "0")


def test_the_manifest_names_the_processors_that_were_mixed(publishable, tmp_path, monkeypatch):
    monkeypatch.setattr(processors, "_mixed", set())
    work = copied(publishable, tmp_path / "work")

    def named() -> list[dict[str, str]] | None:
        manifest = storage.read_json(work / CURRENT / MANIFEST, "jobs.publish")
        return manifest.get("mixed_processors")

    assert "mix of processors" not in run("publish", work)
    assert named() is None
    kinds = [
        {"vector_instructions": "avx, avx2", "blas_kernel": "openblas Haswell"},
        {"vector_instructions": "avx, avx2, avx512f", "blas_kernel": "openblas SkylakeX"},
    ]
    window = work / "windows" / "test"
    for folder, job, mixed in ((work, "rank", kinds[:1]), (window, "similar", kinds)):
        (folder / DONE).mkdir(parents=True, exist_ok=True)
        record = {"made": {f"{job}.made": [1, 2, 3]}, "mixed_processors": mixed}
        (folder / DONE / f"{job}.json").write_text(json.dumps(record))
        (folder / f"{job}.made").touch()
    assert ", made by a mix of processors" in run("publish", work)
    assert named() == kinds
    assert processors.noted() == [processors.Processor(**kind) for kind in kinds]
    (window / "similar.made").unlink()  # as where a window is no more
    run("publish", work)
    assert named() == kinds[:1]


def test_a_file_that_is_as_it_was_is_a_hard_link_to_it(publishable, tmp_path):
    work = copied(publishable, tmp_path / "work")
    run("publish", work)
    run("publish", work)
    first, second = (work / RELEASES / name for name in storage.listed(work))
    files = {path.relative_to(first) for path in first.rglob("*") if path.is_file()}
    own = {str(file) for file in files if not (first / file).samefile(second / file)}
    assert own == {MANIFEST}
    damaged = second / "serving/top_items.npy"
    damaged.unlink()
    damaged.write_bytes(b"\0" * (first / "serving/top_items.npy").stat().st_size)
    run("publish", work)
    third = work / RELEASES / storage.listed(work)[-1]
    assert not (third / "serving/top_items.npy").samefile(damaged)


def test_overlap_and_what_came_and_went_by_hand(tmp_path):
    final = {1: [1, 2, 3, 4], 2: [5], 3: [6]}
    old = releases.make(tmp_path, "old", final=final, heard={4: [1]}, tracks=range(1, 301))
    final = {1: [4, 3, 9], 2: [5], 5: [7]}
    tracks = [*range(1, 200), 500]
    new = releases.make(tmp_path, "new", final=final, heard={4: [1]}, tracks=tracks, top=[1])
    content = msgspec.to_builtins(gate.compare(old, new, "new"))
    assert content["overlap"] == {"users": 2, "@10": (2 / 4 + 1) / 2, "@100": 0.75}
    assert content["tracks"] == {"old": 300, "new": 200, "change": -1 / 3, "come": 1, "gone": 101}
    assert content["users"] == {"old": 4, "new": 4, "change": 0, "come": 1, "gone": 1}
    assert "rows of items.parquet fell by 33.3%, from 300 to 200 (at most 20%)" in content["falls"]


@pytest.mark.parametrize(
    ("name", "share", "falls"),
    [
        ("ndcg", 0.91, False),
        ("ndcg", 0.89, True),
        ("coverage", 0.8, False),
        ("coverage", 0.7, True),
    ],
)
def test_a_release_that_is_much_worse_is_kept_but_activated_only_by_force(
    publishable, tmp_path, name, share, falls
):
    work = copied(publishable, tmp_path / "work")
    run("publish", work)
    before = links(work)
    metrics = storage.read_json(work / METRICS, "jobs.evaluate")
    metrics["lists"]["final list"]["all"]["@10"][name] *= share
    storage.write_json(work / METRICS, metrics)
    if falls:
        with pytest.raises(JobError, match=rf"kept but not activated: {name}@10 fell by"):
            run("publish", work)
        assert links(work) == before
        kept = storage.listed(work)[-1]
        content = storage.read_json(work / "releases" / kept / COMPARISON, "jobs.publish")
        assert (content["old"], content["new"]) == (before[0], kept)
        run("publish", work, "--activate", kept)
        run("publish", work, "--activate", before[0])
        assert "is current" in run("publish", work, "--force")
    else:
        run("publish", work)
    assert links(work) == (storage.listed(work)[-1], before[0])
    page = (work / "report/release.html").read_text()
    assert ("fell further than is allowed" in page) == falls
    assert "NDCG@10 with its 95 % interval" in page


@pytest.mark.parametrize(
    ("name", "share", "falls"),
    [("users", 0.6, False), ("users", 0.4, True), ("labels", 0.6, False), ("labels", 0.4, True)],
)
def test_a_report_on_far_fewer_users_or_labels_stops_a_release(
    publishable, tmp_path, name, share, falls
):
    work = copied(publishable, tmp_path / "work")
    run("publish", work)
    metrics = storage.read_json(work / METRICS, "jobs.evaluate")
    metrics["window"][name] = int(metrics["window"][name] * share)
    metrics["lists"]["final list"]["all"]["@10"]["ndcg"] *= 2  # it proves nothing
    storage.write_json(work / METRICS, metrics)
    if falls:
        with pytest.raises(JobError, match=f"number of {name} of the report fell by 60"):
            run("publish", work)
    else:
        assert "is current" in run("publish", work)


def test_listens_that_span_far_fewer_days_stop_a_release(publishable, tmp_path):
    work = copied(publishable, tmp_path / "work")
    run("publish", work)
    listens = tables.read(tables.LISTENS, work)
    days = listens["started_at"].combine_chunks()
    near = pc.add(pc.min(days), pc.divide(pc.subtract(days, pc.min(days)), 6))
    table = listens.set_column(2, "started_at", near.cast(listens.schema.field(2).type))
    tables.write(tables.LISTENS, work, table)
    with pytest.raises(JobError, match=r"number of days of listens fell by 83\.3%"):
        run("publish", work)


def test_another_split_is_reported_and_what_an_old_release_lacks_is_not_compared(
    publishable, tmp_path
):
    work = copied(publishable, tmp_path / "work")
    run("publish", work)
    metrics = storage.read_json(work / METRICS, "jobs.evaluate")
    before = metrics["window"]["split"]
    metrics["window"]["split"] = "another"
    storage.write_json(work / METRICS, metrics)
    run("publish", work)
    told = f"split was {before!r} and is 'another'"
    compared = storage.read_json(work / "current" / COMPARISON, "jobs.publish")
    assert told in compared["notes"][0]
    assert (
        "Split was" in (work / "report/release.html").read_text()
        or told[6:] in compared["notes"][0]
    )
    old = work / CURRENT / METRICS
    content = storage.read_json(old, "jobs.evaluate")
    del content["window"]
    old.unlink()
    storage.write_json(old, content)
    comparison = gate.compare(work / CURRENT, work / PREVIOUS, "new")
    assert [*comparison.report] == ["days of listens"]
    assert comparison.notes == comparison.falls == []


def test_a_release_of_another_contract_is_nothing_to_compare_with(publishable, tmp_path):
    work = copied(publishable, tmp_path / "work")
    old = releases.make(work, "old", tracks=range(1, 2000))
    manifest = storage.read_json(old / MANIFEST, "jobs.publish")
    storage.write_json(old / MANIFEST, manifest | {"contract": 1})
    assert "is current" in run("publish", work)
    assert not (work / "current" / COMPARISON).exists()


def test_a_release_without_the_metrics_of_the_one_before_is_kept_and_only_once(
    publishable, tmp_path
):
    work = copied(publishable, tmp_path / "work")
    run("publish", work)
    metrics = storage.read_json(work / METRICS, "jobs.evaluate")
    del metrics["lists"]["final list"]
    storage.write_json(work / METRICS, metrics)
    for _ in range(2):
        with pytest.raises(JobError, match=r"kept but not activated: ndcg@10 fell by 100\.0%"):
            run("publish", work)
        assert len(storage.listed(work)) == 2


def test_a_damaged_current_release_does_not_stand_in_the_way_and_is_named(publishable, tmp_path):
    work = copied(publishable, tmp_path / "work")
    run("publish", work)
    first, _ = links(work)
    path = work / "current/serving/track_ids.npy"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    assert f"is current, not compared with {first} (" in run("publish", work)
    assert not (work / "report/release.html").exists()
    (work / "current" / MANIFEST).unlink()
    assert "it is incomplete, or of another version" in run("publish", work)


def test_a_name_that_is_empty_is_no_release(tmp_path):
    releases.make(tmp_path, "good")
    with pytest.raises(JobError, match="there is no release '' in"):
        run("publish", tmp_path, "--activate", "")


def test_a_release_of_another_version_is_not_activated(tmp_path):
    releases.make(tmp_path, "good")
    other = releases.make(tmp_path, "other", activate=False)
    storage.write_json(other / MANIFEST, {"contract": 99, "files": {}})
    with pytest.raises(JobError, match="is incomplete, or of another version"):
        run("publish", tmp_path, "--activate", "other")


def test_who_left_the_users_since_the_lists_were_made_is_in_no_release(publishable, tmp_path):
    work = copied(publishable, tmp_path / "work")
    for table in (tables.USERS, tables.LISTENS):
        whole = tables.read(table, work)
        gone = pc.equal(whole["user_id"], pc.min(whole["user_id"]))
        tables.write(table, work, whole.filter(pc.invert(gone)))
    with pytest.raises(JobError, match=r"recommendations\.parquet has users that users\.parquet"):
        run("publish", work)
    assert storage.listed(work) == []


def test_what_was_just_made_stays_whatever_its_name(publishable, tmp_path):
    work = copied(publishable, tmp_path / "work")
    for name in ("w", "x", "y", "z"):
        releases.make(work, name)
    run("publish", work, "--keep", "1", "--force")
    current, previous = links(work)
    assert previous == "z"
    assert {*storage.listed(work)} == {current, "z"}
