"""jobs.prepare: text ids are the same ids in every form of the files."""

import csv
import io
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract.tables import QUARANTINE
from jobs.data import raw_files
from tests.support.inputs import JAN, content, run

USERS = [str(uuid.UUID(int=number * 10**30)) for number in (1, 2, 3)]
TRACKS = ["Трек 1", "007", "7", "a,b;c|d", 'say "hi"', " x "]
ROWS = [(USERS[i % 3], TRACKS[i % 6], JAN[i % 9].isoformat(), i) for i in range(60)]
COLUMNS = ("user_id", "track_id", "started_at", "track_seq")


def table() -> pa.Table:
    return pa.table(dict(zip(COLUMNS, zip(*ROWS, strict=True), strict=True)))


def as_uuids(column: pa.ChunkedArray) -> pa.Array:
    values = [uuid.UUID(text).bytes for text in column.to_pylist()]
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))


def write_csv(folder, rows=ROWS):
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *rows])
    (folder / "interactions.csv").write_text(text.getvalue())


def write_json(folder):
    text = table().to_pandas().to_json(orient="records", lines=True, force_ascii=False)
    (folder / "interactions.jsonl").write_text(text)


def write_parts(folder):
    (folder / "interactions").mkdir()
    for i in range(12):
        rows = table().slice(i * 5, 5)
        users = [as_uuids, pa.chunked_array, lambda c: c.combine_chunks().dictionary_encode()]
        rows = rows.set_column(0, "user_id", users[i % 2 * 2](rows["user_id"]))
        pq.write_table(rows, folder / f"interactions/part-{i}.parquet")


@pytest.mark.parametrize("write", [write_csv, write_json, write_parts])
def test_text_ids_are_the_same_in_every_form(tmp_path, write):
    for name in ("plain", "other"):
        (tmp_path / name).mkdir()
    pq.write_table(table(), tmp_path / "plain/interactions.parquet")
    write(tmp_path / "other")
    for name in ("plain", "other"):
        run(tmp_path / name, tmp_path / "work" / name)
    plain, other = (content(tmp_path / "work" / name) for name in ("plain", "other"))
    assert plain.keys() == other.keys() >= {"user_ids.parquet", "track_ids.parquet"}
    assert {name for name in plain if plain[name] != other[name]} <= {QUARANTINE.file}


def test_tracks_of_listens_may_be_uuids(tmp_path):
    for name, convert in (("text", pa.chunked_array), ("uuid", as_uuids)):
        (tmp_path / name).mkdir()
        rows = table().set_column(1, "track_id", convert(table()["user_id"]))
        pq.write_table(rows, tmp_path / name / "interactions.parquet")
        run(tmp_path / name, tmp_path / "work" / name)
    assert content(tmp_path / "work/uuid") == content(tmp_path / "work/text")


@pytest.mark.parametrize("use_dictionary", [True, False, ["user_id"]])
@pytest.mark.parametrize("row_group_size", [7, 60])
@pytest.mark.parametrize("large", [1, 50])
def test_text_is_the_same_however_parquet_encodes_it(
    tmp_path, monkeypatch, use_dictionary, row_group_size, large
):
    monkeypatch.setattr(raw_files, "LARGE_GROUP", large)
    monkeypatch.setattr(raw_files, "ENCODED_BYTES", 40)
    for name in ("plain", "other"):
        (tmp_path / name).mkdir()
    pq.write_table(table(), tmp_path / "plain/interactions.parquet")
    pq.write_table(
        table(),
        tmp_path / "other/interactions.parquet",
        use_dictionary=use_dictionary,
        row_group_size=row_group_size,
    )
    for name in ("plain", "other"):
        run(tmp_path / name, tmp_path / "work" / name)
    assert content(tmp_path / "work/other") == content(tmp_path / "work/plain")


@given(st.lists(st.none() | st.uuids()), st.integers(0, 3))
def test_uuids_are_their_usual_text(values, start):
    stored = pa.array([value and value.bytes for value in values], pa.binary(16))
    found = raw_files.uuid_texts(stored.slice(start)).to_pylist()
    assert found == [value and str(value) for value in values[start:]]
