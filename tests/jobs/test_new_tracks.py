"""Tracks that nobody has played are found by their artists, and people can try them out."""

import asyncio
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.service import Service
from api.settings import Settings
from jobs.contract import tables
from jobs.contract.names import ALS_MODEL, RANKING
from jobs.contract.storage import JobError
from jobs.hide_tracks import main as hide_tracks
from tests.support.workspace import START, lists, rows, run, run_line, save_input

USERS, ARTISTS, TRACKS_AN_ARTIST = 60, 6, 20
PLAYED = range(100, 100 + ARTISTS * TRACKS_AN_ARTIST)
BY_KNOWN = range(400, 412)  # new tracks by these artists
BY_UNKNOWN = range(500, 504)  # new tracks by artists without any other, and without genres
DAYS = 30


def artist_of(track):
    return track % ARTISTS if track < 500 else track


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A finished run in which each user plays the tracks of one artist, and rarely others."""
    rng = np.random.default_rng(4)
    folder = tmp_path_factory.mktemp("new")
    tracks = [*PLAYED, *BY_KNOWN, *BY_UNKNOWN]
    listens = []
    for user in range(USERS):
        own = [track for track in PLAYED if artist_of(track) == user % ARTISTS]
        others = rng.choice([*PLAYED], 4, replace=False).tolist()
        played = [*rng.permutation(own)[:14].tolist(), *others]
        times = np.sort(rng.uniform(0, DAYS, len(played)))
        order = rng.permutation(len(played))
        listens += [(user, played[i], at) for i, at in zip(order, times, strict=True)]
    save_input(folder / "in", listens, tracks)
    table = pq.read_table(folder / "in/tracks.parquet").to_pydict()
    table["artists"] = [[artist_of(track)] for track in tracks]
    table["genres"] = table["albums"] = [[] for _ in tracks]
    lists = pa.list_(pa.int64())
    schema = pa.schema(
        [("track_id", pa.int64()), *((n, lists) for n in ("albums", "artists", "genres"))]
    )
    pq.write_table(pa.table(table, schema=schema), folder / "in/tracks.parquet")
    run_line(folder / "in", folder / "work", tune=["--tune", "off"])
    return folder / "work"


def service(work):
    result = Service(Settings(work=work))
    asyncio.run(result.releases.load())
    return result


def test_listeners_of_an_artist_are_offered_the_artists_new_tracks(work):
    for user, new in lists(tables.NEW_TRACKS, work).items():
        assert set(new) <= set(BY_KNOWN)
        assert {artist_of(track) for track in new[:2]} == {user % ARTISTS}
    assert len(lists(tables.NEW_TRACKS, work)) == USERS


def test_new_tracks_are_in_personal_lists_and_similar_to_their_artists_tracks(work):
    personal = lists(tables.PERSONAL_ALS, work)
    own = {
        u: [t for t in found if t in BY_KNOWN and artist_of(t) == u % ARTISTS]
        for u, found in personal.items()
    }
    assert all(own.values())
    similar = lists(tables.SIMILAR, work)
    for track in BY_KNOWN:
        nearest = [t for t in similar[track] if t in PLAYED][:5]
        assert {artist_of(t) for t in nearest} == {artist_of(track)}
        assert any(track in similar[t] for t in PLAYED)
    assert not set(BY_UNKNOWN) & similar.keys()


def test_a_live_play_of_a_new_track_brings_its_artists_tracks(work):
    served = service(work)
    track = BY_KNOWN[0]
    asyncio.run(served.put(77_777, track))
    online = json.loads(served.online(77_777, 1, 5))
    assert {artist_of(t) for t in online} == {artist_of(track)}


def test_an_answer_goes_on_with_the_whole_catalogue(work):
    served = service(work)
    answer = json.loads(served.recommend(88_888, 1000))
    assert len(answer) == len(set(answer)) == len(PLAYED) + len(BY_KNOWN) + len(BY_UNKNOWN)
    assert set(answer[-len(BY_UNKNOWN) :]) == set(BY_UNKNOWN)


def test_a_share_of_the_places_is_for_new_tracks_and_its_cost_is_said(work):
    before = lists(tables.RECOMMENDATIONS, work)
    summary = run("rank", work, "--new-share", "0.2")
    after = lists(tables.RECOMMENDATIONS, work)
    for user, new in lists(tables.NEW_TRACKS, work).items():
        assert set(new[:2]) <= set(after[user][:10])
        others = [track for track in before[user] if track not in after[user] or track not in new]
        kept = [track for track in after[user] if track in others]
        assert kept == [track for track in others if track in kept]
    ranking = json.loads((work / RANKING).read_text())
    assert ranking["new_share"] == 0.2
    assert f"{ranking['ndcg@10_with_new']:.4f} with 20% of the places for new tracks" in summary
    run("rank", work)
    assert lists(tables.RECOMMENDATIONS, work) == before


@pytest.mark.parametrize("share", ["0.6", "-1", "nan", "x"])
def test_a_share_that_is_none_is_refused(work, share, capsys):
    with pytest.raises(SystemExit):
        run("rank", work, "--new-share", share)
    assert "--new-share" in capsys.readouterr().err


def test_vectors_of_new_tracks_do_not_change_those_of_users(work):
    """Users are trained against played tracks, so these alone are in the gram matrix."""
    with np.load(work / ALS_MODEL) as model:
        played = model["item_certainty"] == 1
        gram = model["item_factors"][played].T @ model["item_factors"][played]
        assert played.sum() == len(PLAYED)
        assert (model["item_certainty"] > 0).sum() == len(PLAYED) + len(BY_KNOWN)
    served = np.load(work / "current/serving/als_gram.npy").reshape(gram.shape)  # on its own axes
    np.testing.assert_allclose(served, np.diag(np.linalg.eigvalsh(gram)), rtol=1e-4, atol=1e-4)


def test_hidden_tracks_are_scored_against_a_random_order(work, tmp_path, capsys):
    data = work.parent / "in"
    summary = hide_tracks(["--data", str(data), "--out", str(tmp_path / "in"), "--share", "0.2"])
    old, new = (pq.read_table(f / "interactions.parquet") for f in (data, tmp_path / "in"))
    hidden = set(old["track_id"].to_pylist()) - set(new["track_id"].to_pylist())
    assert hidden and f"their {len(old) - len(new):,} listens" in summary
    assert pq.read_table(data / "tracks.parquet") == pq.read_table(tmp_path / "in/tracks.parquet")
    run_line(tmp_path / "in", tmp_path / "work", tune=["--tune", "off"], last="rank")
    pq.write_table(old.select(["user_id", "track_id"]), tmp_path / "labels.parquet")
    run("score", tmp_path / "work", "--labels", str(tmp_path / "labels.parquet"))
    shown = capsys.readouterr().out.split("By the labels of tracks without a listen")[1]
    ndcg = {line[:26].strip(): float(line.split()[-3]) for line in shown.splitlines()[2:]}
    assert ndcg["new tracks"] > 3 * ndcg["new tracks, random order"] > 0


def test_files_are_not_hidden_in_their_own_folder(work):
    data = work.parent / "in"
    with pytest.raises(JobError, match="pass another folder"):
        hide_tracks(["--data", str(data), "--out", str(data)])
    assert rows(tables.LISTENS, work)[0][2] >= START


def test_ids_of_any_type_are_hidden_and_listens_without_one_stay(work, tmp_path):
    data = tmp_path / "in"
    shutil.copytree(work.parent / "in", data)
    listens = pq.read_table(data / "interactions.parquet")
    tracks = [None, *map(str, listens["track_id"].to_pylist()[1:])]
    listens = listens.set_column(1, "track_id", pa.array(tracks))
    pq.write_table(listens, data / "interactions.parquet")
    summary = hide_tracks(["--data", str(data), "--out", str(tmp_path / "out")])
    kept = pq.read_table(tmp_path / "out/interactions.parquet")
    assert 0 < len(kept) < len(listens) and kept["track_id"].null_count == 1
    assert f"{len(listens) - len(kept):,} listens are hidden" in summary


def test_tracks_are_hidden_where_no_file_has_names(work, tmp_path):
    data = tmp_path / "in"
    shutil.copytree(work.parent / "in", data)
    (data / "catalog_names.parquet").unlink()
    tracks = pq.read_table(data / "tracks.parquet").select(["track_id"])
    pq.write_table(tracks, data / "tracks.parquet")
    hide_tracks(["--data", str(data), "--out", str(tmp_path / "out")])
    kept = pq.read_table(tmp_path / "out/interactions.parquet")
    assert 0 < len(kept) < len(pq.read_table(data / "interactions.parquet"))
    assert pq.read_table(tmp_path / "out/tracks.parquet") == tracks
    assert not (tmp_path / "out/catalog_names.parquet").exists()


def test_where_no_track_can_be_hidden_that_is_an_error(work, tmp_path, capsys):
    data = tmp_path / "in"
    shutil.copytree(work.parent / "in", data)
    argv = ["--data", str(data), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        hide_tracks([*argv, "--seed=-1"])
    assert "--seed is -1" in capsys.readouterr().err
    tracks = pq.read_table(data / "tracks.parquet")
    pq.write_table(tracks.slice(0, 0), data / "tracks.parquet")
    with pytest.raises(JobError, match="no usable track"):
        hide_tracks(argv)
    assert not (tmp_path / "out").exists()


def test_tracks_of_inputs_in_any_form_are_hidden(tmp_path):
    data = tmp_path / "in"
    (data / "interactions").mkdir(parents=True)
    rows_of_part = [f"{user},{user % 10},2022-01-0{1 + user % 9}" for user in range(40)]
    for part in range(2):
        lines = ["user_id,track_id,started_at", *rows_of_part[part::2], "a,line,of,four"]
        (data / f"interactions/part-{part}.csv").write_text("\n".join(lines))
    tracks = [f'{{"track_id": {track}, "name": "n{track}"}}' for track in range(10)]
    (data / "tracks.jsonl").write_text("\n".join(tracks))
    summary = hide_tracks(["--data", str(data), "--out", str(tmp_path / "out"), "--share", "0.3"])
    assert summary.startswith("3 tracks and their 12 listens are hidden")
    left = pq.read_table(tmp_path / "out/interactions.parquet")
    assert len(left) == 28 and len(set(left["track_id"].to_pylist())) == 7
    assert len(pq.read_table(tmp_path / "out/tracks.parquet")) == 10
    said = run("prepare", tmp_path / "work", "--data", tmp_path / "out")
    assert "28 listens of 28 users and 7 tracks" in said
