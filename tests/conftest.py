"""What several test files share: a made sample, and one run of the whole line on it."""

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


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three input files of a small synthetic sample."""
    folder = tmp_path_factory.mktemp("sample")
    sizes = ["--users", "300", "--tracks", "400", "--listens", "9000"]
    sample_data.main(["--out", str(folder), *sizes])
    return folder


@pytest.fixture(scope="session")
def finished(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every job has run on the sample; not to be changed."""
    work = tmp_path_factory.mktemp("finished")
    run_line(sample, work)
    return work
