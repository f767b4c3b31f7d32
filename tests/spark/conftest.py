"""One session on a cluster of two workers of this machine, for all tests of the folder."""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from jobs.runtime.cluster import Session

HOW_TO_INSTALL = "apt-get install openjdk-17-jre-headless; pip install -r requirements-spark.txt"
ENGINE = "local-cluster[2,1,1024]"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, which `pytest` alone leaves out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session")
def installed() -> None:
    """Skip the tests without Spark, or fail where SPARK_TESTS is `required`."""
    java = shutil.which("java") or os.environ.get("JAVA_HOME")
    if java and find_spec("pyspark"):
        return
    message = f"tests with Spark need Java 17 and pyspark: {HOW_TO_INSTALL}"
    pytest.fail(message) if os.environ.get("SPARK_TESTS") == "required" else pytest.skip(message)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def session(installed: None, work: Path) -> Iterator[Session]:
    """A session that this process uses too, while it is open."""
    result = Session(ENGINE, work, ())
    yield result
    result.end()
