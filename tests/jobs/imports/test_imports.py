"""The imports of public data, on small files of the real form."""

import importlib
import json
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.contract.storage import JobError
from jobs.imports import output
from tests.support.inputs import run

MBID = "f1b1cf71-bd35-4e99-8624-24a6e15f133a"


def convert(name: str, source: Path, *options: str) -> str:
    script = importlib.import_module(f"jobs.import_{name}")
    return script.main(["--in", str(source), "--out", str(source.parent / "out"), *options])


def rows(source: Path, name: str) -> list[tuple]:
    table = pq.read_table(source.parent / f"out/{name}.parquet")
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def day(n: int, *time: int) -> datetime:
    return datetime(2024, 1, n, *time)


LISTENS = pa.table(
    {
        "uid": pa.array([100, 100, 200, 200, None], pa.uint32()),
        "timestamp": pa.array([5, 86_400, 10, 20, 30], pa.uint32()),
        "item_id": pa.array([7, 3, 7, 9, 3], pa.uint32()),
        "is_organic": pa.array([1, 0, 1, 1, 1], pa.uint8()),
        "played_ratio_pct": pa.array([100, 50, 130, 49, 100], pa.uint16()),
        "track_length_seconds": pa.array([200] * 5, pa.uint32()),
    }
)


def test_yambda_listens_start_at_the_origin_and_have_artists(source):
    (source / "flat/50m").mkdir(parents=True)
    pq.write_table(LISTENS, source / "flat/50m/listens.parquet")
    mapping = {"artist_id": pa.array([5, 4, 6], pa.uint32()), "item_id": [7, 7, 9]}
    pq.write_table(pa.table(mapping), source / "artist_item_mapping.parquet")
    summary = convert("yambda", source)
    assert rows(source, "interactions") == [
        (100, 7, day(1, 0, 0, 5), "listen", 1), (100, 3, day(2), "listen", 0.5),
        (200, 7, day(1, 0, 0, 10), "listen", 1),
        (200, 9, day(1, 0, 0, 20), "listen", pytest.approx(0.49)),
    ]  # fmt: skip
    assert rows(source, "tracks") == [(3, []), (7, [4, 5]), (9, [6])]
    assert [row[:3] for row in rows(source, "quarantine")] == [
        ("listens.parquet", 4, "the line can't be read")
    ]
    assert summary == (
        f"4 listens and 3 tracks in {source.parent / 'out'}; 1 unreadable lines in "
        "quarantine.parquet"
    )
    convert("yambda", source, "--origin", "2020-02-03T04:00")
    assert rows(source, "interactions")[0][:3] == (100, 7, datetime(2020, 2, 3, 4, 0, 5))


def test_yambda_likes_and_dislikes_in_files_of_their_own_are_rows_of_their_kind(source):
    pq.write_table(LISTENS, source / "listens.parquet")
    of_likes = LISTENS.select(["uid", "timestamp", "item_id", "is_organic"])
    pq.write_table(of_likes.slice(1, 1), source / "likes.parquet")
    pq.write_table(of_likes.slice(2, 3), source / "undislikes.parquet")
    summary = convert("yambda", source)
    assert rows(source, "interactions")[4:] == [
        (100, 3, day(2), "like", None), (200, 7, day(1, 0, 0, 10), "undislike", None),
        (200, 9, day(1, 0, 0, 20), "undislike", None),
    ]  # fmt: skip
    assert [row[:2] for row in rows(source, "quarantine")] == [
        ("listens.parquet", 4), ("undislikes.parquet", 2)
    ]  # fmt: skip
    assert summary.startswith("4 listens, 3 skips, likes and the like and 3 tracks in ")


def test_yambda_multi_event_has_rows_of_all_kinds(source):
    kinds = pa.array(["listen", "like", "listen", "dislike", "listen"]).dictionary_encode()
    played = pa.array([100, None, None, None, 100], pa.uint16())
    table = LISTENS.append_column("event_type", kinds).set_column(4, "played_ratio_pct", played)
    pq.write_table(table, source / "multi_event.parquet")
    summary = convert("yambda", source)
    assert [(*row[:2], *row[3:]) for row in rows(source, "interactions")] == [
        (100, 7, "listen", 1), (100, 3, "like", None), (200, 7, "listen", None),
        (200, 9, "dislike", None),
    ]  # fmt: skip
    assert [row[0] for row in rows(source, "tracks")] == [3, 7, 9]
    assert summary.startswith("2 listens, 2 skips, likes and the like and 3 tracks in ")
    assert "; without artists, since" in summary


def test_yambda_refuses_two_sizes_and_lists(source):
    for size in ("50m", "500m"):
        (source / f"flat/{size}").mkdir(parents=True)
        pq.write_table(LISTENS, source / f"flat/{size}/listens.parquet")
    with pytest.raises(JobError, match=r"flat/500m and .*flat/50m are two sizes"):
        convert("yambda", source)
    (source / "flat").rename(source / "sequential")
    with pytest.raises(JobError, match="has only the form `sequential`"):
        convert("yambda", source)


LASTFM = [
    f"user_000001\t2009-05-04T23:08:57Z\t{MBID}\tDeep Dish\t\tFuck Me Im Famous",
    f'user_000001\t2009-05-04T13:54:10Z\t{MBID}\t坂本龍一\t{MBID[::-1]}\t"5" Live',
    f"user_000002\t2009-05-04T13:52:04Z\t\t{'x' * 300}\t\tLong",
    "user_000002\t2009-05-04T13:42:52Z\t\tNo title\t\t",
    "user_000002\tyesterday\t\ta\tb\tc",
    "user_000002\t2009-05-04T13:42:52Z\ttoo\tfew",
]  # fmt: skip


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_lastfm_1k_lines_without_an_id_get_artist_and_title(source, ending):
    path = source / f"userid-timestamp-artid-artname-traid-traname.tsv{ending}"
    with pa.output_stream(path, compression="gzip" if ending else None) as file:
        file.write("\n".join(LASTFM).encode())
    (source / "userid-profile.tsv").write_text("#id\tgender\n")
    summary = convert("lastfm1k", source)
    found = rows(source, "interactions")
    assert found[:2] == [
        ("user_000001", "Deep Dish - Fuck Me Im Famous", datetime(2009, 5, 4, 23, 8, 57)),
        ("user_000001", MBID[::-1], datetime(2009, 5, 4, 13, 54, 10)),
    ]
    assert found[2][1].startswith("blake2b-")
    assert rows(source, "tracks")[1][1:] == ('"5" Live', ["坂本龍一"])
    assert [(row[1], row[3]) for row in rows(source, "quarantine")] == [*enumerate(LASTFM)][3:]
    assert summary.startswith("3 listens and 3 tracks in ")
    assert summary.endswith("; 3 unreadable lines in quarantine.parquet")


def test_listenbrainz_dumps_and_exports_are_read(source):
    played = {"artist_name": "Rick Astley", "track_name": "Never Gonna Give You Up"}
    new = {"user_id": 7, "user_name": "rob", "listened_at": 1443521965, "recording_msid": "m1",
           "track_metadata": {**played, "additional_info": {"tags": ["x"]}}}  # fmt: skip
    old = {"user_name": "rob", "timestamp": 1443521966, "recording_msid": None,
           "track_metadata": {**played, "additional_info": {"recording_msid": "m1"}}}  # fmt: skip
    bare = {"listened_at": 1443521967, "track_metadata": played}
    lines = [new, old, {"listened_at": 1}, bare, {"track_metadata": played}]
    folder = source / "listenbrainz-listens-dump-183-full/listens/2015"
    folder.mkdir(parents=True)
    (folder / "9.listens").write_text("\n".join(map(json.dumps, lines)) + "\n{broken\n")
    (folder / "10.jsonl").write_text(json.dumps(new))
    summary = convert("listenbrainz", source, "--user", "me")
    assert {row[3] for row in rows(source, "interactions")} == {"listen"}
    assert sorted(row[:2] for row in rows(source, "interactions")) == [
        ("7", "m1"), ("7", "m1"), ("me", "Rick Astley - Never Gonna Give You Up"), ("rob", "m1"),
    ]  # fmt: skip
    assert rows(source, "interactions")[0][2] == datetime(2015, 9, 29, 10, 19, 25)
    names = ("Never Gonna Give You Up", ["Rick Astley"])
    assert [row[1:] for row in rows(source, "tracks")] == [names, names]
    assert [(Path(row[0]).name, row[1]) for row in rows(source, "quarantine")] == [
        ("9.listens", 2), ("9.listens", 4), ("9.listens", 5),
    ]  # fmt: skip
    assert summary.startswith("4 listens and 2 tracks in ")


def test_listenbrainz_exports_have_what_is_loved_and_hated(source):
    (source / "listens/2024").mkdir(parents=True)
    played = {"artist_name": "Rick Astley", "track_name": "Never Gonna Give You Up"}
    mapped = {"recording_mbid": MBID}
    lines = [
        {"listened_at": 1704067200, "track_metadata": {**played, "recording_msid": msid, **more}}
        for msid, more in (("m1", {}), ("m2", {"mbid_mapping": mapped}), ("m3", {}))
    ]
    (source / "listens/2024/1.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = [
        {"score": 1, "created": 1704153600, "recording_msid": "m1", "recording_mbid": None},
        {"score": -1, "created": 1704153601, "recording_msid": None, "recording_mbid": MBID},
        {"score": 1, "created": 1704153602, "recording_msid": "other", "recording_mbid": None},
        {"score": 1},
    ]
    (source / "feedback.jsonl").write_text("\n".join(map(json.dumps, said)))
    summary = convert("listenbrainz", source, "--user", "me")
    assert rows(source, "interactions")[3:] == [
        ("me", "m1", day(2), "like"), ("me", "m2", day(2, 0, 0, 1), "dislike")
    ]  # fmt: skip
    assert "; 1 likes and dislikes of tracks without a listen left out" in summary
    assert [row[:2] for row in rows(source, "quarantine")] == [("feedback.jsonl", 3)]


def play(**changes) -> dict:
    return {
        "ts": "2024-01-01T00:03:00Z", "username": "secret-name", "platform": "secret-device",
        "ms_played": 60_000, "conn_country": "XX", "ip_addr_decrypted": "203.0.113.9",
        "master_metadata_track_name": "Jack", "master_metadata_album_artist_name": "Alex Metric",
        "spotify_track_uri": "spotify:track:74cksX4vgcm0cHKaV7XE2L", "spotify_episode_uri": None,
    } | changes  # fmt: skip


def test_spotify_plays_start_before_they_end_and_nothing_private_is_written(source):
    episode = play(spotify_track_uri=None, spotify_episode_uri="spotify:episode:1")
    bad = [play(ts="yesterday"), play(ms_played=None), "no object"]
    (source / "anna").mkdir()
    skipped = play(ts="2024-01-02T00:00:01Z", ms_played=1500, skipped=True)
    history = [play(reason_end="trackdone"), episode, skipped, *bad]
    (source / "anna/Streaming_History_Audio_2024_0.json").write_text(json.dumps(history))
    (source / "endsong_0.json").write_text(json.dumps([play()]))
    (source / "endsong_1.json").write_text("[{")
    (source / "Userdata.json").write_text("{}")
    summary = convert("spotify", source, "--user", "me")
    track = "74cksX4vgcm0cHKaV7XE2L"
    assert rows(source, "interactions") == [
        ("anna", track, day(1, 0, 2), "listen", 60_000),
        ("anna", track, day(1, 23, 59, 59, 500_000), "skip", 1500),
        ("me", track, day(1, 0, 2), "listen", 60_000),
    ]  # fmt: skip
    assert rows(source, "tracks") == [(track, "Jack", ["Alex Metric"], 60_000)]
    assert "; 1 entries without a track, such as podcasts, left out" in summary
    assert [row[1] for row in rows(source, "quarantine")] == [3, 4, 5, 0]
    for name in ("interactions", "tracks", "quarantine"):
        content = str(rows(source, name))
        assert not any(word in content for word in ("secret", "203.0", "XX"))


def test_movielens_ratings_from_four_on_are_listens_in_both_forms(source):
    (source / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,10,4.0,1704067200\n1,20,3.5,1704067201\n"
        "2,20,5.0,1704067202\nx,20,5.0,1704067202\n"
    )
    (source / "movies.csv").write_text(
        'movieId,title,genres\n10,"American President, The (1995)",Comedy|Drama\n'
        "20,2001: A Space Odyssey (1968),(no genres listed)\n"
    )
    expected = [(1, 10, day(1)), (2, 20, day(1, 0, 0, 2))]
    films = [
        (10, "American President, The (1995)", ["Comedy", "Drama"]),
        (20, "2001: A Space Odyssey (1968)", []),
    ]
    summary = convert("movielens", source)
    assert (rows(source, "interactions"), rows(source, "tracks")) == (expected, films)
    assert "; 1 ratings below 4 left out; 1 unreadable lines" in summary
    for name in ("ratings.csv", "movies.csv"):
        (source / name).unlink()
    (source / "ratings.dat").write_text(
        "1::10::4::1704067200\n1::20::3::1704067201\n2::20::5::1704067202\n1::2\n"
    )
    films = [
        (10, "Misérables, Les (1995)", ["Drama"]),
        (20, "2001: A Space Odyssey (1968)", ["Sci-Fi"]),
    ]
    text = "".join(f"{i}::{name}::{'|'.join(genres)}\n" for i, name, genres in films)
    (source / "movies.dat").write_bytes(text.encode("latin-1"))
    convert("movielens", source)
    assert (rows(source, "interactions"), rows(source, "tracks")) == (expected, films)
    assert [row[:2] for row in rows(source, "quarantine")] == [("ratings.dat", 3)]
    convert("movielens", source, "--least-rating", "3")
    assert len(rows(source, "interactions")) == 3


NAMES = ("yambda", "lastfm1k", "listenbrainz", "spotify", "movielens")


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_the_data_is_refused_and_nothing_is_written(source, name):
    (source / "other.txt").touch()
    with pytest.raises(JobError, match=r"has no .*: is it the right folder\?"):
        convert(name, source)
    with pytest.raises(JobError, match="is not a folder: unpack the data"):
        convert(name, source / "other.txt")
    assert not [*source.parent.glob("out/*")]


def test_data_without_a_listen_leave_an_older_import_as_it_was(source):
    path = source / "endsong_0.json"
    path.write_text(json.dumps([play()]))
    convert("spotify", source)
    before = rows(source, "interactions")
    path.write_text(json.dumps([play(spotify_track_uri=None)]))
    with pytest.raises(JobError, match="no listen was found; 1 entries without a track"):
        convert("spotify", source)
    assert rows(source, "interactions") == before
    assert len([*(source.parent / "out").iterdir()]) == 3


def test_tracks_are_written_once_however_many_blocks_they_come_in(source, monkeypatch):
    monkeypatch.setattr(output, "BLOCK", 3)
    with output.output(source.parent / "out", output.TEXT) as out:
        for block in ([1, 2], [2, 3], [4], [1, 4, 5, 5], [6], [2, 6]):
            ids = pa.array(map(str, block), output.TEXT)
            out.add(ids, ids, pa.array(block).to_numpy())
            out.add_tracks({"track_id": ids, "name": ids, "artists": [[]] * len(block)})
    assert [row[0] for row in rows(source, "tracks")] == list("123456")
    assert len(rows(source, "interactions")) == 12
    assert out.tracks == 6


def test_what_is_imported_is_input_of_prepare(source, tmp_path):
    pq.write_table(LISTENS, source / "listens.parquet")
    convert("yambda", source)
    summary = run(tmp_path / "out", tmp_path / "work")
    assert "3 listens of 2 users and 2 tracks" in summary
    assert "; 1 skips; 0 rows quarantined" in summary
