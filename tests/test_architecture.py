"""What may import what, and that importing does nothing."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("jobs", "api", "loadtest")
STARTED_BY_NAME = {"jobs": "jobs.", "loadtest": "loadtest."}  # packages whose top level has scripts


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("**/*.py"))


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room(name: str) -> str:
    """The folder that a module stands in, as "jobs.models"; "jobs" of a script."""
    return name.rpartition(".")[0]


MODULES = {module(path): path for package in PACKAGES for path in sources(package)}


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, at its top or anywhere else."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return {name for name in found if name.split(".")[0] in (*PACKAGES, "tests", "app")}


def may_import(name: str, other: str) -> bool:
    """The rules of who may import whom, but for circles."""
    package, other_package = name.split(".")[0], other.split(".")[0]
    if room(other) in STARTED_BY_NAME:  # a script is started by its name
        return False
    if room(name) == "jobs.contract":
        return room(other) == "jobs.contract"
    if package == "api":
        return other_package == "api" or room(other) == "jobs.contract"
    return other_package == package


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_its_room_may(name):
    assert [other for other in imports(MODULES[name]) if not may_import(name, other)] == []


def room_or_file(name: str) -> str:
    """The room of a module; what stands at the top of a package is a room of its own."""
    return name if room(name) in PACKAGES else room(name)


@pytest.mark.parametrize("level", [room_or_file, str], ids=["rooms", "modules"])
def test_no_imports_go_in_a_circle(level):
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        others = {level(other) for other in imports(path)} - {level(name)}
        graph.setdefault(level(name), set()).update(others)
    TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("names", [("jobs", "api"), ("loadtest",)], ids=" and ".join)
def test_importing_writes_and_prints_nothing(names, tmp_path):
    modules = [name for name in MODULES if name.split(".")[0] in names]
    if "api" in names:
        modules.append("app")
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(modules)}"
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
