"""Songs under two ids, from the files to an answer: once in a list, heard once is heard."""

import asyncio
import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.release.loader import ReleaseError
from api.service import Service
from api.settings import Settings
from jobs.contract import storage, tables
from jobs.contract.names import CURRENT, MANIFEST, METRICS, SERVING, WINDOWS
from jobs.contract.results import Metrics
from tests.support.doubles import save_doubles
from tests.support.workspace import lists, rows, run, run_line

SONGS = 90
LISTS = (tables.PERSONAL_ALS, tables.SIMILAR, tables.NEXT_PLAYED, tables.RECOMMENDATIONS)


@pytest.fixture(scope="module")
def work(shared):
    """A finished run on songs of which each has two ids."""

    def fill(folder):
        save_doubles(folder / "in", SONGS, users=60, plays=30)
        run_line(folder / "in", folder, tune=["--tune", "off"])

    return shared("doubles", fill)


@pytest.fixture(params=["alternate", "weighted"])
def service(work, request):
    """The service, which answers from the release of that run by one of the rules."""
    service = Service(Settings(work=work, journal="off", blending=request.param))
    asyncio.run(service.releases.load())
    return service


def song(track: int) -> int:
    return track % 500


@pytest.mark.parametrize("window", ["", *(f"windows/{name}" for name in WINDOWS)])
def test_lists_are_of_shown_ids_only_and_so_have_no_song_twice(work, window):
    folder = work / window
    shown = dict(rows(tables.SONGS, folder))
    assert set(shown) == {*range(SONGS), *range(500, 500 + SONGS)}
    assert all(song(track) == song(other) for track, other in shown.items())
    made = [t for t in LISTS if (folder / t.file).exists()]
    assert len(made) >= 3
    for table in made:
        for key, items in lists(table, folder).items():
            assert {*items} <= {*shown.values()}, table.file
            assert table.schema.names[0] == "user_id" or key in shown.values()
    top = [track for (track,) in rows(tables.TOP_POPULAR, folder, "track_id")]
    assert len(top) == len({song(track) for track in top})


def test_a_song_heard_under_one_id_is_not_recommended_under_the_other(work):
    heard: dict[int, set[int]] = {}
    for user, track in rows(tables.LISTENS, work, "user_id", "track_id"):
        heard.setdefault(user, set()).add(song(track))
    found = lists(tables.RECOMMENDATIONS, work)
    assert len(found) == 60
    for user, tracks in found.items():
        assert not heard[user] & {song(track) for track in tracks}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([1, 2, 3, 9999]),
    st.lists(st.integers(0, SONGS - 1), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_a_live_play_of_any_id_counts_as_one_of_the_song(work, service, user, played, which):
    """Each play is of a song, under one id of it or the other."""
    shown = dict(rows(tables.SONGS, work))
    events = tuple(s + 500 * other for s, other in zip(played, which, strict=False))
    recommender = service.releases.current()
    row = recommender.catalog.row(user)
    answers = [
        (
            recommender.catalog.ids(recommender.recommended(row, 1000, plays)),
            recommender.catalog.ids(recommender.online(row, 10, 10, plays)),
        )
        for plays in (tuple(shown[track] for track in events), events)
    ]
    assert answers[0] == answers[1]
    for tracks in answers[0]:
        assert {*tracks} <= {*shown.values()}
        assert len({song(track) for track in tracks}) == len(tracks)
        assert not {*played} & {song(track) for track in tracks}


def test_an_explained_answer_names_the_id_that_was_played(work, service):
    other = next(t for t, s in dict(rows(tables.SONGS, work)).items() if s != t)
    recommender = service.releases.current()
    _, reasons = recommender.explained(recommender.catalog.row(1), 20, (other,))
    assert {event for reason in reasons for event in reason.events} == {other}


def test_a_hit_under_another_id_counts_and_the_figure_by_id_stands_beside_it(work, capsys):
    metrics = storage.read_json(work / METRICS, "jobs.evaluate", Metrics)
    by_song, by_id = (
        found["final list"]["all"]["@10"]["ndcg"] for found in (metrics.lists, metrics.lists_by_id)
    )
    assert 0.2 * by_song < by_id < 0.8 * by_song  # half of the plays are of the other id
    assert "if only the id" in (work / "report" / "evaluation.html").read_text().lower()
    shown = dict(rows(tables.SONGS, work))
    user, tracks = next(iter(lists(tables.RECOMMENDATIONS, work).items()))
    other = next(t for t in shown if shown[t] == tracks[0] != t)
    for played, expected in ((other, 0.0), (tracks[0], 1.0)):
        labels = work / f"labels-{played}.parquet"
        pq.write_table(pa.table({"user_id": [user], "track_id": [played]}), labels)
        run("score", work, "--labels", labels)
        header, *lines = capsys.readouterr().out.splitlines()
        final = next(line for line in lines if line.startswith("final list")).split()
        figures = dict(zip(header.replace("ndcg by id", "by_id").split(), final[2:], strict=True))
        assert (float(figures["ndcg"]), float(figures["by_id"])) == (1.0, expected)


def test_a_release_without_the_array_is_served_as_before(work, tmp_path):
    old = shutil.copytree(work, tmp_path / "work", symlinks=True)
    folder = old / CURRENT
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in (f"{SERVING}/shown_items.npy", tables.SONGS.file):
        (folder / name).unlink()
        del manifest["files"][name]
    del manifest["serving"]["shown_items"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    service = Service(Settings(work=old, journal="off"))
    asyncio.run(service.releases.load())
    catalog = service.releases.current().catalog
    assert catalog.positions([3, 503]).tolist() == [3, SONGS + 3]
    assert len(json.loads(service.recommend(1, 100))) > 0


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([0] * (SONGS - 1), "length of shown_items"),
        ([2 * SONGS] * 2 * SONGS, "shown_items within the 180 tracks"),
        ([-1] * 2 * SONGS, "shown_items within the 180 tracks"),
        ([*range(1, 2 * SONGS), 0], "tracks in shown_items that are shown"),
    ],
)
def test_a_release_whose_songs_can_not_be_right_is_refused(work, tmp_path, values, what):
    old = shutil.copytree(work, tmp_path / "work", symlinks=True)
    path = old / CURRENT / SERVING / "shown_items.npy"
    path.unlink()  # an older release may have a link to it
    np.save(path, np.array(values, np.int32))
    manifest = json.loads((old / CURRENT / MANIFEST).read_text())
    content = path.read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "rows": None}
    manifest["files"][f"{SERVING}/shown_items.npy"] = entry
    (old / CURRENT / MANIFEST).write_text(json.dumps(manifest))
    service = Service(Settings(work=old, journal="off"))
    with pytest.raises(ReleaseError, match=what):
        asyncio.run(service.releases.load())
