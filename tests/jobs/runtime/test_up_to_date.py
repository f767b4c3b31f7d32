"""jobs.run: a job runs again when, and only when, something that it depends on is another."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.contract import tables
from jobs.contract.names import WINDOWS
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.run import parse
from jobs.runtime import up_to_date
from jobs.runtime.up_to_date import Task
from tests.support.workspace import AFTER_LISTS, LISTS, copied, run, save_listens

ROOT = Path(__file__).parents[3]
LINE = (  # each job with the folder that it works in, as in run_all.sh
    *((job, ".") for job in ("prepare", "explore", "windows", "tune")),
    *((job, f"windows/{window}") for window in WINDOWS for job in LISTS),
    *((job, ".") for job in (*LISTS, *AFTER_LISTS)),
)

BY_SETTINGS = {*LISTS} - {"item_weights"}  # which has no setting


def task(job: str, work: Path, data: Path, options: Sequence[str] = ()) -> Task:
    return Task(job, work, data, tuple(options), ())


def matching(work: Path, task: Task, patterns: list[Path]) -> list[Path]:
    return [work / name for name in task.state(patterns)]


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


def go_on(work: Path, data: Path, options: dict[str, list[str]] | None = None) -> set[str]:
    """Go through the line as if every job that has to run made other files; those jobs' names."""
    ran = set()
    for job, place in LINE:
        this = task(job, work / place, data, (options or {}).get(job, []))
        if this.what_changed() is None:
            continue
        ran.add(job)
        state = {"options": this.options, "code": up_to_date.code_hash(job)}
        state["read"] = this.state(this.reads())
        for path in matching(work / place, this, this.makes()):
            renew(path)
        up_to_date.write(this.record, state | {"made": this.state(this.makes())})
    return ran


def renew(path: Path) -> None:
    """Put a new file in the place of an old one."""
    copy = path.with_name(".copy")
    shutil.copy(path, copy)
    copy.replace(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, set()),
        ("quarantine.parquet", {job for job, _ in LINE}),
        ("report/explore.html", {"explore"}),
        ("settings.json", {"tune", *BY_SETTINGS, *AFTER_LISTS}),
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
        ({"tune": ["--tune", "full"]}, {"tune", *BY_SETTINGS, *AFTER_LISTS}),
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


@pytest.fixture
def copy_of_code(tmp_path, monkeypatch) -> Iterator[Path]:
    """A copy of the code that may be changed, of which the hashes are."""
    for package in ("jobs", "api"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    monkeypatch.setattr(up_to_date, "ROOT", tmp_path)
    forget_hashes()
    yield tmp_path
    forget_hashes()


def forget_hashes() -> None:
    up_to_date.code_hash.cache_clear()
    up_to_date.imported.cache_clear()


def hashes() -> dict[str, str]:
    forget_hashes()
    return {job: up_to_date.code_hash(job) for job in up_to_date.FILES}


REACHED = """
import importlib, json, multiprocessing, sys

import catboost, numba, pandas, pyarrow.dataset, scipy.sparse  # once, before the forks

# By module, the compiled loops that its functions import where the data is large.
compiled = {
    "jobs.contract.top_k": "jobs.contract.top_k_kernels",
    "jobs.models.als_model": "jobs.models.als_kernels",
    "jobs.models.sparse": "jobs.models.kernels",
}

def files_of(modules):
    for module in modules:
        importlib.import_module(module)
    for module, loops in compiled.items():
        if module in sys.modules:
            importlib.import_module(loops)
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return [file for file in files if file]

with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    print(json.dumps(pool.map(files_of, json.loads(sys.argv[1]), chunksize=1)))
"""
# What a function of a script imports, in the line of jobs.
IMPORTED_LATER = {"publish": ["jobs.releases.build", "jobs.reporting.release_page"]}


def reached() -> dict[str, set[str]]:
    """For each job the project's files that Python itself reads, each in a new process."""
    modules = [[f"jobs.{job}", *IMPORTED_LATER.get(job, [])] for job in up_to_date.FILES]
    done = subprocess.run(
        [sys.executable, "-c", REACHED, json.dumps(modules)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    jobs = ROOT / "jobs"
    return {
        job: {
            str(Path(file).relative_to(ROOT)) for file in files if Path(file).is_relative_to(jobs)
        }
        for job, files in zip(up_to_date.FILES, json.loads(done.stdout), strict=True)
    }


def test_a_change_of_any_module_is_one_of_just_the_jobs_that_reach_it(copy_of_code):
    by_python = reached()
    last = hashes()
    for path in sorted((copy_of_code / "jobs").rglob("*.py")):
        with path.open("a") as file:
            file.write("\n# another word\n")
        up_to_date.code_hash.cache_clear()  # what the file imports is as before
        now = {job: up_to_date.code_hash(job) for job in up_to_date.FILES}
        module = str(path.relative_to(copy_of_code))
        changed = {job for job in now if now[job] != last[job]}
        assert changed == {job for job in now if module in by_python[job]}, module
        last = now


def test_a_change_of_a_template_is_one_of_the_jobs_that_write_pages(copy_of_code):
    before = hashes()
    with (copy_of_code / "jobs/reporting/page.html").open("a") as file:
        file.write("<!-- another word -->")
    after = hashes()
    changed = {job for job in before if before[job] != after[job]}
    assert changed == {"explore", "evaluate", "replay", "publish"}


def test_other_requirements_are_a_change_of_every_job_and_the_service_is_of_none(copy_of_code):
    before = hashes()
    with (copy_of_code / "api/http/routes.py").open("a") as file:
        file.write("\n# another word\n")
    assert hashes() == before
    with (copy_of_code / "requirements.txt").open("a") as file:
        file.write("\n# another word\n")
    after = hashes()
    assert not any(before[job] == after[job] for job in before)


def process(
    work: Path, program: str = "from jobs import run as once"
) -> subprocess.CompletedProcess:
    """next_played as run_all.sh runs it, in a process that does something else before."""
    program = f"import sys; sys.argv[1:] = 'next_played', '--work', {str(work)!r}; {program}"
    return subprocess.run(
        [sys.executable, "-c", f"{program}; once.main(sys.argv[1:])"],
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
    assert task("next_played", work, work).what_changed() is None


def test_a_job_that_fails_leaves_no_record_and_says_why(tmp_path):
    save_listens(tmp_path, PLAYS)
    assert process(tmp_path).stdout.startswith("next_played: ")
    (tmp_path / "items.parquet").write_bytes(b"PAR1")
    failed = process(tmp_path)
    assert failed.returncode == 1
    assert (
        failed.stdout == "next_played: runs again, because items.parquet is new, gone or changed\n"
    )
    assert "is not a whole parquet file" in failed.stderr
    assert not (tmp_path / up_to_date.DONE / "next_played.json").exists()


def test_a_file_whose_bytes_stay_the_same_stays_the_same_file(tmp_path):
    save_listens(tmp_path, PLAYS)
    hyperparameters.save(tmp_path, Hyperparameters())
    made, settings = [tmp_path / "*.parquet", tmp_path / "*.json"], [tmp_path / "settings.json"]
    state = task("tune", tmp_path, tmp_path).state
    before, before_settings = state(made), state(settings)
    save_listens(tmp_path, PLAYS)
    hyperparameters.save(tmp_path, Hyperparameters())
    assert state(made) == before
    hyperparameters.save(tmp_path, Hyperparameters(next_window=2))
    assert state(settings) != before_settings


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
        prepare = parse(["prepare", "--work", "work", given, *rest])
        before = prepare.state(prepare.reads())
        assert {Path(name).name for name in before} >= {"interactions.parquet"}
        renew(data / ("interactions.parquet" if "data" in spelt else "events.parquet"))
        assert prepare.state(prepare.reads()) != before


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
    similar = task("similar", tmp_path, tmp_path)
    similar.record.parent.mkdir()
    similar.record.write_text("[]")
    assert similar.what_changed() == ""


def test_prepare_runs_again_where_a_part_of_its_input_is_new_gone_or_changed(tmp_path):
    data, part = tmp_path / "in", pa.table({"user_id": [1], "track_id": [2]})
    parts = data / "interactions/day=1"
    parts.mkdir(parents=True)
    for name in ("tracks.csv", "catalog_names.json", "interactions/day=1/part-0.parquet"):
        pq.write_table(part, data / name)
    task = Task("prepare", tmp_path / "work", data, (), ())

    def changed(do: Callable[[], object]) -> bool:
        before = task.state(task.reads())
        do()
        return task.state(task.reads()) != before

    assert not changed(lambda: None)
    assert changed(lambda: pq.write_table(part, parts / "part-1.parquet"))
    assert changed(lambda: (parts / "part-0.parquet").unlink())
    assert changed(lambda: os.utime(parts / "part-1.parquet", (1, 1)))
    assert changed(lambda: (data / "tracks.csv").unlink())
    assert changed(lambda: (data / "interactions").rename(data / "interactions.parquet"))
    assert not changed(lambda: (data / "other.txt").touch())
    assert len(task.state(task.reads())) == 2
