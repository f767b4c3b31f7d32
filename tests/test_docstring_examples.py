"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for package in ("jobs", "api", "loadtest")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name: str) -> None:
    assert MODULES
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed
