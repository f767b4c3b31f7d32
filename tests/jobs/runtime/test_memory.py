"""jobs.memory: what there is, what a job needs, and what it says where that is more."""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.contract import tables
from jobs.contract.storage import JobError
from jobs.runtime import memory
from jobs.runtime.memory import MB, Need
from tests.support.workspace import make_lists, run, save_listens

GB = 1 << 30


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8G", 8 * GB), ("1.5g", 3 * GB // 2), ("800M", 800 * MB), ("2GiB", 2 * GB), ("512", 512)],
)
def test_a_size_is_read_as_people_write_it(text, expected):
    assert memory.size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "G", "-1G", "0", "8 Q", "nan", "0.5", "1e3", "0.0000000001G", "9" * 400]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"is not a size: expected one as 8G"):
        memory.size(text)


def test_events_count_as_listens_that_prepare_needs_memory_for(sample, tmp_path):
    listens, *rest = memory.sizes(tmp_path, sample)
    events = sample / "interactions.parquet"
    assert memory.sizes(tmp_path, sample, events) == (2 * listens, *rest)


@pytest.mark.parametrize("column", ["kind", "played_share", "played_ms"])
def test_prepare_counts_what_its_input_tells_of_listens_and_not_what_an_older_one_told(
    column, sample, tmp_path, monkeypatch, capsys
):
    def needed() -> str:
        run("prepare", tmp_path / "work", "--data", tmp_path, "--memory-limit", "8G")
        return capsys.readouterr().out

    (tmp_path / "work").mkdir()
    (tmp_path / "work" / tables.SHARES.file).touch()
    for name in ("tracks", "catalog_names", "interactions"):
        (tmp_path / f"{name}.parquet").symlink_to(sample / f"{name}.parquet")
    monkeypatch.setattr(memory, "sizes", lambda *_: (10**9, 0, 100))
    assert "since 29.0 GB of memory" in needed()
    played = pq.read_table(sample / "interactions.parquet")
    values = pa.array(["listen"] * len(played) if column == "kind" else [1.0] * len(played))
    (tmp_path / "interactions.parquet").unlink()
    pq.write_table(played.append_column(column, values), tmp_path / "interactions.parquet")
    assert "since 38.0 GB of memory" in needed()


def write(folder: Path, **content: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in content.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_the_tightest_control_group_counts_and_its_cached_files_are_free(tmp_path):
    own, root = tmp_path / "own", tmp_path / "v2"
    own.write_text("0::/service/job\n")
    write(root / "service", memory__max=GB, memory__current=600, memory__stat="inactive_file 100")
    write(root / "service/job", memory__max="max", memory__current=500, memory__stat="")
    assert list(memory._free_of_groups(root, own)) == [GB - 500]


def test_control_groups_of_the_first_version_count_too(tmp_path):
    own, root = tmp_path / "own", tmp_path / "v1"
    own.write_text("5:cpu,cpuacct:/x\n4:memory:/job\n")
    names = {"memory__limit_in_bytes": 4 * GB, "memory__usage_in_bytes": GB}
    write(root / "memory/job", **names, memory__stat="cache 7\ntotal_inactive_file 10")
    assert list(memory._free_of_groups(root, own)) == [3 * GB + 10]


def test_without_groups_the_machine_decides():
    assert list(memory._free_of_groups(Path("/nowhere"), Path("/nowhere"))) == []
    assert 0 < memory.available() < 1 << 50


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("job", memory.NEEDS)
def test_a_job_that_needs_more_than_it_may_take_says_how_much_and_leaves_all_as_it_was(
    job, finished, sample
):
    before = times(finished)
    data = ["--data", sample] if job == "prepare" else []
    expected = (
        r"^the job needs about \d\.\d GB of memory for 9,000 listens of (300|0) users and 400 "
        r"tracks, and 0\.1 GB is the --memory-limit: run it with more memory "
    )
    with pytest.raises(JobError, match=expected):
        run(job, finished, *data, "--memory-limit", "100M")
    assert times(finished) == before


def test_less_memory_means_fewer_threads_and_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    save_listens(tmp_path, [(u, u * t % 50, t) for u in range(1, 40) for t in range(1, 20)])
    make_lists(tmp_path)
    monkeypatch.setattr(memory, "available", lambda: 1000 * MB)
    monkeypatch.setitem(memory.NEEDS, "personal_als", Need(base=100, thread=300))
    seen = []
    for limit, threads in ((None, 3), (1500 * MB, 4), (700 * MB, 2), (400 * MB, 1)):
        options = argparse.Namespace(work=tmp_path, memory_limit=limit)
        assert memory.check("personal_als", options) == threads
        run("personal_als", tmp_path, *(["--memory-limit", limit] if limit else []))
        seen.append((tmp_path / tables.PERSONAL_ALS.file).read_bytes())
    assert len(set(seen)) == 1
