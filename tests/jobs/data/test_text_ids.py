"""Text ids from the input files to the lists, and from the service's journal back to the input."""

import json
import sqlite3
import uuid
from contextlib import closing
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.events.journal import Journal
from api.events.tombstones import Tombstones
from jobs.contract import ids
from jobs.contract.journal import change_kinds
from jobs.contract.names import CURRENT, FORGOTTEN, JOURNAL, STATE
from jobs.contract.storage import JobError
from jobs.contract.text_ids import Kinds
from jobs.data import id_columns
from tests.support.workspace import NOW, START, copied, run, run_line

OPTIONS = ("--now", NOW)
USERS = ["u1", "U1", " u1", "Ёлка 7", 'a"b\\c', "007", "7", "x" * 256]
TRACKS = ["t/1", "t/2", "t/3?&", "трек", "T/1"]
BAD = {"": "is empty", "ж" * 129: "is longer than 256 bytes", "a\tb": "has a control character",
       "a\x85b": "has a control character"}  # fmt: skip


def save(folder, user, track=None, tracks=TRACKS, named=True):
    """Write the three input files; each listen is a minute after the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = pa.array([[5]] * len(tracks), pa.list_(pa.int64()))
    pq.write_table(
        pa.table({"track_id": tracks, "artists": lists, "genres": lists}), folder / "tracks.parquet"
    )
    names = {"id": [*map(str, tracks), "5"], "type": ["track"] * len(tracks) + ["artist"]}
    names["name"] = [f"name of {track}" for track in tracks] + ["An artist"]
    pq.write_table(pa.table(names), folder / "catalog_names.parquet")
    n = len(user)
    track = track or [tracks[i % len(tracks)] for i in range(n)]
    at = [START + timedelta(seconds=61 * i) for i in range(n)]
    table = {"user_id": user, "track_id": track, "started_at": at}
    pq.write_table(pa.table(table), folder / "interactions.parquet")
    return folder


def prepare(data, work, *options):
    return run("prepare", work, "--data", data, *OPTIONS, *options)


def column(work, file, name):
    return pq.read_table(work / file)[name].to_pylist()


def reasons(work):
    rows = pq.read_table(work / "quarantine.parquet").to_pylist()
    return [(row["file"], row["row"], row["reason"]) for row in rows]


def test_ids_are_used_as_they_stand_in_every_file(tmp_path):
    prepare(save(tmp_path / "in", USERS * 3), tmp_path)
    assert sorted(column(tmp_path, "users.parquet", "user_id")) == sorted(USERS)
    assert sorted(column(tmp_path, "items.parquet", "track_id")) == sorted(TRACKS)
    assert sorted(column(tmp_path, "user_ids.parquet", "id")) == sorted(USERS)
    numbers = column(tmp_path, "user_ids.parquet", "number")
    assert numbers == sorted(numbers)
    listens = pq.read_table(tmp_path / "listens.parquet").to_pylist()
    played = [(row["user_id"], row["track_id"]) for row in listens]
    expected = [(USERS[i % 8], TRACKS[i % 5]) for i in range(24)]
    assert sorted(played) == sorted(expected)
    items = pq.read_table(tmp_path / "items.parquet").to_pylist()
    assert {row["track_id"]: row["track_name"] for row in items} == {
        track: f"name of {track}" for track in TRACKS
    }
    assert all(row["artist_names"] == ["An artist"] for row in items)


def test_values_that_can_be_no_text_id_go_to_quarantine(tmp_path):
    users = [*USERS, *BAD, None]
    prepare(save(tmp_path / "in", users, ["t/1"] * len(users)), tmp_path, "--max-bad-share", "0.4")
    found = reasons(tmp_path)
    expected = [*(f"user_id {reason}" for reason in BAD.values()), "user_id is missing"]
    assert [reason for _, _, reason in found] == expected
    content = column(tmp_path, "quarantine.parquet", "content")
    assert [json.loads(row)["user_id"] for row in content] == [*BAD, None]


def test_a_bad_id_goes_before_an_unknown_track_and_that_before_a_bad_time(tmp_path):
    data = save(tmp_path / "in", ["u1", "u1", "", "u1"], ["t/1", "nowhere", "nowhere", ""])
    table = pq.read_table(data / "interactions.parquet")
    times = pa.array(["2022-01-01", "soon", "soon", "2022-01-01"])
    pq.write_table(table.set_column(2, "started_at", times), data / "interactions.parquet")
    prepare(data, tmp_path, "--max-bad-share", "0.8", "--user-ids", "text")
    assert [reason for _, _, reason in reasons(tmp_path)] == [
        "track_id is not in tracks.parquet", "user_id is empty", "track_id is empty",
    ]  # fmt: skip


UUIDS = [uuid.UUID(int=7**i) for i in range(4)]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([one.bytes for one in UUIDS], pa.uuid()), [*map(str, UUIDS)]),
        (pa.array([one.bytes for one in UUIDS], pa.binary(16)), [*map(str, UUIDS)]),
        (pa.array([2**60 + i for i in range(4)]), [str(2**60 + i) for i in range(4)]),
        (pa.array([-1, -2, -3, 4]), ["-1", "-2", "-3", "4"]),
        (pa.array([2**64 - 1] * 4, pa.uint64()), [str(2**64 - 1)]),
        (pa.array(["a", "b", "a", "c"]).dictionary_encode(), ["a", "b", "c"]),
        (pa.array(["a", "b", "a", "c"], pa.string_view()), ["a", "b", "c"]),
        (pa.array([b"a", b"b", b"a", b"c"]), ["a", "b", "c"]),
        (pa.array(["a", "b", "a", "c"], pa.large_string()), ["a", "b", "c"]),
        (pa.array(["01", "1", "1.0", "+1"]), ["+1", "01", "1", "1.0"]),
    ],
)
def test_every_type_becomes_its_usual_text(tmp_path, values, texts):
    prepare(save(tmp_path / "in", values), tmp_path)
    assert sorted(column(tmp_path, "users.parquet", "user_id")) == sorted(texts)


@pytest.mark.parametrize(
    "values",
    [pa.array([1, 2, 3, 4]), pa.array([1.0, 2.0, 3.0, 4.5]), pa.array(["1", "22", "3", "0"])],
)
def test_whole_numbers_stay_numbers(tmp_path, values):
    prepare(save(tmp_path / "in", values, tracks=[1, 2]), tmp_path, "--max-bad-share", "0.3")
    assert pq.read_schema(tmp_path / "listens.parquet").types[:2] == [pa.int64()] * 2
    assert not (tmp_path / "user_ids.parquet").exists()


@pytest.mark.parametrize("first_text", [True, False])
def test_the_kind_is_decided_by_all_ids_not_by_the_first_ones(tmp_path, monkeypatch, first_text):
    monkeypatch.setattr(id_columns, "LOOKED_AT", 3)
    numbers, texts = ["1", "2", "3"], ["a", "b", "c"]
    first, then = (texts, numbers) if first_text else (numbers, texts)
    mostly = save(tmp_path / "in", first + then * 3)
    prepare(mostly, tmp_path / "a", "--max-bad-share", "0.3")
    # a quarter of the ids are text in the one case, and three quarters in the other
    kinds = [pq.read_schema(tmp_path / "a" / "users.parquet").field("user_id").type]
    assert kinds == [pa.int64() if first_text else pa.string()]
    if first_text:
        assert len(reasons(tmp_path / "a")) == 3
    prepare(mostly, tmp_path / "b", "--user-ids", "text")
    assert sorted(column(tmp_path / "b", "users.parquet", "user_id")) == numbers + texts


def test_the_option_says_of_which_kind_ids_are(tmp_path):
    data = save(tmp_path / "in", [1, 2, 3, 4], tracks=[7, 8])
    prepare(data, tmp_path, "--user-ids", "text", "--track-ids", "text")
    assert sorted(column(tmp_path, "users.parquet", "user_id")) == ["1", "2", "3", "4"]
    assert sorted(column(tmp_path, "items.parquet", "track_id")) == ["7", "8"]
    with pytest.raises(JobError, match="if these ids are text, pass --user-ids text"):
        prepare(save(tmp_path / "in", USERS), tmp_path / "b", "--user-ids", "integer")


def test_the_kind_of_a_folder_stays_unless_an_option_changes_it(tmp_path, capsys):
    text, numbers = save(tmp_path / "a", USERS), save(tmp_path / "b", ["1", "2"], tracks=["1", "2"])
    work = tmp_path / "work"
    prepare(text, work)
    for option in ("--track-ids", "--user-ids"):
        with pytest.raises(JobError, match=rf"they were text before: pass {option} text .* or"):
            prepare(numbers, work, *(["--track-ids", "text"] if option == "--user-ids" else []))
    prepare(numbers, work, "--user-ids", "text", "--track-ids", "text")
    assert column(work, "users.parquet", "user_id") in (["1", "2"], ["2", "1"])
    prepare(numbers, work, "--user-ids", "integer", "--track-ids", "integer")
    assert column(work, "users.parquet", "user_id") == [1, 2]
    assert not (work / "user_ids.parquet").exists()
    with pytest.raises(JobError, match="pass --user-ids text"):
        prepare(save(tmp_path / "c", USERS, tracks=["1", "2"]), work)
    assert column(work, "users.parquet", "user_id") == [1, 2]


def test_most_ids_being_numbers_is_told(tmp_path, capsys):
    prepare(save(tmp_path / "in", ["1", "2", "3", "x"], tracks=[1, 2]), tmp_path)
    assert "each user_id is text, since 1 of 4 are no whole numbers" in capsys.readouterr().err


def test_ids_that_are_written_as_floats_are_told(tmp_path, capsys):
    data = save(tmp_path / "in", ["1.0", "2.0", "3.00"], tracks=["1", "2"])
    prepare(data, tmp_path)
    told = capsys.readouterr().err
    assert "each user_id is text, such as '" in told and "without the point and the zeros" in told
    assert "track_id" not in told
    prepare(data, tmp_path / "asked", "--user-ids", "text")
    assert "is text, such as" not in capsys.readouterr().err


def test_the_state_has_to_have_ids_of_the_same_kind(tmp_path):
    data, state = save(tmp_path / "in", USERS), tmp_path / STATE
    Tombstones(state / FORGOTTEN).add(7)
    with pytest.raises(JobError, match="have integer ids, but here user ids are text: pass --user"):
        prepare(data, tmp_path)
    (state / FORGOTTEN).unlink()
    Journal(state / JOURNAL).append([(7, 10)])
    with pytest.raises(JobError, match="each user_id is integer, but here it is text: pass --user"):
        prepare(data, tmp_path)


def test_events_go_from_the_journal_into_the_next_run_and_forgotten_users_leave(tmp_path):
    journal = Journal(tmp_path / STATE / JOURNAL)
    journal.adopt(Kinds("text", "text"))
    journal.append([("u1", "t/2"), ("new one", "трек"), ("u1", "to come"), ("007", "t/1")])
    summary = run("export_events", tmp_path)
    assert summary.startswith("4 new events")
    journal.append([("7", "t/1")])
    tombstones = Tombstones(tmp_path / STATE / FORGOTTEN)
    journal.forget("007", lambda newest, last_at: tombstones.add("007", newest, last_at))
    assert run("export_events", tmp_path).startswith("1 new events, 4 in")
    data = save(tmp_path / "in", USERS)
    events = tmp_path / "events.parquet"
    summary = prepare(data, tmp_path, "--events", events)
    assert "1 listens of forgotten users left out" in summary
    assert "of 4 events 3 were taken in, 0 were there already, 1 wait for tracks" in summary
    users = column(tmp_path, "users.parquet", "user_id")
    assert sorted(users) == sorted({*USERS, "new one"} - {"007"})
    assert "007" not in column(tmp_path, "user_ids.parquet", "id")
    stored = (tmp_path / STATE / FORGOTTEN).read_bytes()
    assert b"007" not in stored
    assert run("export_events", tmp_path).startswith("0 new events")
    (tmp_path / STATE / "forgotten.key").unlink()
    with pytest.raises(JobError, match=r"forgotten\.key can't be read .* restore it"):
        prepare(data, tmp_path)


def test_a_journal_changes_its_kind_only_while_it_has_no_events(tmp_path):
    journal = Journal(tmp_path / JOURNAL)
    journal.append([(7, 10)])
    with closing(sqlite3.connect(tmp_path / JOURNAL)) as db:
        with pytest.raises(Exception, match="those of the journal are integer"):
            change_kinds(db, Kinds("text", "integer"))
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        db.execute("DELETE FROM events")
        db.commit()
        change_kinds(db, Kinds("text", "integer"))
        assert db.execute("PRAGMA user_version").fetchone() == (12,)
    mixed = Journal(tmp_path / JOURNAL)
    mixed.adopt(Kinds("text", "integer"))
    mixed.append([("007", 5), ("7", 6)])
    assert (mixed.last("007", 9), mixed.last("7", 9)) == ([5], [6])
    assert list(mixed.users()) == ["007", "7"]
    with pytest.raises(Exception, match="ids of another kind"):
        mixed.append([(7, 5)])


@pytest.fixture(scope="module")
def finished_text(shared, sample):
    """A finished run on the sample with text ids of users, and numbers for every other track."""

    def fill(folder):
        data = folder / "in"
        data.mkdir()
        for file, name in (("interactions", "user_id"), ("interactions", "track_id"),
                           ("tracks", "track_id")):  # fmt: skip
            source = data if (data / f"{file}.parquet").exists() else sample
            table = pq.read_table(source / f"{file}.parquet")
            place = table.schema.get_field_index(name)
            start = "listener" if name == "user_id" else "track"
            texts = pa.array([f"{start} {value}" for value in table[name].to_pylist()])
            pq.write_table(table.set_column(place, name, texts), data / f"{file}.parquet")
        names = pq.read_table(sample / "catalog_names.parquet").to_pylist()
        for row in names:
            row["id"] = f"track {row['id']}" if row["type"] == "track" else str(row["id"])
        pq.write_table(pa.Table.from_pylist(names), data / "catalog_names.parquet")
        run_line(data, folder)
        run("explore", folder)

    return shared("finished text", fill)


def test_a_whole_run_has_text_ids_in_what_people_read(finished_text, finished):
    release = finished_text / CURRENT
    manifest = json.loads((release / "manifest.json").read_text())
    assert manifest["ids"] == {"users": "text", "tracks": "text"}
    for file, names in {
        "recommendations": ["user_id", "track_id"], "top_popular": ["track_id"],
        "personal_als": ["user_id", "track_id"], "similar": ["track_id", "similar_track_id"],
        "next_played": ["track_id", "next_track_id"], "listens": ["user_id", "track_id"],
    }.items():  # fmt: skip
        for name in names:
            starts = {text.split()[0] for text in column(release, f"{file}.parquet", name)}
            assert starts == {"listener" if name == "user_id" else "track"}
    # what is counted does not depend on the kind of ids
    mine, other = (pq.read_table(w / "top_popular.parquet") for w in (finished_text, finished))
    assert sorted(mine["plays"].to_pylist()) == sorted(other["plays"].to_pylist())
    ndcg = [
        json.loads((w / "metrics.json").read_text())["lists"]["final list"]["all"]["@10"]["ndcg"]
        for w in (finished_text, finished)
    ]
    assert ndcg[0] == pytest.approx(ndcg[1], rel=0.25)


def test_the_next_release_is_compared_by_the_ids(finished_text, tmp_path):
    work = copied(finished_text, tmp_path / "work")
    run("publish", work)
    comparison = work / CURRENT / "comparison.json"
    assert not comparison.exists()
    metrics = json.loads((work / "metrics.json").read_text())
    metrics["window"]["users"] += 1  # so that the second release is another one
    (work / "metrics.json").write_text(json.dumps(metrics))
    run("publish", work)
    found = json.loads(comparison.read_text())
    assert found["overlap"]["@10"] == 1.0
    assert found["tracks"]["come"] == found["users"]["gone"] == 0


def test_labels_with_text_ids_are_scored(finished_text, tmp_path):
    window = finished_text / "windows" / "test"
    labels = pq.read_table(window / "holdout.parquet", columns=["user_id", "track_id"])
    more = pa.table({"user_id": ["nobody known"], "track_id": ["track unknown"]})
    pq.write_table(pa.concat_tables([labels, more]), tmp_path / "labels.parquet")
    summary = run("score", window, "--labels", tmp_path / "labels.parquet")
    users = len({*labels["user_id"].to_pylist()})
    assert summary == f"{users + 1:,} users with a label"


def test_two_users_with_equal_bits_keep_their_own_listens(tmp_path, monkeypatch):
    monkeypatch.setattr(ids, "BITS", 10)
    users = [f"user {i % 400}" for i in range(4000)]
    assert len({ids.number_of(user.encode()) for user in users}) < 380
    tracks = [f"track {i}" for i in range(300)]
    data = save(tmp_path / "in", users, [tracks[i % 300] for i in range(4000)], tracks)
    prepare(data, tmp_path, "--same-song", "off")
    rows = pq.read_table(tmp_path / "listens.parquet").to_pylist()
    found = sorted((row["started_at"], row["user_id"], row["track_id"]) for row in rows)
    assert [row[1:] for row in found] == [(users[i], tracks[i % 300]) for i in range(4000)]
    counts = dict(
        zip(*(column(tmp_path, "users.parquet", n) for n in ("user_id", "listens")), strict=True)
    )
    assert {*counts.values()} == {10} and len(counts) == 400
    assert np.diff(column(tmp_path, "user_ids.parquet", "number")).min() > 0
