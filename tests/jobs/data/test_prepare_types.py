"""jobs.prepare: listens and items are the same whatever the types of the columns."""

from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract.tables import ITEMS, LISTENS
from jobs.data import raw_files
from tests.support.inputs import JAN, content, interactions, reasons, rows, run, save, tracks


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
