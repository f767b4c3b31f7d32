"""What may import what, that importing does nothing, and that all there is to use is documented."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from api import settings
from api.app import app

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


def options(path: Path) -> set[str]:
    """The options that a job takes."""
    text = path.read_text()
    own = {
        node.args[0].value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_argument"
        and isinstance(node.args[0], ast.Constant)
    }
    return own | {"--work"} if "cli.parser(" in text else own


JOBS = {
    name.removeprefix("jobs."): options(path)
    for name, path in MODULES.items()
    if room(name) == "jobs" and path.stem != "__init__"
}


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


@pytest.mark.parametrize("level", [room, str], ids=["rooms", "modules"])
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


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text()


def mentions(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w./-]){re.escape(word)}(?![\w-])", text) is not None


@pytest.mark.parametrize("job", JOBS)
def test_every_job_and_its_options_are_in_the_readme(job, readme):
    assert re.search(rf"(jobs\.|[│▼] ){job}\b", readme)  # in a command or in the flow
    assert [option for option in JOBS[job] if not mentions(readme, option)] == []


def test_every_setting_of_the_service_is_in_the_readme(readme):
    names = [settings.PREFIX + field.name.upper() for field in fields(settings.Settings)]
    assert [name for name in names if not mentions(readme, name)] == []


def test_every_endpoint_is_in_the_readme(readme):
    paths = {route.path for route in app.routes}
    paths = {"/schema" if path.startswith("/schema") else path for path in paths}
    assert "/recommendations" in paths
    assert [path for path in sorted(paths) if not mentions(readme, path)] == []


def run_all(*arguments: str) -> subprocess.CompletedProcess:
    command = ["bash", str(ROOT / "run_all.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_run_all_explains_every_option_that_it_takes():
    accepted = set(re.findall(r"--[a-z-]+(?= \||\))", (ROOT / "run_all.sh").read_text()))
    shown = run_all("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    explained = set(re.findall(r"^  (--[a-z-]+) ", shown.stdout, re.MULTILINE))
    assert explained == accepted - {"--help"}


def test_run_all_forwards_the_options_of_the_jobs_that_need_any():
    taken = set(re.findall(r"--[a-z-]+", run_all("--help").stdout))
    needed = set().union(*(JOBS[job] for job in ("prepare", "windows", "tune")))
    assert needed <= taken


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--colour", "red"], "unknown option --colour"),
        (["--heard", "exclude", "--nothing=1"], "unknown option --nothing"),
        (["--work"], "--work needs a value"),
        (["--tune", "off", "stray"], "unknown option stray"),
    ],
)
def test_run_all_refuses_what_it_does_not_know(arguments, says):
    refused = run_all(*arguments)
    assert refused.returncode == 2
    assert says in refused.stderr
    assert "--help" in refused.stderr or "--max-bad-share" in refused.stderr
