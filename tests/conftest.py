"""What several test files share: a made sample, and one run of the whole line on it.

Where several processes run the tests, they share these folders: the first that needs one makes it.
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from jobs import sample_data
from tests.support.kernels import check_kernels
from tests.support.workspace import run_line

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


def pytest_configure() -> None:
    """End the run where it would not use the kernels that its environment asks for."""
    try:
        check_kernels()
    except RuntimeError as error:
        pytest.exit(str(error), returncode=4)


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
