"""jobs.prepare: inputs in any form, as files or as folders of parts, give the same listens."""

import gzip
import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract.storage import JobError
from jobs.contract.tables import LISTENS, QUARANTINE
from jobs.inputs import lines
from tests.support.inputs import JAN, content, interactions, names, reasons, rows, run, save, tracks


def made(work: Path) -> dict[str, bytes]:
    """All files but the quarantine, which names the files of the input."""
    return {name: file for name, file in content(work).items() if name != QUARANTINE.file}


def as_csv(table: pa.Table, delimiter: str = ",") -> bytes:
    """A table as CSV, as pandas writes it: lists as Python writes them."""
    return table.to_pandas().to_csv(index=False, sep=delimiter).encode()


def as_json(table: pa.Table) -> bytes:
    return b"".join(json.dumps(row, default=str).encode() + b"\n" for row in table.to_pylist())


def packed(content: bytes, name: str) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(content)
    return pa.compress(content, "zstd", asbytes=True) if name.endswith(".zst") else content


def write(path: Path, table: pa.Table, delimiter: str = ",") -> None:
    """Write a table in the form that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        content = as_csv(table, delimiter) if ".csv" in path.name else as_json(table)
        path.write_bytes(packed(content, path.name))


ENDINGS = [".parquet", *(f"{a}{b}" for a in (".csv", ".json") for b in ("", ".gz", ".zst")),
           ".jsonl", ".ndjson"]  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_equal_content_in_other_forms_gives_the_same_bytes(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("forms")
    small = st.integers(0, 3)
    listens = data.draw(
        st.lists(st.tuples(small, st.sampled_from([10, 20, 30]), small), min_size=1)
    )
    columns = zip(*listens, strict=True)
    user, track, day = map(list, columns)
    whole = {
        "tracks": tracks(),
        "catalog_names": names(),
        "interactions": pa.table(
            {
                "user_id": user,
                "track_id": track,
                "started_at": [JAN[d] + timedelta(seconds=1) for d in day],
                "track_seq": range(len(listens)),  # so that no row equals another
            }
        ),
    }
    run(save(folder / "plain", **whole), folder / "expected")
    for name, table in whole.items():
        ending = data.draw(st.sampled_from(ENDINGS))
        delimiter = data.draw(st.sampled_from([",", ";", "\t", "|"]))
        n = data.draw(st.integers(1, 12))
        cuts = sorted(
            data.draw(st.lists(st.integers(0, len(table)), min_size=n - 1, max_size=n - 1))
        )
        bounds = zip([0, *cuts], [*cuts, len(table)], strict=True)
        parts = [
            table.slice(a, b - a) for a, b in bounds if b > a or ending.startswith((".p", ".c"))
        ]
        if len(parts) < 2:
            write(folder / f"in/{name}{ending}", table, delimiter)
            continue
        for i, part in enumerate(parts):  # part-10 comes after part-9
            write(folder / f"in/{name}/part-{i}{ending}", part, delimiter)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", data.draw(st.integers(300, 3000)))
        run(folder / "in", folder / "work")
    assert made(folder / "work") == made(folder / "expected")


def test_partitions_of_hive_are_read_with_the_columns_of_their_names(tmp_path):
    table = interactions()
    run(save(tmp_path / "in"), tmp_path / "expected")
    (tmp_path / "in/interactions.parquet").unlink()
    day = [f"{at:%Y-%m-%d %H:%M:%S}" for at in table["started_at"].to_pylist()]
    keyed = table.set_column(3, "started_at", pa.array(day))
    pa.dataset.write_dataset(
        keyed, tmp_path / "in/interactions", format="parquet",
        partitioning=["started_at", "user_id"], partitioning_flavor="hive",
    )  # fmt: skip
    assert list(
        (tmp_path / "in/interactions").glob("started_at=2022-01-01*00*/user_id=1/*.parquet")
    )
    run(tmp_path / "in", tmp_path / "work")
    assert rows(LISTENS, tmp_path / "work") == rows(LISTENS, tmp_path / "expected")


def test_the_quarantine_names_the_part_and_the_row_in_it(tmp_path):
    data = save(tmp_path / "in")
    (data / "interactions.parquet").unlink()
    for i in (1, 2, 10):
        write(data / f"interactions/day={i}/p.csv", interactions())
    path = data / "interactions/day=10/p.csv"
    lines = path.read_text().splitlines()
    lines[2:4] = ["1,x,1,2022-01-01", "too,few", "1,99,3,2022-01-01"]
    path.write_text("\n".join(lines))
    run(data, tmp_path / "work", "--max-bad-share", "0.9")
    name = "interactions/day=10/p.csv"
    known = [row for row in rows(QUARANTINE, tmp_path / "work") if row[2] != SAME]
    assert [row[:3] for row in known] == [
        (name, 1, "track_id is a text other than the plain digits of a whole number, as 7"),
        (name, 2, "the line can't be read as a row"),
        (name, 3, "track_id is not in tracks.parquet"),
    ]
    assert known[1][3] == "too,few"
    assert [row[:2] for row in reasons(tmp_path / "work") if row[2] == SAME] == [
        *(("interactions/day=2/p.csv", row) for row in range(4)),
        (name, 0),
        (name, 4),
    ]
    with pytest.raises(JobError, match=r"as 7 \(first in row 1 of interactions/day=10/p.csv\)"):
        run(data, tmp_path / "work")


SAME = "the row equals an earlier one"


def test_parts_of_other_columns_are_refused_and_both_named(tmp_path):
    data = save(tmp_path / "in")
    (data / "interactions.parquet").unlink()
    write(data / "interactions/a.parquet", interactions())
    for lacks in ("track_seq", "user_id"):
        write(data / "interactions/b.csv", interactions().drop_columns([lacks]))
        (data / "interactions/b.csv").rename(data / "interactions/c.csv")
        write(data / "interactions/b.parquet", interactions().drop_columns([lacks]))
        (data / "interactions/c.csv").unlink()
        message = f"interactions/a.parquet has the column {lacks}, and interactions/b.parquet has n"
        with pytest.raises(JobError, match=message):
            run(data, tmp_path / "work")
    more = interactions().append_column("device", pa.array(["x"] * 4))
    write(data / "interactions/b.parquet", more)  # a column that nobody reads may come later
    run(data, tmp_path / "work", "--max-bad-share", "0.5")


def test_a_part_that_is_there_twice_is_named(tmp_path):
    data = save(tmp_path / "in")
    (data / "interactions.parquet").unlink()
    start = datetime(2022, 1, 1)
    listens = pa.table(
        {
            "user_id": range(2000),
            "track_id": [10, 20] * 1000,
            "started_at": [start + timedelta(days=i % 9) for i in range(2000)],
        }
    )
    for name, first in (("a", 0), ("b", 1000), ("c", 0)):
        write(data / f"interactions/{name}.parquet", listens.slice(first, 1000))
    message = "row 0 of interactions/c.parquet to row 999 of interactions/c.parquet are the same as"
    with pytest.raises(JobError, match=message):
        run(data, tmp_path / "work")


def test_a_column_may_have_another_type_in_each_part(tmp_path):
    data = save(tmp_path / "in")
    run(data, tmp_path / "expected")
    for name, table in (("tracks", tracks()), ("catalog_names", names())):
        (data / f"{name}.parquet").unlink()
        column = {"tracks": "track_id", "catalog_names": "id"}[name]
        as_text = pa.array([str(i) for i in table[column].to_pylist()]).dictionary_encode()
        other = table.set_column(0, column, as_text)
        if name == "tracks":
            lists = pa.array([["1"], ["1", "2"], []], pa.large_list(pa.string()))
            other = other.set_column(2, "artists", lists)
        write(data / f"{name}/1.parquet", table.slice(0, 1))
        write(data / f"{name}/2.parquet", other.slice(1))
    run(data, tmp_path / "work")
    assert made(tmp_path / "work") == made(tmp_path / "expected")


def test_a_warning_says_where_a_quote_may_hide_rows(tmp_path, capsys):
    data = save(tmp_path / "in")
    (data / "interactions.parquet").unlink()
    lines = as_csv(interactions()).decode().splitlines()
    lines[3] += ',"device'
    lines[0] += ",device"
    lines[1:3] = [f"{line},a" for line in lines[1:3]]
    lines[4] += ',b"'
    (data / "interactions.csv").write_text("\n".join(lines))
    run(data, tmp_path / "work")
    warning = capsys.readouterr().err
    assert re.search(r"interactions.csv has 1 lines more than rows: .* a quote is not clo", warning)


def test_an_unknown_track_is_compared_with_the_file_that_is_there(tmp_path):
    data = save(tmp_path / "in", interactions=interactions(track_id=[10, 99, 10, 20]))
    (data / "tracks.parquet").unlink()
    write(data / "tracks.csv", tracks())
    run(data, tmp_path, "--max-bad-share", "0.5")
    assert reasons(tmp_path) == [("interactions.parquet", 1, "track_id is not in tracks.csv")]
