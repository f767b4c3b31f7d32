"""run_all.sh makes the environment: by uv where it is there, by pip otherwise, and once only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAKE_UV = """#!/bin/sh
echo "$@" >> "$UV_CALLS"
[ "$1" != venv ] || {
  mkdir -p .venv/bin
  echo "# $PWD/.venv" > .venv/bin/activate
  ln -sf "$(command -v python3)" .venv/bin/python
}
[ "$1" != pip ] || [ -z "$UV_FAILS" ] || exit 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with run_all.sh and requirements that are soon installed."""
    folder = tmp_path / "a project"
    folder.mkdir()
    shutil.copy(ROOT / "run_all.sh", folder)
    (folder / "requirements.txt").write_text("# nothing\n")
    (folder / "requirements-dev.txt").write_text("# nothing more\n")
    for name in ("pytest", "tool"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\necho it runs\n")
        path.chmod(0o755)
    return folder


def with_uv(project: Path) -> None:
    path = project.parent / "bin" / "uv"
    path.write_text(FAKE_UV)
    path.chmod(0o755)


def run_all(project: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(project.parent / "bin"), str(Path(sys.executable).parent)])
    path += ":/usr/bin:/bin"
    own = {"PATH": path, "PYTHON": sys.executable, "UV_CALLS": str(project.parent / "calls")}
    return subprocess.run(
        ["bash", "run_all.sh", *command],
        cwd=project, env=os.environ | own | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


def calls(project: Path) -> list[str]:
    path = project.parent / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.skipif(shutil.which("uv", path="/usr/bin:/bin") is not None, reason="uv is there")
def test_without_uv_pip_makes_the_environment_and_makes_it_once(project):
    first = run_all(project, "tool")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == "Setting up .venv from requirements.txt (once) ...\nit runs\n"
    assert (project / ".venv/bin/python").exists()
    assert run_all(project, "tool").stdout == "it runs\n"
    made = (project / ".venv/pyvenv.cfg").stat().st_mtime_ns
    assert "requirements-dev.txt" in run_all(project, "pytest").stdout
    assert (project / ".venv/pyvenv.cfg").stat().st_mtime_ns == made


def test_uv_makes_it_where_it_is_on_the_path(project):
    with_uv(project)
    assert run_all(project, "tool").returncode == 0
    assert [call.split()[0] for call in calls(project)] == ["venv", "pip"]
    assert calls(project)[1].endswith("--python .venv/bin/python -r requirements.txt")
    assert run_all(project, "tool").stdout == "it runs\n"
    assert len(calls(project)) == 2


def test_the_first_check_installs_what_checks_need_and_no_other_command_does(project):
    with_uv(project)
    run_all(project, "tool")
    assert not any("requirements-dev.txt" in call for call in calls(project))
    assert "requirements-dev.txt" in run_all(project, "pytest").stdout
    assert calls(project)[-1].endswith("requirements-dev.txt")
    assert run_all(project, "pytest").stdout == "it runs\n"


def test_a_set_up_that_failed_is_done_again(project):
    with_uv(project)
    failed = run_all(project, "tool", UV_FAILS="yes")
    assert failed.returncode != 0
    assert "it runs" not in failed.stdout
    assert run_all(project, "tool").stdout.endswith("it runs\n")
    assert [call.split()[0] for call in calls(project)] == ["venv", "pip", "pip"]


def test_other_requirements_are_installed_and_a_folder_that_was_moved_is_set_up_again(project):
    with_uv(project)
    run_all(project, "tool")
    (project / "requirements.txt").write_text("# something else\n")
    assert "requirements.txt" in run_all(project, "tool").stdout
    moved = project.rename(project.with_name("moved"))
    assert "requirements.txt" in run_all(moved, "tool").stdout
    assert (moved / ".venv/bin/activate").read_text() == f"# {moved}/.venv\n"


def test_a_set_up_that_was_killed_while_it_changed_is_not_taken_for_the_one_before(project):
    with_uv(project)
    run_all(project, "tool")
    (project / "requirements.txt").write_text("# something else\n")
    assert run_all(project, "tool", UV_FAILS="yes").returncode != 0
    (project / "requirements.txt").write_text("# nothing\n")
    assert "Setting up" in run_all(project, "tool").stdout


def test_an_environment_without_a_working_python_is_made_again(project):
    with_uv(project)
    run_all(project, "tool")
    (project / ".venv/bin/python").unlink()
    (project / ".venv/bin/python").symlink_to("/an/interpreter/that/is/gone")
    assert "Setting up" in run_all(project, "tool").stdout
    assert (project / ".venv/bin/python").exists()


@pytest.mark.parametrize("dont", ["1", ""])
def test_modules_are_compiled_once_whatever_the_caller_s_environment_says(project, dont):
    with_uv(project)
    (project / "module.py").write_text("")
    run_all(project, "python3", "-c", "import module", PYTHONDONTWRITEBYTECODE=dont)
    assert list(project.glob("__pycache__/module.*.pyc"))


def pins(name: str) -> dict[str, set[str]]:
    """The versions of each package in a file of requirements, with their markers."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-c ")):
            package, version = line.split("==", 1)
            found.setdefault(package.lower().replace("_", "-"), set()).add(version)
    return found


def test_every_package_is_pinned_and_to_the_same_version_wherever_it_stands():
    run, check = pins("requirements.txt"), pins("requirements-dev.txt")
    assert {name: run[name] for name in pins("requirements.in")} == pins("requirements.in")
    assert {name: check[name] for name in pins("requirements-dev.in")} == pins(
        "requirements-dev.in"
    )
    both = run.keys() & check.keys()
    assert {name: check[name] for name in both} == {name: run[name] for name in both}
    assert run.keys() >= {"locust", "litestar", "pytest", "hypothesis"}


def test_a_new_version_of_the_script_does_not_disturb_a_run(project):
    with_uv(project)
    (project / "jobs").mkdir()
    longer = "# a line\\n" * 9 + "echo of the new version; exit 9\\n" * 200
    rewrites = f'from pathlib import Path\nPath("run_all.sh").write_text("{longer}")\n'
    (project / "jobs" / "run.py").write_text(rewrites)
    (project / "jobs" / "summary.py").write_text('print("the end of the old version")\n')
    done = run_all(project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the end of the old version\n")


@pytest.mark.parametrize("command", [["pytest", "-m", "spark"], ["tool", "--engine", "local[2]"]])
def test_what_needs_a_cluster_installs_spark(project, command):
    with_uv(project)
    (project / "requirements-spark.txt").write_text("# Spark\n")
    run_all(project, "tool")
    assert not any("requirements-spark.txt" in call for call in calls(project))
    run_all(project, *command)
    assert calls(project)[-1].endswith("requirements-spark.txt")
