"""jobs.prepare: the user's three files become listens, users and items."""

import subprocess
import sys
from datetime import date

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract import tables as tables_
from jobs.contract.storage import JobError
from jobs.contract.tables import ITEMS, LISTENS, QUARANTINE, SUSPICIOUS, USERS, read
from jobs.data import histories, raw_files
from tests.support.inputs import (
    JAN,
    content,
    interactions,
    reasons,
    rows,
    run,
    save,
    tracks,
)

FILES = [*(t.file for t in (LISTENS, USERS, ITEMS, QUARANTINE, SUSPICIOUS)), "clock.json"]


def test_listens_come_by_user_and_time_and_users_count_them(tmp_path):
    summary = run(save(tmp_path / "in"), tmp_path)
    assert rows(LISTENS, tmp_path) == [
        (1, 10, JAN[0], 1), (1, 20, JAN[3], 2), (3, 10, JAN[0], 1), (3, 20, JAN[1], 2),
    ]  # fmt: skip
    assert rows(USERS, tmp_path) == [(1, 0, 2, JAN[3]), (3, 1, 2, JAN[1])]
    assert rows(QUARANTINE, tmp_path) == []
    assert summary == (
        f"{tmp_path / 'in'}: 4 listens of 2 users and 2 tracks; "
        "0 tracks are one song with another; 0 rows quarantined"
    )


def test_names_are_found_by_type_and_id_and_a_track_needs_none(tmp_path):
    run(save(tmp_path / "in"), tmp_path)
    assert rows(ITEMS, tmp_path) == [
        (10, 0, "Ten  Dots", [1], ["AC/DC"], [5, 6], ["rock", "pop"]),
        (20, 1, "Двадцать", [1, 2], ["AC/DC"], [7, 5], ["rock"]),
        (30, 2, None, [], [], [], []),
    ]


def test_the_first_row_of_a_track_or_name_wins(tmp_path):
    data = save(
        tmp_path / "in",
        tracks=tracks(track_id=[20, 10, 20]),
        catalog_names=pa.table(
            {
                "id": [10, 10, 10, 20, 20],
                "type": ["track"] * 5,
                "name": [None, "first", "second", "same", "same"],
            }
        ),
    )
    run(data, tmp_path)
    assert [row[2:4] for row in rows(ITEMS, tmp_path)] == [
        ("first", [1, 2]),
        ("same", [1]),
    ]
    assert reasons(tmp_path) == [
        ("catalog_names.parquet", 2, "type and id have another name in an earlier row"),
        ("tracks.parquet", 2, "track_id stands in an earlier row"),
    ]


def test_a_listen_without_track_seq_follows_the_one_before_it(tmp_path):
    table = pa.table(
        {
            "user_id": [1, 1, 1, 1, 2],
            "track_id": [30, 20, 10, 10, 10],
            "started_at": [JAN[1], JAN[0], JAN[1], JAN[2], JAN[0]],
            "track_seq": ["?", "7", "9", "-1", None],
        }
    )
    run(save(tmp_path / "in", interactions=table), tmp_path)
    found = [row[1::2] for row in rows(LISTENS, tmp_path)]
    assert found == [(20, 7), (10, 9), (30, 10), (10, 11), (10, 1)]


def plain_histories(listens: list[tuple]) -> list[tuple]:
    """The model of prepare on (user, track, day, seq or None): sort, drop equal rows, number."""
    kept = list(dict.fromkeys(listens))
    kept.sort(key=lambda row: (row[0], row[2], row[3] is None, row[3] or 0))
    result: list[tuple] = []
    for user, track, day, seq in kept:
        before = result[-1][3] if result and result[-1][0] == user else 0
        result.append((user, track, JAN[day], before + 1 if seq is None else seq))
    return result


small = st.integers(0, 3)


ROW = st.tuples(small, st.sampled_from([10, 20, 30]), small, st.none() | st.integers(0, 5))


@settings(deadline=None, max_examples=30)
@given(st.lists(ROW, min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 2**40))
def test_histories_equal_a_plain_model_in_parts_of_any_size(tmp_path_factory, listens, part, base):
    folder = tmp_path_factory.mktemp("model")
    listens = [(user + base, *rest) for user, *rest in listens]
    user, track, day, seq = zip(*listens, strict=True)
    table = pa.table(
        {
            "user_id": user,
            "track_id": track,
            "started_at": [date(2022, 1, d + 1) for d in day],
            "track_seq": pa.array(seq, pa.int16()),
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "PART", part)
        patch.setattr(raw_files, "BATCH", part)
        options = ["--max-bad-share", "1", "--equal-rows", "copies"]
        run(save(folder / "in", interactions=table), folder, *options)
    expected = plain_histories(listens)
    assert rows(LISTENS, folder) == expected
    assert len(expected) + len(reasons(folder)) == len(listens)
    last = {user: (sum(u == user for u, *_ in expected), at) for user, _, at, _ in expected}
    assert rows(USERS, folder) == [
        (user, place, *last[user]) for place, user in enumerate(sorted(last))
    ]


@pytest.mark.parametrize("share", ["2", "-0.1", "nan", "half"])
def test_a_share_is_from_0_to_1(tmp_path, share, capsys):
    with pytest.raises(SystemExit):
        run(save(tmp_path / "in"), tmp_path / "work", "--max-bad-share", share)
    assert "--max-bad-share" in capsys.readouterr().err


def test_a_run_that_dies_leaves_no_listens_beside_other_files(tmp_path, monkeypatch):
    data, work = save(tmp_path / "in"), tmp_path / "work"
    run(data, work)

    def die(table, folder, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(tables_, "write", die)
    with pytest.raises(KeyboardInterrupt):
        run(data, work)
    with pytest.raises(JobError, match=r"listens.parquet is missing: run python -m jobs.prepare"):
        read(LISTENS, work)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    data = save(tmp_path / "in", interactions=interactions(user_id=[3, 1, 3, None]))
    for work in ("a", "b"):
        run(data, tmp_path / work, "--max-bad-share", "0.5")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert sorted(content(tmp_path / "a")) == sorted(FILES)


def test_the_command_prints_one_line_and_no_traceback(tmp_path):
    data, work = save(tmp_path / "in"), tmp_path / "work"
    command = [sys.executable, "-m", "jobs.prepare", "--data", str(data), "--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"prepare: {data}: 4 listens of 2 users and 2 tracks; 0 tracks")
    before = content(work)
    (data / "interactions.parquet").write_text("spoilt")
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.startswith(
        f"prepare: {data}/interactions.parquet can't be read as parquet"
    )
    assert failed.stderr.count("\n") == 1
    assert content(work) == before
