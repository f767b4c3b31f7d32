"""A Valkey for each test, on this machine, and services that share it."""

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from loadtest.support import valkey as servers
from loadtest.support.valkey import HOW_TO_INSTALL, Valkey


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, which `pytest` alone leaves out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.valkey)


@pytest.fixture(scope="session")
def installed() -> None:
    """Skip the tests without a server, or fail where VALKEY_TESTS is `required`."""
    if servers.binary() and find_spec("hiredis"):
        return
    message = f"tests with Valkey need valkey-server and hiredis: {HOW_TO_INSTALL}"
    pytest.fail(message) if os.environ.get("VALKEY_TESTS") == "required" else pytest.skip(message)


@pytest.fixture
def start(installed: None, tmp_path: Path) -> Iterator[Callable[..., Valkey]]:
    """Return a function that starts a server with lines of its configuration, and a folder."""
    started = []

    def start_one(folder: str = "valkey", **options: str) -> Valkey:
        started.append(servers.start(tmp_path / folder, **options))
        return started[-1]

    yield start_one
    for server in started:
        server.stop()


@pytest.fixture
def valkey(start: Callable[..., Valkey]) -> Valkey:
    """A server that is set up as it has to be."""
    return start()
