"""jobs.prepare with too little memory for all rows: it keeps them in files, and makes the same."""

import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import prepare
from jobs.contract.storage import JobError
from jobs.data import allocator, histories, needed_memory, raw_files
from jobs.runtime import memory
from tests.support.inputs import JAN, content, run, save

KEPT = "rows are kept in temporary files of"
ROW = st.tuples(
    st.integers(0, 3),
    st.sampled_from([10, 20, 30, 99]),  # tracks.parquet does not have 99
    st.integers(0, 8),
    st.none() | st.integers(0, 5),
    st.sampled_from([None, "listen", "skip", "like", "dislike", "?"]),
    st.none() | st.sampled_from([0.1, 0.7, 1.0, 1.5]),
)


def limits(data: Path, work: Path, *options: str) -> tuple[int, int]:
    """Memory that is just enough for all rows, and memory that is not."""
    parsed = prepare.arguments(["--data", str(data), "--work", str(work), *options])
    need = memory.of_prepare(needed_memory.has_text_ids(parsed), needed_memory.has_kinds(parsed))
    needed, _ = memory.compared(need, parsed)
    return needed, needed - 1


def made(data: Path, work: Path, limit: int, *options: str) -> dict[str, bytes]:
    run(data, work, "--memory-limit", str(limit), *options)
    return content(work)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(ROW, min_size=1, max_size=40),
    st.integers(1, 20),
    st.sampled_from([0, 2**31 - 2, 2**40]),
    st.booleans(),
    st.sampled_from(["plays", "copies"]),
)
def test_rows_in_files_become_the_same_bytes_as_rows_in_memory(
    tmp_path_factory, found, part, base, text, equal_rows
):
    folder = tmp_path_factory.mktemp("both")
    user, track, day, seq, kind, share = zip(*found, strict=True)
    ids = [user + base for user in user]
    columns = {
        "user_id": [f"user {i}" for i in ids] if text else ids,
        "track_id": track,
        "started_at": [JAN[d] for d in day],
        "track_seq": pa.array(seq, pa.int16()),
        "kind": pa.array(kind, pa.string()),
        "played_share": pa.array(share, pa.float64()),
    }
    first = {"user_id": columns["user_id"][0], "track_id": 10, "started_at": JAN[0]}
    good = pa.Table.from_pylist([first])  # one row that is good, whatever the others are
    table = pa.concat_tables([pa.table(columns), good], promote_options="default")
    data = save(folder / "in", interactions=table)
    options = ["--max-bad-share", "1", "--equal-rows", equal_rows, "--far", "inf"]
    options += ["--user-ids", "text" if text else "integer"]
    enough, short = limits(data, folder / "memory", *options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "PART", part)
        patch.setattr(raw_files, "BATCH", part)
        patch.setattr(allocator, "BLOCK", part)
        expected = made(data, folder / "memory", enough, *options)
        assert made(data, folder / "files", short, *options) == expected


def csv_of(users: list[int]) -> str:
    lines = [f"{user},10,2022-01-01" for user in users]
    return "\n".join(["user_id,track_id,started_at", *lines])


@pytest.mark.parametrize(
    "users",
    [
        [7],
        [*range(9_000)] + [10**15 + i for i in range(200)],
        [10**15 + i for i in range(6_000)] + [*range(9_000)],
    ],
    ids=["one row", "fewer", "more"],
)
def test_a_text_file_with_another_number_of_rows_than_was_estimated_too(tmp_path, users, capsys):
    data = save(tmp_path / "in")
    (data / "interactions.parquet").unlink()
    (data / "interactions.csv").write_text(csv_of(users))
    enough, short = limits(data, tmp_path / "work")
    expected = made(data, tmp_path / "memory", enough)
    assert KEPT not in capsys.readouterr().out
    assert made(data, tmp_path / "work", short) == expected
    assert f"{KEPT} {tmp_path / 'work'}, since 1.0 GB of memory" in capsys.readouterr().out


@pytest.mark.parametrize("user", [1, "one"])
def test_whether_ids_are_text_is_known_before_the_first_run(tmp_path, user, capsys):
    table = pa.table({"user_id": [user], "track_id": [10], "started_at": JAN[:1]})
    data = save(tmp_path / "in", interactions=table)
    tracks, text = 3, user == "one"
    needed = memory.of_prepare(text).bytes(1, 0, tracks, threads=1)
    for limit, kept in ((needed, False), (needed - 1, True)):
        run(data, tmp_path / f"work {limit}", "--memory-limit", str(limit))
        assert (KEPT in capsys.readouterr().out) == kept


def test_a_file_that_has_a_part_twice_is_refused_too(tmp_path):
    columns = {"user_id": [1, 2, 3] * 700, "track_id": [10] * 2100, "started_at": JAN[:7] * 300}
    data = save(tmp_path / "in", interactions=pa.table(columns))
    messages = []
    for limit in limits(data, tmp_path / "work"):
        with pytest.raises(JobError, match="seems to") as error:
            run(data, tmp_path / "work", "--memory-limit", str(limit))
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_disk_without_space_for_the_files_is_named_and_all_stays_as_it_was(tmp_path, monkeypatch):
    data, work = save(tmp_path / "in"), tmp_path / "work"
    run(data, work)
    before = content(work)

    def refuse(file: int, first: int, n: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    _, short = limits(data, work)
    message = r"work can't take a temporary file of 0\.0 GB \(No space left on device\): free disk"
    with pytest.raises(JobError, match=message):
        run(data, work, "--memory-limit", str(short))
    assert content(work) == before
