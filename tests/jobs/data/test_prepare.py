"""jobs.prepare: the user's three files, whatever their types and faults, become clean ones."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import prepare
from jobs.contract import tables as tables_
from jobs.contract.storage import JobError
from jobs.contract.tables import ITEMS, LISTENS, QUARANTINE, SUSPICIOUS, USERS, Table, read
from jobs.data import histories, raw_files
from jobs.data.equal_rows import LONG_PART

FILES = [*(t.file for t in (LISTENS, USERS, ITEMS, QUARANTINE, SUSPICIOUS)), "clock.json"]
OTHER_TEXT = "is a text other than the plain digits of a whole number, as 7"
JAN = [datetime(2022, 1, day) for day in range(1, 10)]


def tracks(**changes):
    """Three tracks: 10 has all names, 20 lacks some, 30 has none."""
    columns = {
        "track_id": [10, 20, 30],
        "albums": [[], [1], None],
        "artists": [[1], [1, 2], []],
        "genres": [[5, 6], [7, 5], None],
    }
    return pa.table(columns | changes)


def names(**changes):
    columns = {
        "id": [10, 20, 10, 1, 2, 5, 6, 5],
        "type": ["track", "track", "artist", "artist", "artist", "genre", "genre", "album"],
        "name": ["\t Ten  Dots ", "Двадцать", "not the track", "AC/DC", " ", "rock", "pop", "x"],
    }
    return pa.table(columns | changes)


def interactions(**changes):
    columns = {
        "user_id": [3, 1, 3, 1],
        "track_id": [20, 10, 10, 20],
        "track_seq": [2, 1, 1, 2],
        "started_at": [JAN[1], JAN[0], JAN[0], JAN[3]],
    }
    return pa.table(columns | changes)


def save(folder: Path, **tables) -> Path:
    """Write the three input files, the usual ones where none is given."""
    folder.mkdir(parents=True, exist_ok=True)
    usual = {"tracks": tracks(), "catalog_names": names(), "interactions": interactions()}
    for name, table in (usual | tables).items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def run(data: Path, work: Path, *options: str) -> str:
    """The job's main with this command line; its summary."""
    now = ["--now", "2026-01-01"]  # so that clock.json is the same in every run
    return prepare.main(["--data", str(data), "--work", str(work), *now, *options])


def rows(table: Table, work: Path) -> list[tuple]:
    return [tuple(row.values()) for row in read(table, work).to_pylist()]


def reasons(work: Path) -> list[tuple]:
    return [row[:3] for row in rows(QUARANTINE, work)]


def content(work: Path) -> dict[str, bytes]:
    """Every file in a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in work.iterdir()}


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


def test_bad_rows_of_tracks_and_catalogue_go_to_quarantine(tmp_path):
    data = save(
        tmp_path / "in",
        tracks=tracks(track_id=pa.array([10, None, 20])),
        catalog_names=pa.table(
            {
                "id": ["10", "x", "1", None, "5"],
                "type": [" Track", "track", "label", "genre", None],
                "name": ["Ten", "X", "L", "G", "N"],
            }
        ),
    )
    run(data, tmp_path)
    assert rows(QUARANTINE, tmp_path) == [
        ("catalog_names.parquet", 1, f"id {OTHER_TEXT}",
         '{"id":"x","type":"track","name":"X"}'),
        ("catalog_names.parquet", 2, "type is none of track, album, artist, genre",
         '{"id":"1","type":"label","name":"L"}'),
        ("catalog_names.parquet", 3, "id is missing", '{"id":null,"type":"genre","name":"G"}'),
        ("catalog_names.parquet", 4, "type is none of track, album, artist, genre",
         '{"id":"5","type":null,"name":"N"}'),
        ("tracks.parquet", 1, "track_id is missing",
         '{"track_id":null,"artists":[1,2],"genres":[7,5]}'),
    ]  # fmt: skip


def test_every_kind_of_bad_interaction_goes_to_quarantine_with_its_reason(tmp_path):
    good = ("1", "10", "2022-01-01", 1)
    bad = [
        ((None, "10", "2022-01-01", 1), "user_id is missing"),
        (("-1", "10", "2022-01-01", 1), "user_id is negative"),
        *(
            ((text, "10", "2022-01-01", 1), f"user_id {OTHER_TEXT}")
            for text in ("1.5", "", "01", "1.0", "1e0", "+1", "-0.0", "u1", "0x1", "1_0")
        ),
        (("9007199254740992", "10", "2022-01-01", 1), "user_id is over 2^53 - 1"),
        (("1", None, "2022-01-01", 1), "track_id is missing"),
        (("1", "-10", "2022-01-01", 1), "track_id is negative"),
        (("1", "ten", "2022-01-01", 1), f"track_id {OTHER_TEXT}"),
        (("1", "1" + "0" * 30, "2022-01-01", 1), "track_id is over 2^53 - 1"),
        (("1", "11", "2022-01-01", 1), "track_id is not in tracks.parquet"),
        (("1", "10", None, 1), "started_at is missing"),
        (("1", "10", "soon", 1), "started_at is not a date"),
        (("1", "10", "now", 1), "started_at is not a date"),
        (("1", "10", "2022-02-30", 1), "started_at is not a date"),
        *(
            (("1", "10", text, 1), f"started_at {raw_files.TIME_FLAWS[raw_files.NUMBER_TEXT - 1]}")
            for text in ("1641038400", "1641038400000", "1641038400.5")
        ),
        (("1", "10", "1969-12-31", 1), "started_at is not between 1970 and 2099"),
        (("1", "10", "2100-01-01", 1), "started_at is not between 1970 and 2099"),
        (("1", "10", "2022-01-01T00:00:00Z", 1), "the row equals an earlier one"),
    ]
    columns = zip(good, *(row for row, _ in bad), strict=True)
    table = pa.table(
        dict(zip(["user_id", "track_id", "started_at", "track_seq"], columns, strict=True))
    )
    run(save(tmp_path / "in", interactions=table), tmp_path, "--max-bad-share", "1")
    found = rows(QUARANTINE, tmp_path)
    assert rows(LISTENS, tmp_path) == [(1, 10, JAN[0], 1)]
    assert [row[2] for row in found] == [reason for _, reason in bad]
    assert [row[1] for row in found] == list(range(1, len(bad) + 1))
    kept = [tuple(json.loads(row[3]).values()) for row in found]
    assert kept == [(user, track, at, seq) for (user, track, at, seq), _ in bad]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([1, 2**64 - 1], pa.uint64()), "user_id is over 2^53 - 1"),
        (pa.array([1.0, float("inf")]), "user_id is not a whole number"),
        (pa.array([1.0, float("nan")]), "user_id is missing"),
        (pa.array([1.0, 2.0**25], pa.float32()), "user_id is over 2^53 - 1"),
    ],
)
def test_numbers_that_are_no_ids_are_bad_in_every_type(tmp_path, column, reason):
    table = pa.table({"user_id": column, "track_id": [10, 10], "started_at": JAN[:2]})
    run(save(tmp_path / "in", interactions=table), tmp_path, "--max-bad-share", "0.5")
    assert reasons(tmp_path) == [("interactions.parquet", 1, reason)]


def test_repeats_of_a_pair_are_kept_unless_the_whole_row_repeats(tmp_path):
    same = {"user_id": [1] * 4, "track_id": [10, 20, 10, 10], "started_at": [JAN[0]] * 4}
    data = save(tmp_path / "in", interactions=pa.table(same | {"track_seq": [1, 2, 3, 3]}))
    run(data, tmp_path, "--max-bad-share", "0.5")
    assert [row[1] for row in rows(LISTENS, tmp_path)] == [10, 20, 10]
    assert reasons(tmp_path) == [("interactions.parquet", 3, "the row equals an earlier one")]

    data = save(tmp_path / "in", interactions=pa.table(same))  # no track_seq: a day's repeats stay
    run(data, tmp_path)
    assert [row[1] for row in rows(LISTENS, tmp_path)] == [10, 20, 10, 10]
    run(data, tmp_path, "--max-bad-share", "0.5", "--equal-rows", "copies")
    assert [row[1] for row in rows(LISTENS, tmp_path)] == [10, 20]
    assert [row[1] for row in reasons(tmp_path)] == [2, 3]


@pytest.mark.parametrize(
    ("shift", "plays"), [(0, True), (60, True), (3600, True), (1, False), (0.001, False)]
)
def test_equal_rows_are_plays_where_times_are_whole_minutes(tmp_path, shift, plays):
    times = [day + timedelta(seconds=shift) for day in [JAN[0], JAN[0], JAN[1], JAN[2]]]
    same = {"user_id": [1] * 4, "track_id": [10] * 4, "started_at": times}
    data = save(tmp_path / "in", interactions=pa.table(same))
    run(data, tmp_path, "--max-bad-share", "0.5")
    assert len(rows(LISTENS, tmp_path)) == (4 if plays else 3)


def test_a_file_that_has_all_its_rows_twice_is_refused_and_the_option_named(tmp_path):
    once = [(user, track, JAN[day]) for user in (1, 2) for track in (10, 20) for day in range(8)]
    user, track, day = zip(*once, *once, strict=True)
    twice = pa.table({"user_id": user, "track_id": track, "started_at": day})
    data = save(tmp_path / "in", interactions=twice)
    with pytest.raises(JobError, match=r"64 of 64 rows are there twice.* --equal-rows copies"):
        run(data, tmp_path)
    run(data, tmp_path, "--equal-rows", "copies", "--max-bad-share", "0.5")
    assert len(rows(LISTENS, tmp_path)) == 32
    run(data, tmp_path, "--equal-rows", "plays")
    assert len(rows(LISTENS, tmp_path)) == 64


def test_a_file_that_has_a_part_twice_is_refused_and_its_rows_are_named(tmp_path):
    rng = np.random.default_rng(5)
    rest = [(i % 50, 10 * (1 + i % 2), JAN[int(rng.integers(9))]) for i in range(3000)]
    part = [(100 + i, 10, JAN[i % 9]) for i in range(LONG_PART)]
    for n, says in ((LONG_PART, True), (LONG_PART - 1, False)):
        listens = [*rest[:700], *part, *rest[700:], *part[:n]]
        columns = zip(*listens, strict=True)
        names = ("user_id", "track_id", "started_at")
        data = save(tmp_path / "in", interactions=pa.table(dict(zip(names, columns, strict=True))))
        if says:
            message = r"the rows 4,000 to 4,999 are the same as those from 700 on.* --equal-rows"
            with pytest.raises(JobError, match=message):
                run(data, tmp_path)
            run(data, tmp_path, "--equal-rows", "plays")
        else:
            run(data, tmp_path)
        assert len(rows(LISTENS, tmp_path)) == len(listens)


def test_a_value_in_a_list_that_is_no_id_is_counted_and_the_track_is_kept(tmp_path):
    lists = [["1", "Queen"], ["1"], []]
    summary = run(save(tmp_path / "in", tracks=tracks(artists=lists)), tmp_path)
    assert [row[3] for row in rows(ITEMS, tmp_path)] == [[1], [1], []]
    assert reasons(tmp_path) == [
        ("tracks.parquet", 0, "a value in artists or genres is not an id, and was left out")
    ]
    assert "1 rows quarantined (1 of them tracks that lack an artist or a genre" in summary


def test_tracks_without_a_usable_id_say_why(tmp_path):
    data = save(tmp_path / "in", tracks=tracks(track_id=["USRC17607839", "USRC17607840", "x"]))
    with pytest.raises(JobError, match=f"no usable track in 3 rows, track_id {OTHER_TEXT}"):
        run(data, tmp_path, "--track-ids", "integer")


def test_a_far_time_of_the_type_int96_does_not_become_another_date(tmp_path):
    moments = pa.array([*JAN[:3], datetime(2600, 6, 1)], pa.timestamp("us"))
    data = save(tmp_path / "in")
    table = interactions(started_at=moments)
    path = data / "interactions.parquet"
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    run(data, tmp_path, "--max-bad-share", "0.25")
    assert reasons(tmp_path) == [
        ("interactions.parquet", 3, "started_at is not between 1970 and 2099")
    ]
    assert {row[2] for row in rows(LISTENS, tmp_path)} == {*JAN[:3]}


@pytest.mark.parametrize("change", [str.upper, str.title, lambda name: name.replace("_", "")])
def test_columns_in_other_letters_get_a_hint(tmp_path, change):
    table = interactions()
    named = table.rename_columns([change(name) for name in table.column_names])
    with pytest.raises(JobError, match=f"perhaps rename {change('user_id')} to user_id"):
        run(save(tmp_path / "in", interactions=named), tmp_path)


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


TEXTS = [
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(),
    pa.dictionary(pa.int32(), pa.string()),
]  # fmt: skip


NUMBERS = [
    pa.int16(), pa.int32(), pa.int64(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float32(),
    pa.float64(), pa.decimal128(12, 2), pa.dictionary(pa.int16(), pa.int64()),
]  # fmt: skip


DATES = [
    pa.date32(), pa.date64(),
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "+09:00")),
]  # fmt: skip


FORMATS = ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%fZ", " %Y-%m-%dT%H:%M:%S+00:00"]


def cast(values: list, to: pa.DataType) -> pa.Array:
    """Values as a column of this type, by way of text where they are to become text."""
    if to in TEXTS:
        return pa.array([None if v is None else str(v) for v in values]).cast(to)
    if pa.types.is_dictionary(to):
        return pa.array(values, to.value_type).dictionary_encode()
    if pa.types.is_decimal(to):
        return pa.array(values, pa.int64()).cast(pa.decimal128(19, 0)).cast(to)
    return pa.array(values, to)


@st.composite
def same_listens(draw):
    """The usual interactions and tracks with columns of other types, and more of them."""
    number = st.sampled_from(NUMBERS + TEXTS)
    plain = interactions().to_pydict()
    columns = {
        name: cast(plain[name], draw(number)) for name in ("user_id", "track_id", "track_seq")
    }
    if form := draw(st.sampled_from([None, *FORMATS])):
        texts = [at.strftime(form) for at in plain["started_at"]]
        columns["started_at"] = cast(texts, draw(st.sampled_from(TEXTS)))
    else:
        to = draw(st.sampled_from(DATES))
        zoned = [at.replace(tzinfo=UTC) for at in plain["started_at"]]
        columns["started_at"] = pa.array(zoned, pa.timestamp("us", "UTC")).cast(to)
    if draw(st.booleans()):
        columns["__index_level_0__"] = [0] * 4
        columns["user_id.x"] = [[1]] * 4
    order = draw(st.permutations(list(columns)))
    inner, wrap = draw(number), draw(st.sampled_from([pa.list_, pa.large_list, pa.list_view]))
    lists = {
        name: pa.array(
            [v and [str(i) if inner in TEXTS else i for i in v] for v in values], wrap(inner)
        )
        for name, values in tracks().select(["artists", "genres"]).to_pydict().items()
        if not pa.types.is_dictionary(inner)
    }
    ids = cast([10, 20, 30], draw(number))
    return pa.table({name: columns[name] for name in order}), tracks(track_id=ids, **lists)


@settings(deadline=None, max_examples=30)
@given(same_listens())
def test_listens_and_items_are_the_same_whatever_the_types(tmp_path_factory, tables):
    folder = tmp_path_factory.mktemp("types")
    run(save(folder / "in"), folder / "plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw_files, "BATCH", 2)
        run(save(folder / "in", interactions=tables[0], tracks=tables[1]), folder / "other")
    assert content(folder / "other") == content(folder / "plain")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[], [], []], pa.list_(pa.null())),
        pa.array([None, None, None]),
        pa.array([[None, None]] * 3, pa.list_(pa.int64(), 2)),
        pa.array([None, [None, -1], [None, None]], pa.list_(pa.int64(), 2)),
        pa.array([["x"], None, []]),
    ],
)
def test_lists_may_be_null_or_hold_nothing_usable(tmp_path, column):
    run(save(tmp_path / "in", tracks=tracks(artists=column, genres=column)), tmp_path)
    assert [row[3:] for row in rows(ITEMS, tmp_path)] == [([], [], [], [])] * 3


def test_a_fixed_size_list_is_a_list(tmp_path):
    column = pa.array([[1, 2], None, [5, None]], pa.list_(pa.int64(), 2))
    run(save(tmp_path / "in", tracks=tracks(genres=column)), tmp_path)
    assert [row[5] for row in rows(ITEMS, tmp_path)] == [[1, 2], [], [5]]


def test_a_pandas_index_that_repeats_does_no_harm(tmp_path):
    frame = interactions().to_pandas().set_index(pd.Index([5, 5, 6, 6]))
    data = save(tmp_path / "in")
    run(data, tmp_path / "plain")
    frame.to_parquet(data / "interactions.parquet")
    run(data, tmp_path / "indexed")
    assert content(tmp_path / "indexed") == content(tmp_path / "plain")


def test_time_zones_are_taken_to_utc(tmp_path):
    texts = ["2022-01-01T03:00:00+03:00", "2021-12-31 22:00-02", "2022-01-01", "2022-01-01T00:00Z"]
    run(save(tmp_path / "in", interactions=interactions(started_at=texts)), tmp_path)
    assert {row[2] for row in rows(LISTENS, tmp_path)} == {JAN[0]}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Mars/Olympus"])
def test_a_bad_row_with_a_zone_goes_to_quarantine_whatever_its_year(tmp_path, zone):
    moments = pa.array([0, 253_402_300_800_000_000, 0, 0], pa.timestamp("us", zone))
    data = save(tmp_path / "in", interactions=interactions(started_at=moments))
    run(data, tmp_path, "--max-bad-share", "0.5")
    assert reasons(tmp_path) == [
        ("interactions.parquet", 1, "started_at is not between 1970 and 2099")
    ]


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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def scribble(path: Path) -> None:
    """Spoil the pages and keep the footer."""
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 200 + whole[204:])


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD_FILES = [  # what is done to a file, and what is said about it
    (
        "interactions",
        Path.unlink,
        "is missing: add it; its folder has catalog_names.parquet",
    ),
    ("tracks", Path.unlink, "tracks.parquet is missing"),
    ("catalog_names", Path.unlink, "catalog_names.parquet is missing"),
    ("tracks", folder_instead, "is a folder: join its parts"),
    ("tracks", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    ("interactions", lambda path: path.write_text("user_id,track_id"), "can't be read as parquet"),
    ("interactions", cut, "can't be read as parquet"),
    ("interactions", scribble, "can't be read as parquet"),
]


MORE = interactions().append_column("user_id", pa.array([1] * 4))
RENAMED = interactions().rename_columns({"user_id": "userId"})
BAD_TABLES = [
    (
        "interactions",
        RENAMED,
        "has no column user_id: found userId, track_id, track_seq, started_at",
    ),
    ("interactions", RENAMED, "; perhaps rename userId to user_id"),
    ("tracks", tracks().drop_columns(["genres"]), "has no column genres: found track_id, albums,"),
    ("catalog_names", names().drop_columns(["type"]), "has no column type: found id, name"),
    ("interactions", MORE, "has 2 columns user_id: keep one of them"),
    ("tracks", tracks(track_id=[{"a": 1}] * 3), "track_id is struct<a: int64>, expected whole num"),
    (
        "interactions",
        interactions(track_id=[[1]] * 4),
        "track_id is list<element: int64>, expected",
    ),
    ("interactions", interactions(user_id=[True] * 4), "user_id is bool, expected whole numbers"),
    ("interactions", interactions(user_id=JAN[:4]), "user_id is timestamp[us], expected whole num"),
    (
        "interactions",
        interactions(track_seq=[[1]] * 4),
        "track_seq is list<element: int64>, expected",
    ),
    ("interactions", interactions(started_at=[1_641_000_000] * 4), "started_at is int64, expected"),
    ("interactions", interactions(started_at=[1.5] * 4), "expected dates (numbers are ambiguous"),
    ("interactions", interactions(started_at=[time()] * 4), "started_at is time64[us], expected"),
    ("tracks", tracks(artists=[1, 2, 3]), "artists is int64, expected lists of whole numbers"),
    (
        "tracks",
        tracks(genres=[[[1]]] * 3),
        "genres is list<element: list<element: int64>>, expected",
    ),
    ("catalog_names", names(name=[{"en": "x"}] * 8), "name is struct<en: string>, expected text"),
    ("catalog_names", names(type=[["x"]] * 8), "type is list<element: string>, expected text"),
    ("catalog_names", names(name=[b"\xe9"] * 8), "can't be read as parquet (Invalid UTF8"),
    ("interactions", interactions().slice(0, 0), "interactions.parquet holds no rows"),
    ("tracks", tracks().slice(0, 0), "holds no usable track in 0 rows"),
    ("tracks", tracks(track_id=[-1, None, -2]), "holds no usable track in 3 rows"),
    (
        "interactions",
        interactions(track_id=[1, 2, 3, 4]),
        "no usable listen in 4 rows: 4 where track_id is not in tracks.parquet (first in row 0)",
    ),
    (
        "interactions",
        interactions(user_id=[1, None, -1, 2]),
        "2 of 4 rows (50.0%) are bad, 1 where user_id is missing (first in row 1); 1 where user_id "
        "is negative (first in row 2). Correct them, or allow more than 0.1 with --max-bad-share",
    ),
    (
        "interactions",
        pa.concat_tables([interactions()] * 2),
        "4 of 8 rows (50.0%) are bad, 4 where the row equals an earlier one (first in row 4)",
    ),
]


FAULTS = BAD_FILES + [
    (name, lambda path, table=table: pq.write_table(table, path), words)
    for name, table, words in BAD_TABLES
]


@pytest.mark.parametrize(("name", "spoil", "words"), FAULTS, ids=[words for _, _, words in FAULTS])
def test_a_bad_file_is_refused_clearly_and_work_stays_as_it_was(tmp_path, name, spoil, words):
    data, work = save(tmp_path / "in"), tmp_path / "work"
    run(data, work)
    before = content(work)
    spoil(data / f"{name}.parquet")
    with pytest.raises(JobError) as error:
        run(data, work)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert content(work) == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(JobError, match=r"nowhere is not a folder: give --data one with tracks"):
        run(tmp_path / "nowhere", tmp_path / "work")


def test_work_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "work").write_text("a file")
    with pytest.raises(JobError, match="work can't be written"):
        run(save(tmp_path / "in"), tmp_path / "work")


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
