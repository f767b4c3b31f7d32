"""All jobs together: from the three input files to a release."""

import hashlib
import shutil
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.release.catalog import Catalog
from jobs.contract import serving, storage
from jobs.contract.names import ALS_MODEL, CURRENT, MANIFEST, METRICS, RELEASES, SERVING, WINDOWS
from jobs.contract.storage import JobError
from jobs.contract.tables import ITEMS, LISTENS, RECOMMENDATIONS, RELEASED, TABLES, n_rows
from jobs.ranking import features
from jobs.ranking.snapshot import Snapshot
from tests.support.workspace import copied, lists, rows, run, run_line, save_input

ROOT = Path(__file__).parents[2]


def files(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    """The hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
        if path.is_file()
    }


def heard_by_user(work: Path) -> dict[int, set[int]]:
    result: dict[int, set[int]] = {}
    for user, track in rows(LISTENS, work, "user_id", "track_id"):
        result.setdefault(user, set()).add(track)
    return result


def check_lists(work: Path, heard: str = "exclude") -> None:
    """Each user has 100 tracks of the catalogue, or as many as there are; none heard, or any."""
    known = {track for (track,) in rows(ITEMS, work, "track_id")}
    played = heard_by_user(work)
    listened = set().union(*played.values())
    found = lists(RECOMMENDATIONS, work)
    assert set(found) <= set(played)
    for user, own in played.items():
        out = own if heard == "exclude" else set()
        tracks = found.get(user, [])
        assert len(tracks) == len(set(tracks))
        assert set(tracks) <= known - out
        assert min(100, len(listened - out)) <= len(tracks) <= 100


def check_release(work: Path) -> None:
    """`current` is complete, and its manifest true."""
    folder = work / CURRENT
    manifest = storage.read_json(folder / MANIFEST, "jobs.publish")
    assert str(folder.readlink()) == f"releases/{manifest['id']}"
    hashes = files(folder)
    del hashes[MANIFEST]
    assert {name: facts["sha256"] for name, facts in manifest["files"].items()} == hashes
    for name, facts in manifest["files"].items():
        assert facts["bytes"] == (folder / name).stat().st_size
        is_table = name in TABLES
        assert facts["rows"] == (n_rows(TABLES[name], folder) if is_table else None)
    tables = {table.file for table in RELEASED}
    arrays = {f"{SERVING}/{name}.npy" for name in serving.SERVING_ARRAYS}
    assert hashes.keys() >= tables | arrays | {ALS_MODEL, METRICS}
    assert manifest["schemas"].keys() == tables
    for name in tables:
        assert hashes[name] == files(work, name)[name]
    at = [at for (at,) in rows(LISTENS, folder, "started_at")]
    assert manifest["data"] == {"first": min(at).isoformat(), "last": max(at).isoformat()}
    assert Catalog(folder.resolve(), {}).n_tracks == n_rows(ITEMS, work)


def test_every_user_gets_100_known_tracks_that_they_have_not_heard(finished):
    check_lists(finished)


def test_the_release_is_complete_and_its_manifest_true(finished):
    check_release(finished)


def with_another_future(played: pa.Table, cut: datetime) -> pa.Table:
    """Interactions with other tracks from the cut on, and after it other users and times too."""
    rng = np.random.default_rng(0)
    user, track, seq = (
        played[name].to_numpy().astype(np.int64) for name in ("user_id", "track_id", "track_seq")
    )
    at = played["started_at"].to_numpy().copy()
    late = np.flatnonzero(at >= np.datetime64(cut))
    track[late] = rng.choice(track, len(late))
    seq[late] = np.arange(len(late)) + 1000  # so that no two rows are equal
    late = np.flatnonzero(at > np.datetime64(cut))
    user[late] = rng.permutation(user[late]) + rng.integers(0, 2, len(late))
    at[late] = np.datetime64(cut) + rng.integers(1, 20, len(late)).astype("timedelta64[D]")
    columns = {"user_id": user, "track_id": track, "track_seq": seq, "started_at": at}
    return pa.table(columns)


def test_nothing_made_for_a_window_knows_what_came_after_its_cut(finished, sample, tmp_path):
    split = storage.read_json(finished / "windows" / "test" / "split.json", "jobs.windows")
    assert split["split"] == "time"
    cut = datetime.fromisoformat(split["cut"]).replace(tzinfo=None)
    data = shutil.copytree(sample, tmp_path / "in")
    played = pq.read_table(sample / "interactions.parquet")
    pq.write_table(with_another_future(played, cut), data / "interactions.parquet")
    run_line(data, tmp_path, last="rank")
    before, after = files(finished, "windows/*/*"), files(tmp_path, "windows/*/*")
    report = "windows/test"
    for name in ("recommendations.parquet", "als_model.npz", "settings.json"):
        assert f"{report}/{name}" in before
    may_differ = {f"{report}/holdout.parquet", f"{report}/recommendations.parquet"} | {
        f"windows/{name}/split.json" for name in WINDOWS
    }
    assert {name for name in before if before[name] != after[name]} <= may_differ
    assert before.keys() == after.keys()
    assert before[f"{report}/holdout.parquet"] != after[f"{report}/holdout.parquet"]
    assert files(finished, "settings.json") == files(tmp_path, "settings.json")
    lists_before, lists_after = (
        lists(RECOMMENDATIONS, work / report) for work in (finished, tmp_path)
    )  # of the users of the holdout, which is not the same one
    both = lists_before.keys() & lists_after.keys()
    assert len(both) > len(lists_before) / 2
    assert all(lists_before[user] == lists_after[user] for user in both)
    pools = [
        features.featured_candidates(Snapshot.read(work / report), np.arange(100))
        for work in (finished, tmp_path)
    ]
    assert np.array_equal(pools[0].item, pools[1].item)
    for name, values in pools[0].features.items():
        assert np.array_equal(values, pools[1].features[name], equal_nan=True), name
    assert files(finished, "recommendations.parquet") != files(tmp_path, "recommendations.parquet")


def test_heard_tracks_may_be_recommended_where_that_is_asked_for(sample, tmp_path):
    run_line(sample, tmp_path, tune=["--heard", "include", "--tune", "off"])
    check_lists(tmp_path, heard="include")
    check_release(tmp_path)
    played = heard_by_user(tmp_path)
    found = lists(RECOMMENDATIONS, tmp_path)
    assert any(set(found[user]) & own for user, own in played.items())
    manifest = storage.read_json(tmp_path / "current" / MANIFEST, "jobs.publish")
    assert manifest["settings"]["heard"] == "include"


RNG = np.random.default_rng(0)
FEW = range(10, 60)
MANY = range(100, 250)
HUGE = [0, 2**31, 2**53 - 2, 2**53 - 1]


def some(users, tracks, n: int, days: float = 300) -> list[tuple[int, int, float]]:
    """n listens of each user, each of another track, spread over the days."""
    at = {user: np.sort(RNG.uniform(0, days, n)) for user in users}
    return [(u, int(t), at[u][i]) for u in users for i, t in enumerate(RNG.permutation(tracks)[:n])]


ONE_HISTORY = some([1], FEW, 20)
ODD = {
    "one user": (some([5], FEW, 40), FEW),
    "three listens": ([(1, 10, 0), (2, 11, 5), (3, 10, 9)], FEW),
    "one listen": ([(1, 10, 0)], [10]),
    "every user heard everything": (some(range(20), range(30), 30), range(30)),
    "a catalogue of five tracks": (some(range(30), range(5), 4), range(5)),
    "the same two tracks again and again": (
        [(u, i % 2, u * 50 + i) for u in range(20) for i in range(30)], range(5),
    ),
    "everyone at one time": (some(range(40), MANY, 30, days=0), MANY),
    "users who come once for one track": ([(u, u % 40, u * 3) for u in range(200)], range(40)),
    "one user who heard nearly all": (
        some([1], range(400), 390) + some(range(2, 30), range(400), 10), range(400),
    ),
    "two users with one history": (ONE_HISTORY + [(2, t, d) for _, t, d in ONE_HISTORY], FEW),
    "tracks without artists and genres": (some(range(40), MANY, 30), MANY, False),
    "huge ids": (some([*HUGE, *range(100, 130)], [*HUGE, *MANY], 30), [*HUGE, *MANY]),
}  # fmt: skip


# Of the kinds in which there is little that is not heard.
HEARD_MATTERS = (
    "every user heard everything", "a catalogue of five tracks",
    "the same two tracks again and again", "one user who heard nearly all",
    "users who come once for one track",
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "heard"),
    [*((kind, "exclude") for kind in ODD), *((kind, "include") for kind in HEARD_MATTERS)],
)
def test_odd_data_give_a_right_release_or_a_clear_error(kind, heard, tmp_path):
    data = save_input(tmp_path / "in", *ODD[kind])
    try:
        run_line(data, tmp_path, tune=["--heard", heard])
    except JobError as error:
        assert len(str(error)) > 40
        assert not (tmp_path / CURRENT).exists()
    else:
        check_lists(tmp_path, heard)
        check_release(tmp_path)


def test_current_always_points_to_a_whole_release(finished, tmp_path):
    work = copied(finished, tmp_path / "work")
    run("publish", work)
    done, seen = threading.Event(), set()

    def look() -> None:
        while not done.is_set():
            folder = work / (work / CURRENT).readlink()
            manifest = storage.read_json(folder / MANIFEST, "jobs.publish")
            assert all((folder / name).is_file() for name in manifest["files"])
            seen.add(manifest["id"])

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(5):
        run("publish", work)
    done.set()
    reader.join()
    assert len(seen) > 1
    assert len(storage.listed(work)) == 5


@pytest.mark.parametrize("name", [t.file for t in RELEASED] + ["als_model.npz", "metrics.json"])
def test_publish_makes_no_release_of_what_is_not_complete(name, finished, tmp_path):
    work = copied(finished, tmp_path / "work")
    run("publish", work)
    current = (work / CURRENT).readlink()
    (work / name).unlink()
    with pytest.raises(JobError, match=rf"{name} is missing: run python -m jobs\.\w+ --work"):
        run("publish", work)
    assert (work / CURRENT).readlink() == current
    assert len(list((work / RELEASES).iterdir())) == 1


def test_publish_replaces_nothing_but_its_own_link(finished, tmp_path):
    work = copied(finished, tmp_path / "work")
    (work / CURRENT).mkdir()
    with pytest.raises(JobError, match=r"current is not a link, .*: move it elsewhere"):
        run("publish", work)
    assert not (work / RELEASES).exists()


def test_a_job_in_a_process_says_in_one_line_what_it_did_or_what_to_do(finished, tmp_path):
    def job(name: str, work: Path) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", f"jobs.{name}", "--work", str(work)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    work = copied(finished, tmp_path / "work")
    done = job("next_played", work)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("next_played: ")
    assert done.stdout.count("\n") == 1
    assert files(work, "next_played.parquet") == files(finished, "next_played.parquet")
    failed = job("similar", tmp_path / "nothing")
    expected = f"{tmp_path}/nothing/users.parquet is missing: run python -m jobs.prepare"
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == f"similar: {expected} --work {tmp_path}/nothing\n"
