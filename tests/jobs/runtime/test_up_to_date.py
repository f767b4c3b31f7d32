"""jobs.run: a job runs again when, and only when, something that it depends on is another."""

import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.contract import tables
from jobs.contract.names import WINDOWS
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.run import arguments
from jobs.runtime import up_to_date
from tests.support.workspace import copied, run, save_listens

ROOT = Path(__file__).parents[3]


LISTS = ("top_popular", "train_als", "personal_als", "similar", "next_played")


LINE = (  # each job with the folder that it works in, as in run_all.sh
    *((job, ".") for job in ("prepare", "explore", "windows", "tune")),
    *((job, f"windows/{window}") for window in WINDOWS for job in LISTS),
    *((job, ".") for job in (*LISTS, "rank", "evaluate", "replay", "publish")),
)


def content(folder: Path) -> dict[Path, bytes]:
    """The bytes of every file below a folder, each once however many links it has."""
    return {path.resolve(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def matching(work: Path, data: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [work / name for name in up_to_date.found(work, data, patterns)]


@pytest.mark.parametrize("job", [name for name in up_to_date.FILES if name != "sample_data"])
def test_a_job_needs_no_file_and_makes_no_file_but_those_that_are_named(
    job, finished, sample, tmp_path
):
    reads, makes = up_to_date.FILES[job]
    for path in matching(finished, sample, reads):
        if path.is_relative_to(finished):
            copy = tmp_path / path.relative_to(finished)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    before = content(tmp_path)
    run(job, tmp_path, *(["--data", sample] if job == "prepare" else []))
    after = content(tmp_path)
    made = {path.resolve() for path in matching(tmp_path, sample, makes)}
    assert made
    assert after.keys() - before.keys() == made
    assert {path for path in before if before[path] != after[path]} == set()
    for path in made:
        same = finished / path.relative_to(tmp_path)
        assert path.suffix == ".html" or not same.exists() or same.read_bytes() == after[path]


def test_run_all_runs_the_jobs_whose_files_are_named():
    text = (ROOT / "run_all.sh").read_text()
    assert [name for name in up_to_date.FILES if f"{name} " not in text and name not in LISTS] == []
    assert f"for name in {' '.join(LISTS)}; do" in text


@pytest.fixture(scope="module")
def line(finished, sample, tmp_path_factory):
    """A finished folder to change, with the records that a run leaves."""
    work = tmp_path_factory.mktemp("line") / "work"
    shutil.copytree(finished, work, symlinks=True)
    (work / "report" / "explore.html").touch()
    go_on(work, sample)
    return work


code_hash = functools.cache(up_to_date.code_hash)  # no code changes while this module runs


def go_on(work: Path, data: Path, options: dict[str, list[str]] | None = None) -> set[str]:
    """Go through the line as if every job that has to run made other files; those jobs' names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(up_to_date, "code_hash", code_hash)
        return _go_on(work, data, options or {})


def _go_on(work: Path, data: Path, options: dict[str, list[str]]) -> set[str]:
    ran = set()
    for job, place in LINE:
        folder, record = work / place, work / place / up_to_date.DONE / f"{job}.json"
        given = options.get(job, [])
        if up_to_date.what_changed(record, job, folder, data, given) is None:
            continue
        ran.add(job)
        reads, makes = up_to_date.FILES[job]
        state = {"options": given, "code": code_hash(job)}
        state["read"] = up_to_date.found(folder, data, reads)
        for path in matching(folder, data, makes):
            renew(path)
        up_to_date.write(record, state | {"made": up_to_date.found(folder, data, makes)})
    return ran


def renew(path: Path) -> None:
    """Put a new file in the place of an old one."""
    copy = path.with_name(".copy")
    shutil.copy(path, copy)
    copy.replace(path)


AFTER_LISTS = {"rank", "evaluate", "replay", "publish"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, set()),
        ("quarantine.parquet", {job for job, _ in LINE}),
        ("report/explore.html", {"explore"}),
        ("settings.json", {"tune", *LISTS, *AFTER_LISTS}),
        (
            "windows/validation/als_model.npz",
            {"train_als", "personal_als", "similar", *AFTER_LISTS},
        ),
        ("windows/train/similar.parquet", {"similar", "rank", "evaluate", "replay", "publish"}),
        ("next_played.parquet", {"next_played", *AFTER_LISTS}),
        ("metrics.json", {"evaluate", "publish"}),
        ("replay.json", {"replay", "publish"}),
        ("current/manifest.json", {"publish"}),
        ({"evaluate": ["--peers"]}, {"evaluate", "publish"}),
        ({"tune": ["--tune", "full"]}, {"tune", *LISTS, *AFTER_LISTS}),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_what_depends_on_a_change_runs_again_and_nothing_else(change, expected, line, sample):
    if isinstance(change, str):
        renew(line / change)
    options = change if isinstance(change, dict) else {}
    assert go_on(line, sample, options) == expected
    assert go_on(line, sample, options) == set()
    go_on(line, sample)


@pytest.mark.parametrize("job", ["rank", "similar"])
def test_a_job_depends_on_the_code_that_it_imports_and_on_no_other(job, tmp_path, monkeypatch):
    monkeypatch.setattr(up_to_date, "ROOT", tmp_path)
    for package in ("jobs", "api"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    hashes = {up_to_date.code_hash(job)}
    for path, matters in (
        ("jobs/replay.py", False),
        ("api/http/routes.py", False),
        ("jobs/contract/tables.py", True),
        ("jobs/ranking/candidates.py", job == "rank"),
        ("requirements.txt", True),
    ):
        with (tmp_path / path).open("a") as file:
            file.write("\n# a word more\n")
        found = up_to_date.code_hash(job)
        assert (found not in hashes) == matters
        hashes.add(found)


def process(
    work: Path, program: str = "from jobs import run as once"
) -> subprocess.CompletedProcess:
    """next_played as run_all.sh runs it, in a process that does something else before."""
    program = f"import sys; sys.argv[1:] = 'next_played', '--work', {str(work)!r}; {program}"
    return subprocess.run(
        [sys.executable, "-c", f"{program}; once.main()"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def killing(function: str, call: int) -> str:
    """A program that kills its process as the function is called for that time."""
    return (
        "import os; from jobs import run as once; import pyarrow.parquet; calls = []; "
        f"real = {function}; {function} = lambda *a, **k: real(*a, **k) if "
        f"calls.append(1) or len(calls) != {call} else os.kill(os.getpid(), 9)"
    )


PLAYS = [(user, (user * 7 + day) % 9, float(day)) for user in range(6) for day in range(12)]


@pytest.fixture(scope="module")
def ran_before(tmp_path_factory):
    """A folder in which next_played has run, by jobs.run; not to be changed."""
    work = save_listens(tmp_path_factory.mktemp("ran") / "work", PLAYS)
    assert process(work).returncode == 0
    assert process(work).stdout == "next_played: nothing has changed since it ran\n"
    return work


@pytest.mark.parametrize(
    "killed",
    [
        killing("pyarrow.parquet.ParquetWriter.write_table", 1),
        killing("os.replace", 1),  # of the first file
        killing("os.replace", 2),  # of the second file
        killing("os.replace", 3),  # of the record
    ],
    ids=["writing", "before the first file", "between the files", "before the record"],
)
def test_after_a_kill_at_any_moment_the_job_runs_again_and_its_files_are_right(
    killed, ran_before, tmp_path
):
    work, expected = tmp_path / "work", tmp_path / "expected"
    shutil.copytree(ran_before, work, copy_function=os.link)  # a record names inodes
    save_listens(expected, PLAYS)
    for folder in (work, expected):
        hyperparameters.save(folder, Hyperparameters(next_window=2, next_decay=0.5))
    run("next_played", expected)
    assert process(work, killed).returncode == -signal.SIGKILL
    assert "nothing has changed" not in process(work).stdout
    for table in (tables.NEXT_PLAYED, tables.FOLLOWERS):
        assert (work / table.file).read_bytes() == (expected / table.file).read_bytes()
    record = work / up_to_date.DONE / "next_played.json"
    assert up_to_date.what_changed(record, "next_played", work, work, []) is None


def test_a_job_that_fails_leaves_no_record_and_says_why(tmp_path):
    save_listens(tmp_path, PLAYS)
    assert process(tmp_path).stdout.startswith("next_played: ")
    (tmp_path / "items.parquet").write_bytes(b"PAR1")
    failed = process(tmp_path)
    assert failed.returncode == 1
    assert failed.stdout == "next_played: runs again, for items.parquet is another, new or gone\n"
    assert "is not a whole parquet file" in failed.stderr
    assert not (tmp_path / up_to_date.DONE / "next_played.json").exists()


def test_a_file_whose_bytes_stay_the_same_stays_the_same_file(tmp_path):
    save_listens(tmp_path, PLAYS)
    hyperparameters.save(tmp_path, Hyperparameters())
    before = up_to_date.found(tmp_path, tmp_path, ("*.parquet", "*.json"))
    save_listens(tmp_path, PLAYS)
    hyperparameters.save(tmp_path, Hyperparameters())
    assert up_to_date.found(tmp_path, tmp_path, ("*.parquet", "*.json")) == before
    hyperparameters.save(tmp_path, Hyperparameters(next_window=2))
    assert up_to_date.found(tmp_path, tmp_path, ("settings.json",)) != before


def test_prepare_runs_again_where_the_events_that_it_is_given_are_others(sample, tmp_path):
    work, events = tmp_path / "work", tmp_path / "events.parquet"
    shutil.copy(sample / "interactions.parquet", events)
    command = ["prepare", "--work", str(work), "--data", str(sample), "--events", str(events)]

    def ran() -> bool:
        done = subprocess.run(
            [sys.executable, "-m", "jobs.run", *command], cwd=up_to_date.ROOT, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return "nothing has changed" not in done.stdout

    assert [ran(), ran()] == [True, False]
    renew(events)
    assert [ran(), ran()] == [True, False]


@pytest.mark.parametrize("spelt", ["--data={}", "--events={}"])
def test_however_a_path_is_spelt_another_file_there_is_another_input(spelt, sample, tmp_path):
    data = tmp_path / "in"
    shutil.copytree(sample, data)
    shutil.copy(data / "interactions.parquet", data / "events.parquet")
    given = spelt.format("in" if "data" in spelt else "in/events.parquet")
    rest = [] if "data" in spelt else ["--data", "in"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        job, folder, found, options = arguments(["prepare", "--work", "work", given, *rest])
        reads = up_to_date.FILES[job][0] + up_to_date.named(options)
        before = up_to_date.found(folder, found, reads)
        assert {Path(name).name for name in before} >= {"interactions.parquet"}
        renew(data / ("interactions.parquet" if "data" in spelt else "events.parquet"))
        assert up_to_date.found(folder, found, reads) != before


def test_a_rollback_is_not_undone_by_a_run_in_which_nothing_changed(finished, tmp_path):
    work = copied(finished, tmp_path / "work")

    def publish() -> str:
        return subprocess.run(
            [sys.executable, "-m", "jobs.run", "publish", "--work", str(work)],
            cwd=up_to_date.ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    publish()
    renew(work / "metrics.json")
    publish()
    run("publish", work, "--rollback")
    before = (work / "current").readlink()
    assert publish() == "publish: nothing has changed since it ran\n"
    assert (work / "current").readlink() == before


def test_a_record_that_is_no_record_is_as_good_as_none(tmp_path):
    (tmp_path / "record.json").write_text("[]")
    changed = up_to_date.what_changed(tmp_path / "record.json", "similar", tmp_path, tmp_path, [])
    assert changed == ""
