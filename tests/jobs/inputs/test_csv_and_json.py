"""jobs.inputs: CSV and JSON lines become batches, and no line is lost."""

import csv
import gzip
import io
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.contract.storage import JobError
from jobs.data import raw_columns, raw_files
from jobs.inputs import csv_files, files, lines, sizes
from jobs.inputs.files import INTERACTIONS, Reading
from jobs.inputs.lines import BAD_LINE

ALL = ["user_id", "track_id", "started_at", "track_seq"]
ROW = "1,2,2024-01-01\n"
HEADER = "user_id,track_id,started_at\n"


def save(folder: Path, content: str | bytes, name: str = "interactions.csv") -> files.Input:
    content = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(content)
    return files.at(folder / name, INTERACTIONS)


def rows(source: files.Input, bad_line: bool = False) -> list[tuple]:
    """The rows of an input, each with its bad line if it is asked for."""
    columns = [*raw_columns.check(source), *([BAD_LINE] if bad_line else [])]
    found = []
    for batch in raw_files.batches(source):
        values = batch.to_pydict()
        found += zip(*(values.get(c, [None] * len(batch)) for c in columns), strict=True)
    return found


value = st.none() | st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r\x01"), min_size=1, max_size=8
)


@settings(deadline=None, max_examples=60)
@example([(None, None, None)], "\t", "\n", "", csv.QUOTE_MINIMAL, 20)
@given(
    st.lists(st.tuples(value, value, value), min_size=1, max_size=30),
    st.sampled_from([",", ";", "\t", "|", "\x01"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.integers(20, 200),
)
def test_csv_gives_each_value_as_it_stands_there(
    tmp_path_factory, table, delimiter, end, mark, quoting, block
):
    folder = tmp_path_factory.mktemp("csv")
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("user_id", "track_id", "started_at"), *table])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", max(block, 100 + max(len(str(row)) * 8 for row in table)))
        source = save(folder, mark + written.getvalue())
        found = rows(source)
    assert found == table  # a row of nulls only is a line with nothing but delimiters


json_value = (
    st.none()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(json_value, json_value), min_size=1, max_size=30), st.integers(1, 60))
def test_json_lines_keep_text_as_text_and_numbers_as_numbers(tmp_path_factory, table, block):
    folder = tmp_path_factory.mktemp("json")
    usual = json.dumps({"user_id": "u", "track_id": "t", "started_at": "2024-01-01"})
    written = [json.dumps(dict(zip(ALL, row, strict=False)) | {"x": {"y": [1]}}) for row in table]
    source = save(folder, "\n".join([usual, *written]), "interactions.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        found = rows(source)[1:]
    for (user, track), (found_user, found_track, at) in zip(table, found, strict=True):
        assert at is None
        for expected, got in ((user, found_user), (track, found_track)):
            if isinstance(expected, str) or expected is None:
                assert got == expected
            else:
                assert float(got) == pytest.approx(expected, rel=1e-15)


def test_a_line_that_is_no_row_keeps_its_place_and_is_shown(tmp_path, monkeypatch):
    rows_of_file = [ROW, "3\n", "\n", ROW, '4,"x\ny",5,6\n', "5,6,\xff\n", ROW, "7"]
    content = (HEADER + "".join(rows_of_file)).encode("latin-1")
    good = ("1", "2", "2024-01-01", None)
    expected = [
        good, (None, None, None, "3"), good, (None, None, None, '4,"x\ny",5,6'),
        (None, None, None, "5,6,\\xff"), good, (None, None, None, "7"),
    ]  # fmt: skip
    for block in (40, lines.BLOCK):
        monkeypatch.setattr(lines, "BLOCK", block)
        assert rows(save(tmp_path, content), bad_line=True) == expected
    assert rows(save(tmp_path, HEADER + "1\n2\n"), bad_line=True) == [
        (None, None, None, "1"),
        (None, None, None, "2"),
    ]


def test_a_line_that_is_no_json_object_of_plain_values_keeps_its_place_and_is_shown(tmp_path):
    good = '{"user_id": 1, "track_id": 2, "started_at": "2024-01-01"}'
    bad = [
        '{"user_id": 1,', "[1, 2]", '{"user_id": true}', '{"user_id": {"id": 1}}', "NaN",
        '{"user_id": "\\ud800"}', "x" * 2000,
    ]  # fmt: skip
    content = "\n".join([good, *bad, "", good, '{"user_id": "\xe9"}']).encode("latin-1")
    found = rows(save(tmp_path, content, "interactions.json"), bad_line=True)
    row = (1, 2, "2024-01-01", None)
    shown = [line[:1000] for line in bad]
    assert found == [row, *((None, None, None, s) for s in shown), row,
                     (None, None, None, '{"user_id": "\\xe9"}')]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "names"),
    [
        ("user_id,track_id,started_at", ["user_id", "track_id", "started_at"]),
        ("\ufeffuser_id;track;x", ["user_id", "track", "x"]),
        ('"user_id"\t"a,b,c"\t"d;e"', ["user_id", "a,b,c", "d;e"]),
        ("uid,item,ts", ["uid", "item", "ts"]),
        ("1,10,2024-01-01", ["1", "2", "3"]),
        ("u1|t5|2024-01-01T10:00:00Z", ["1", "2", "3"]),
        ("u1;;a", ["1", "2", "3"]),
        ("user_id, track_id , x", ["user_id", "track_id", "x"]),
    ],
)
def test_the_delimiter_and_the_header_are_found_out_from_the_first_rows(tmp_path, first, names):
    part = save(tmp_path, first + "\nx,y;z\n").parts[0]
    assert list(csv_files.layout(part, Reading(), ALL).names) == names


def test_without_a_header_columns_are_named_by_their_places(tmp_path):
    called = {"user_id": "2", "track_id": "3", "started_at": "1"}
    source = save(tmp_path, "when,who,what\n2024-01-01,u,t\n")
    source = files.at(source.path, INTERACTIONS, Reading(called, header=False))
    assert raw_columns.check(source) == ["started_at", "user_id", "track_id"]
    assert rows(source) == [("when", "who", "what"), ("2024-01-01", "u", "t")]


def test_lines_may_end_as_on_old_machines(tmp_path):
    content = (HEADER + ROW * 3).replace("\n", "\r")
    assert rows(save(tmp_path, content)) == [("1", "2", "2024-01-01")] * 3


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_a_packed_file_is_read_whatever_its_number_of_streams(tmp_path, packed):
    halves = [(HEADER + ROW * 5).encode(), (ROW * 7).encode()]
    streams = b"".join(pa.compress(half, packed, asbytes=True) for half in halves)
    if packed == "gzip":
        streams = b"".join(map(gzip.compress, halves))
    name = {"gzip": "interactions.csv.gz", "zstd": "interactions.csv.zst"}[packed]
    assert len(rows(save(tmp_path, streams, name))) == 12
    with pytest.raises(JobError, match="can't be read as CSV"):
        rows(save(tmp_path, streams[:-4], name))


def test_a_file_that_unpacks_to_far_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "FREE_BYTES", 1 << 20)
    source = save(tmp_path, gzip.compress((HEADER + ROW * 300_000).encode()), "interactions.csv.gz")
    with pytest.raises(JobError, match=r"unpacks to more than .* unpack it yourself"):
        rows(source)


def test_a_line_of_any_length_takes_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 1000)
    for name in ("interactions.csv", "interactions.json"):
        start = HEADER if name.endswith("csv") else '{"user_id": 1, "track_id": 2, "started_at":""}'
        source = save(tmp_path, start + "\n" + ROW * 9000 + "x" * 3000 + "\n", name)
        with pytest.raises(JobError, match=r"line 9,00\d is longer than 1,000 bytes: is it"):
            rows(source)


def test_a_quote_that_is_not_closed_is_noted(tmp_path):
    source = save(tmp_path, HEADER + ROW * 3 + '1,2,"2024\n' + ROW * 5)
    assert len(rows(source)) < 9
    assert "5 lines more than rows" in source.notes["interactions.csv"]
    source = save(tmp_path, HEADER.replace(",", '","').replace("u", '"u', 1).replace("at", 'at"'))
    assert rows(source) == []
    assert source.notes == {}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("interactions.csv", (HEADER + ROW).encode("utf-16"), "is in UTF-16: save it as UTF-8"),
        ("interactions.csv", b"PK\x03\x04\0\0\0\0", "has bytes that are no text: is it CSV?"),
        ("interactions.csv", b"", "is empty (0 bytes)"),
        ("interactions.csv.gz", b"user_id", "can't be read as CSV ("),
        ("interactions.jsonl", b'[{"user_id": 1}]', "begins with one JSON array: write one JSON"),
        ("interactions.jsonl", b"user_id,track_id", "begins with no JSON object: write one JSON"),
        ("interactions.csv", b"user_id,track_id\n1,2", "has no column started_at: found user_id"),
        (
            "interactions.csv",
            b"user_id,started_at,track_id,track_id\n",
            "has 2 columns track_id: keep one",
        ),
        (
            "interactions.csv",
            b"1,2,3",
            "has no column user_id, track_id, started_at: found 1, 2, 3; if it has another name, "
            "pass it, as in --columns interactions.user_id=NAME",
        ),
        (
            "interactions.jsonl",
            b'{"user_id": true, "track_id": 1, "started_at": "x"}',
            "user_id is bool, expected whole numbers",
        ),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content, words):
    with pytest.raises(JobError, match=re.escape(words)):
        rows(save(tmp_path, content, name))


def test_a_column_of_tracks_with_names_that_is_called_otherwise_is_named(tmp_path):
    save(tmp_path, "track,name\n1,Zombie\n", "tracks.csv")
    tracks = files.at(tmp_path / "tracks.csv", raw_columns.NAMED_TRACKS)
    with pytest.raises(JobError, match=r"pass --columns tracks\.track_id=track$"):
        raw_columns.check(tracks)


@pytest.mark.parametrize("name", ["interactions.csv", "interactions.csv.gz", "interactions.json"])
def test_the_number_of_rows_is_estimated_by_the_first_lines(tmp_path, name):
    line = ROW if "csv" in name else '{"user_id": 1, "track_id": 2, "started_at": "2024-01-01"}\n'
    content = (HEADER * ("csv" in name) + line * 50_000).encode()
    source = save(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name)
    assert 0.9 < sizes.rows(source) / 50_000 < 1.1


def test_values_of_a_list_may_be_written_as_text(tmp_path):
    (tmp_path / "tracks.csv").write_text(
        'track_id,artists,genres\n1,"[1, 2]",5|6\n2,"7, 8",\n3,,[5 6]'
    )
    found = raw_files.table(files.required(tmp_path, files.TRACKS))
    assert found["artists"].to_pylist() == [["1", "2"], ["7", "8"], None]
    assert found["genres"].to_pylist() == [["5", "6"], None, ["5", "6"]]
