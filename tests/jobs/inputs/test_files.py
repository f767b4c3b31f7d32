"""jobs.inputs.files: which files make up an input, in which order, and what is refused."""

import re
from pathlib import Path

import pytest

from jobs.contract.storage import JobError
from jobs.inputs import files
from jobs.inputs.files import CSV, INTERACTIONS, JSON, PARQUET


def make(folder: Path, *names: str) -> Path:
    """Empty files with these names in a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path) -> list[str]:
    return [part.name for part in files.required(folder, INTERACTIONS).parts]


@pytest.mark.parametrize(
    ("name", "form", "packed"),
    [
        ("interactions.parquet", PARQUET, None),
        ("interactions.csv", CSV, None),
        ("interactions.tsv.gz", CSV, "gzip"),
        ("interactions.csv.zst", CSV, "zstd"),
        ("interactions.jsonl", JSON, None),
        ("interactions.ndjson.gz", JSON, "gzip"),
        ("interactions.json.zst", JSON, "zstd"),
    ],
)
def test_the_form_of_a_file_is_that_of_its_name(tmp_path, name, form, packed):
    part = files.required(make(tmp_path, name, "interactions.txt", "x.csv"), INTERACTIONS).parts[0]
    assert (part.name, part.form, part.packed) == (name, form, packed)


@pytest.mark.parametrize("folder", ["interactions", "interactions.parquet"])
def test_parts_come_in_the_natural_order_of_names_without_what_is_no_part(tmp_path, folder):
    parts = ["part-2.parquet", "part-10.parquet", "part-100.snappy.parquet"]
    others = ["_SUCCESS", "._SUCCESS.crc", ".part-2.parquet.crc", "_temporary/0/part-9.parquet",
              ".hidden/part-1.parquet", "_metadata", "part-2.parquet.crc"]  # fmt: skip
    make(tmp_path / folder, *parts[::-1], *others)
    assert found(tmp_path) == [f"{folder}/{part}" for part in parts]


def test_the_keys_of_hives_folders_are_columns(tmp_path):
    make(tmp_path / "interactions/day=2024-01-02/hour=9", "data_0.parquet")
    make(tmp_path / "interactions/day=2024-01-02/hour=10", "data_0.parquet")
    make(tmp_path / "interactions/_day=a%3Ab%20c/hour=__HIVE_DEFAULT_PARTITION__", "0.parquet")
    parts = files.required(tmp_path, INTERACTIONS).parts
    assert [part.keys for part in parts] == [
        (("_day", "a:b c"), ("hour", None)),
        (("day", "2024-01-02"), ("hour", "9")),
        (("day", "2024-01-02"), ("hour", "10")),
    ]


def test_a_part_without_an_ending_is_known_by_its_first_bytes_or_its_folder(tmp_path):
    (make(tmp_path / "interactions", "000000_0") / "000000_0").write_bytes(b"PAR1...")
    assert files.required(tmp_path, INTERACTIONS).parts[0].form == PARQUET
    make(tmp_path / "tracks.csv", "000000_0")
    assert files.required(tmp_path, files.TRACKS).parts[0].form == CSV


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["interactions.csv", "interactions.parquet"], "has interactions.csv and interactions.par"),
        (["interactions/a.csv", "interactions.csv.gz"], "has interactions and interactions.csv.gz"),
        (["interactions/_SUCCESS"], "has no parts: add files that end in .parquet"),
        (["interactions/a.csv", "interactions/b.parquet"], "a.csv (CSV) and interactions/b.parq"),
        (["interactions/a.csv", "interactions/README.md"], "README.md is none of the files that"),
        (["interactions-2024-01.parquet"], "its folder has interactions-2024-01.parquet"),
    ],
)
def test_what_cannot_be_one_input_is_refused_by_name(tmp_path, names, words):
    with pytest.raises(JobError, match=re.escape(words)):
        found(make(tmp_path, *names))


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path):
    make(tmp_path / "elsewhere", "part-1.parquet", "more/part-2.parquet")
    folder = make(tmp_path / "in/interactions", "part-0.parquet")
    for target in ("elsewhere/part-1.parquet", "elsewhere/more", "nowhere"):
        link = folder / "part-1.parquet"
        link.symlink_to(tmp_path / target)
        with pytest.raises(JobError, match=r"part-1.parquet is a link to .*put the file itself"):
            found(tmp_path / "in")
        link.unlink()


def test_no_file_is_read_twice_by_way_of_a_link(tmp_path):
    folder = make(tmp_path / "interactions", "day=1/part-0.parquet", ".data/part-1.parquet")
    (folder / "part-1.parquet").symlink_to(folder / ".data/part-1.parquet")
    assert found(tmp_path) == ["interactions/day=1/part-0.parquet", "interactions/part-1.parquet"]
    for name, target in (("again.parquet", "day=1/part-0.parquet"), ("day=2", "day=1"), ("x", ".")):
        (folder / name).symlink_to(folder / target)
        with pytest.raises(JobError, match=f"{name}.*(by a link|is a link)"):
            found(tmp_path)
        (folder / name).unlink()


def test_an_input_itself_may_be_a_link(tmp_path):
    make(tmp_path / "lake/v7", "part-0.parquet")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/interactions").symlink_to(tmp_path / "lake/v7")
    assert found(tmp_path / "in") == ["interactions/part-0.parquet"]
