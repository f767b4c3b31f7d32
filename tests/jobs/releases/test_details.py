"""What a release has for people: names, counts, a search index, reports that name no user."""

import json
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.contract import tables
from jobs.contract.names import CURRENT, RELEASES, REPORTS
from jobs.contract.search import BEST_TRACKS, SEARCH, query, words
from jobs.contract.serving import TREND_PERIODS
from jobs.data.listens import load
from jobs.releases.store import linked_release
from tests.support.workspace import copied, rows, run, run_line


def array(release, name):
    return np.load(release / "serving" / f"{name}.npy")


def strings(release, name):
    offsets, items = array(release, f"{name}_offsets"), array(release, f"{name}_items").tobytes()
    return [items[a:b].decode() for a, b in pairwise(offsets)]


def lists(release, name):
    offsets, items = array(release, f"{name}_offsets"), array(release, f"{name}_items").tolist()
    return [items[a:b] for a, b in pairwise(offsets)]


@pytest.fixture(scope="module")
def release(finished):
    return (finished / CURRENT).resolve()


def test_names_of_artists_and_genres_are_those_of_the_catalogue(finished, release):
    for kind in ("artist", "genre"):
        names = strings(release, f"{kind}_names")
        assert len(set(names)) == len(names)
        packed = [[names[i] for i in places] for places in lists(release, f"{kind}s")]
        assert packed == [row[0] for row in rows(tables.ITEMS, finished, f"{kind}_names")]


def test_counts_are_those_of_the_top_list_and_trends_add_up_to_all_listens(finished, release):
    ids = array(release, "track_ids").tolist()
    listeners, plays = array(release, "listeners_items"), array(release, "plays_items")
    counted = rows(tables.TOP_POPULAR, finished, "track_id", "listeners", "plays")
    top = {row[0]: row[1:] for row in counted}
    assert {i: (a, b) for i, a, b in zip(ids, listeners, plays, strict=True) if b} == top
    trend = array(release, "trend_items").reshape(len(ids), TREND_PERIODS)
    assert trend.sum(axis=1).tolist() == load(finished).plays().tolist()
    assert (trend.sum(axis=0) > 0).all()


def test_followers_are_those_of_the_job(finished, release):
    ids = array(release, "track_ids")
    packed = enumerate(lists(release, "followers"))
    found = {int(ids[row]): ids[near].tolist() for row, near in packed if near}
    expected: dict[int, list[int]] = {}
    for track, follower in rows(tables.FOLLOWERS, finished, "track_id", "next_track_id"):
        expected.setdefault(track, []).append(follower)
    assert found == expected


def test_every_track_and_artist_with_a_word_is_found_by_its_name(finished, release):
    items = rows(tables.ITEMS, finished, "track_id", "track_name", "artist_ids", "artist_names")
    ids, top = array(release, "track_ids"), array(release, "top_items")
    plays = dict(zip(ids.tolist(), array(release, "plays_items").tolist(), strict=True))
    with closing(sqlite3.connect(release / SEARCH)) as db:

        def found(table, text):
            sql = f"SELECT rowid FROM {table} WHERE {table} MATCH ? ORDER BY rowid"
            return [row for (row,) in db.execute(sql, (query(text[:200]),))]

        for track_id, name, _, artists in items:
            for text in (name, *artists):
                if text and words(text):
                    places = found("tracks", text)
                    assert track_id in ids[top[np.array(places) - 1]].tolist()
        artist_rows = db.execute("SELECT * FROM artist ORDER BY place").fetchall()
    of_artist: dict[int, set[int]] = {}
    for track_id, _, artists, names in items:
        for artist in artists if len(artists) == len(names) else []:
            of_artist.setdefault(artist, set()).add(track_id)
    assert {row[1] for row in artist_rows} == of_artist.keys()
    assert [row[3] for row in artist_rows] == sorted((r[3] for r in artist_rows), reverse=True)
    rank = {int(ids[track]): place for place, track in enumerate(top)}
    for _, artist, _, total, n, best in artist_rows:
        tracks = {t for t, _, artists, _ in items if artist in artists}
        assert (total, n) == (sum(plays[t] for t in tracks), len(tracks))
        assert json.loads(best) == sorted(tracks, key=rank.get)[:BEST_TRACKS]


def test_publishing_the_same_again_gives_the_same_bytes_by_any_number_of_threads(
    finished, tmp_path, monkeypatch
):
    work = copied(finished, tmp_path / "work")
    for threads in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda n=threads: n)
        run("publish", work)
    first, second = sorted((work / RELEASES).iterdir())
    names = [SEARCH, *(f"serving/{path.name}" for path in (first / "serving").iterdir())]
    assert len(names) == 1 + len(list((second / "serving").iterdir())) > 20
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert (first / name).samefile(second / name)  # so it takes no space twice


SUSPECT = 987_654_321


def test_no_report_in_a_release_names_a_user(sample, tmp_path):
    data = shutil.copytree(sample, tmp_path / "in")
    columns = ["user_id", "track_id", "started_at", "track_seq"]
    played = pq.read_table(data / "interactions.parquet", columns=columns)
    track = played["track_id"][0].as_py()
    robot = {
        "user_id": [SUSPECT] * 5001 + [-SUSPECT],
        "track_id": [track] * 5002,
        "started_at": [played["started_at"][0].as_py()] * 5002,
        "track_seq": list(range(5002)),
    }
    added = pa.table(robot).cast(played.schema)
    pq.write_table(pa.concat_tables([played, added]), data / "interactions.parquet")
    work = tmp_path / "work"
    run_line(data, work, tune=["--tune", "off"], last="replay")
    run("explore", work)
    run("publish", work)
    run("publish", work)
    assert str(SUSPECT) in (work / REPORTS / "explore.html").read_text()
    release = work / RELEASES / linked_release(work, CURRENT)
    pages = {path.name: path.read_text() for path in (release / REPORTS).iterdir()}
    assert set(pages) == {"data.html", "evaluation.html", "replay.html", "release.html"}
    assert [name for name, page in pages.items() if str(SUSPECT) in page] == []
    assert "Accounts that play unlike a listener" in pages["data.html"]
    assert "user_id is negative" in pages["data.html"]
    assert (work / REPORTS / "release.html").read_text() == pages["release.html"]
