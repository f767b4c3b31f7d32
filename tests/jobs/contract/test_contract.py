"""jobs.contract: what is written is read back, and a file that exists is whole."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract import storage, tables
from jobs.contract.results import Ranking
from jobs.contract.storage import JobError
from jobs.contract.tables import Table

ROOT = Path(__file__).parents[3]
TABLES = list(tables.TABLES.values())
VALUES = {
    tables.ID: st.integers(-(2**63), 2**63 - 1),
    tables.INT: st.integers(-(2**31), 2**31 - 1),
    tables.TIME: st.integers(-(2**53), 2**53),
    tables.SCORE: st.floats(allow_nan=False, width=32),
    tables.TEXT: st.none() | st.text(max_size=9),
    pa.bool_(): st.booleans(),
}


each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.file)


@st.composite
def contents(draw, table: Table) -> pa.Table:
    """Any rows of the table."""
    n = draw(st.integers(0, 6))
    columns = []
    for field in table.schema:
        if pa.types.is_list(field.type):
            values = st.none() | st.lists(VALUES[field.type.value_type], max_size=3)
        else:
            values = VALUES[field.type]
        columns.append(pa.array(draw(st.lists(values, min_size=n, max_size=n)), field.type))
    return pa.table(columns, schema=table.schema)


def some(table: Table, value: int, n: int = 1000) -> pa.Table:
    """n rows of one value."""
    of_type = {tables.TEXT: str(value), pa.bool_(): bool(value)}
    columns = [
        pa.array([[] if pa.types.is_list(f.type) else of_type.get(f.type, value)] * n, f.type)
        for f in table.schema
    ]
    return pa.table(columns, schema=table.schema)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_written_is_read_back(tmp_path_factory, data):
    table, folder = data.draw(st.sampled_from(TABLES)), tmp_path_factory.mktemp("table")
    rows = data.draw(contents(table))
    shuffled = rows.select(data.draw(st.permutations(rows.column_names)))
    tables.write(table, folder, shuffled.append_column("more", pa.nulls(len(rows))))
    assert tables.read(table, folder).equals(rows)
    assert tables.n_rows(table, folder) == len(rows)
    columns = data.draw(st.lists(st.sampled_from(rows.column_names), min_size=1, unique=True))
    assert tables.read(table, folder, columns).equals(rows.select(columns))
    size = data.draw(st.integers(1, 7))
    parts = list(tables.batches(table, folder, columns, size))
    assert all(len(part) <= size for part in parts)
    for name in columns:
        assert [x for part in parts for x in part[name].to_pylist()] == rows[name].to_pylist()


@each_table
def test_a_missing_file_names_the_job_that_makes_it(table, tmp_path):
    expected = rf"{table.file} is missing: run python -m {table.made_by} --work {tmp_path}"
    for read in (tables.read, tables.n_rows):
        with pytest.raises(JobError, match=expected):
            read(table, tmp_path)
    with pytest.raises(JobError, match=expected):
        next(tables.batches(table, tmp_path, table.schema.names))


@pytest.mark.parametrize(
    ("table", "command"),
    [
        (tables.LISTENS, "jobs.windows --work work"),
        (tables.HOLDOUT, "jobs.windows --work work"),
        (tables.SIMILAR, "jobs.similar --work work/windows/validation"),
        (tables.RECOMMENDATIONS, "jobs.rank --work work"),
    ],
)
def test_a_missing_file_of_a_window_names_the_job_and_the_folder_to_run_it_in(table, command):
    with pytest.raises(JobError, match=rf"is missing: run python -m {command}$"):
        tables.read(table, Path("work/windows/validation"))


@each_table
def test_a_truncated_file_names_the_job_that_makes_it(table, tmp_path):
    tables.write(table, tmp_path, some(table, 1))
    path = tmp_path / table.file
    whole = path.read_bytes()
    for length in (0, 4, 8, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(JobError, match=rf"not a whole parquet file .*-m {table.made_by} "):
            tables.read(table, tmp_path)


@each_table
@pytest.mark.parametrize("fault", ["name", "type", "fewer", "more"])
def test_a_wrong_schema_names_the_job_that_makes_it(table, fault, tmp_path):
    name, last = table.schema.names[0], len(table.schema) - 1
    schema = {
        "name": table.schema.set(0, pa.field("another", table.schema.field(0).type)),
        "type": table.schema.set(0, pa.field(name, pa.float64())),
        "fewer": table.schema.remove(last),
        "more": table.schema.append(pa.field("another", pa.int8())),
    }[fault]
    wrong = Table(table.file, table.made_by, table.row, schema, table.order)
    tables.write(wrong, tmp_path, schema.empty_table())
    with pytest.raises(JobError, match=rf"has the columns .*, expected .*-m {table.made_by} "):
        tables.read(table, tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is missing"),
        (b'{"a": ', "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[1]", "object"),
        (b'{"lists": {}}', "has no 'all'"),
    ],
)
def test_json_that_cannot_be_used_names_the_job_that_makes_it(content, says, tmp_path):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JobError, match=rf"metrics.json.*{says}.*run python -m jobs.evaluate"):
        _ = storage.read_json(path, "jobs.evaluate")["lists"]["all"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"rule": "ranker"}', "missing required field `ndcg@10_on_validation`"),
        (b'{"rule": 1}', "Expected `str`, got `int` - at `\\$.rule`"),
    ],
)
def test_json_without_the_fields_of_its_form_names_the_job_that_makes_it(content, says, tmp_path):
    path = tmp_path / "ranking.json"
    path.write_bytes(content)
    with pytest.raises(JobError, match=rf"ranking.json.*{says}.*run python -m jobs.rank again"):
        storage.read_json(path, "jobs.rank", Ranking)


def test_a_result_is_read_back_as_it_was_written_and_unknown_keys_are_ignored(tmp_path):
    path = tmp_path / "ranking.json"
    ranking = Ranking("ranker", {"als": 0.25, "ё": 1.0}, {}, {"item_plays": float("nan")})
    storage.write_json(path, ranking)
    content = json.loads(path.read_text())
    assert [*content] == [field.encode_name for field in msgspec.structs.fields(Ranking)]
    storage.write_json(path, content | {"of a later version": 1})
    found = storage.read_json(path, "jobs.rank", Ranking)
    assert np.isnan(found.feature_importance.pop("item_plays"))
    assert found == Ranking("ranker", {"als": 0.25, "ё": 1.0}, {}, {})


def test_json_is_read_back_in_its_order(tmp_path):
    content = {"b": [1, None, "ё"], "a": {"x": 0.1}}
    storage.write_json(tmp_path / "new" / "x.json", content)
    found = storage.read_json(tmp_path / "new" / "x.json", "a job")
    assert found == content
    assert list(found) == ["b", "a"]


def test_a_failure_in_the_middle_leaves_the_old_file_and_no_other(tmp_path):
    table = tables.TOP_POPULAR
    tables.write(table, tmp_path, some(table, 1))
    with pytest.raises(RuntimeError), tables.writer(table, tmp_path) as append:
        append(some(table, 2))
        raise RuntimeError
    with pytest.raises(pa.ArrowInvalid):  # a value that the column can't hold
        tables.write(table, tmp_path, some(table, 3).set_column(1, "rank", [[2**40] * 1000]))
    with pytest.raises(RuntimeError), storage.atomic(tmp_path / table.file) as path:
        path.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == [table.file]
    assert tables.read(table, tmp_path).equals(some(table, 1))


WRITE = """
import itertools, sys
from pathlib import Path
from jobs.contract import tables
from tests.jobs.contract.test_contract import some

folder, table = Path(sys.argv[1]), tables.TOP_POPULAR
for version in itertools.count(1):
    with tables.writer(table, folder) as append:
        for _ in range(20):
            append(some(table, version))
            print(version, flush=True)
            if sys.argv[2] == "never ends":
                while True: append(some(table, version))
"""


def killed_while_writing(folder: Path, how: str, after: float) -> None:
    """Start writing, and kill the process so many seconds after its first rows were handed over."""
    command = [sys.executable, "-c", WRITE, str(folder), how]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(after)
        process.kill()


def test_a_process_killed_in_its_first_write_leaves_no_file(tmp_path):
    killed_while_writing(tmp_path, "never ends", 0.05)
    assert list(tmp_path.iterdir())  # something was written, under another name
    with pytest.raises(JobError, match="is missing"):
        tables.read(tables.TOP_POPULAR, tmp_path)


def test_a_process_killed_at_any_time_leaves_a_whole_file(tmp_path):
    table = tables.TOP_POPULAR
    tables.write(table, tmp_path, some(table, 0, 20_000))
    for _ in range(2):
        killed_while_writing(tmp_path, "again and again", random.uniform(0, 0.3))
        found = tables.read(table, tmp_path)
        assert found.equals(some(table, found["rank"][0].as_py(), 20_000))
