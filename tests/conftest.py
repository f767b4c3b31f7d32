"""What several test files share: a made sample, and one run of the whole line on it.

Where several processes run the tests, they share these folders: the first that needs one makes it.
"""

import fcntl
import functools
import inspect
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import settings

from jobs import sample_data
from tests.support.kernels import check_kernels
from tests.support.workspace import run_line

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.register_profile("quick", deadline=None, max_examples=8)


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples are tried, and check that the kernels are those asked for."""
    settings.load_profile("quick" if config.getoption("markexpr") == "quick" else "untimed")
    try:
        check_kernels()
    except RuntimeError as error:
        pytest.exit(str(error), returncode=4)


# A test that reaches one of these is not quick, nor are those of some files that compute or wait
# much, or import much.
SLOW_NAMES = {"subprocess", "launch", "litestar_run", "run_line", "spoilt_service"}
SLOW_FILES = {
    "test_getting_started.py", "test_tune.py", "test_states.py", "test_explore.py",
    "test_benchmark.py", "test_lists.py", "test_neighbours.py", "test_forgotten.py",
    "test_journal.py", "test_replay.py", "test_releases.py", "test_evaluate.py",
    "test_evaluation_page.py", "test_prepare.py", "test_prepare_types.py", "test_explanations.py",
    "test_windows.py", "test_compiled_loops.py",
}  # fmt: skip


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the slow files unread where only quick tests are asked for."""
    only_quick = config.getoption("markexpr") == "quick"
    return True if only_quick and collection_path.name in SLOW_FILES else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests, and put first what needs the finished folder, the slowest to make.

    A quick test starts no process and runs no whole line of jobs, nor do its fixtures.
    """
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        functions = [item.obj, *(each.func for defs in fixtures for each in defs)]
        slow = item.path.name in SLOW_FILES or any(map(is_slow, functions))
        if not slow:
            item.add_marker(pytest.mark.quick)
    items.sort(key=lambda item: "finished" not in getattr(item, "fixturenames", ()))


@functools.cache
def _names(code: CodeType) -> frozenset[str]:
    inner = [_names(const) for const in code.co_consts if isinstance(const, CodeType)]
    return frozenset(code.co_names).union(*inner)


def is_slow(function: object, seen: set[object] | None = None) -> bool:
    """Return whether a function of the tests uses one of SLOW_NAMES, or calls one that does."""
    seen = set() if seen is None else seen
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    function = inspect.unwrap(function) if callable(function) else function
    code = getattr(function, "__code__", None)
    if code is None or function in seen or not function.__module__.startswith("tests"):
        return False
    seen.add(function)
    names = _names(code)
    return bool(SLOW_NAMES & names) or any(
        is_slow(function.__globals__.get(name), seen) for name in names
    )


Shared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Return a function that makes a named folder once for all processes of this test run.

    Its second argument fills the folder; another process that needs the folder waits for that.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each worker has a folder of its own in it

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        path, finished = root / name, root / f"{name}.finished"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                shutil.rmtree(path, ignore_errors=True)  # of a process that failed
                path.mkdir()
                fill(path)
                finished.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def sample(shared: Shared) -> Path:
    """The three input files of a small synthetic sample."""
    sizes = ["--users", "300", "--tracks", "400", "--listens", "9000"]
    return shared("sample", lambda folder: sample_data.main(["--out", str(folder), *sizes]))


@pytest.fixture(scope="session")
def finished(shared: Shared, sample: Path) -> Path:
    """A folder in which every job has run on the sample; not to be changed."""
    return shared("finished", lambda folder: run_line(sample, folder))
