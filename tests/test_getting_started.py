"""The commands of README.md and of docs/getting-started.md, run one after the other as they stand.

They run in a copy of the repository whose sample is smaller, with this environment and on a free
port. The outputs that the pages show have the shape of what comes out: the same lines, with other
numbers.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from jobs.ranking.generators import GENERATORS
from jobs.ranking.ranker import FUSION, RANKER
from tests.support.markdown import Page
from tests.support.server import free_port

ROOT = Path(__file__).parents[1]
PAGES = [Page.read(ROOT / "docs/getting-started.md"), Page.read(ROOT / "README.md")]
SMALL = {"users": 300, "tracks": 400, "listens": 9000}  # of the sample in the copy

PORT = "8000"  # of the pages
NUMBER = r"\d[\d,.:TZ-]*"
RULE = "|".join([*GENERATORS, FUSION, RANKER])


def copy_of_the_repository(folder: Path) -> Path:
    """What the commands need, with a smaller sample and an environment that is this one."""
    for name in ("jobs", "api"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for path in [*ROOT.glob("requirements*.txt"), ROOT / "app.py", ROOT / "run_all.sh"]:
        shutil.copy(path, folder)
    script = folder / "jobs" / "sample_data.py"
    text = script.read_text()
    for name, size in SMALL.items():
        text, found = re.subn(rf'("--{name}", type=int, default=)[\d_]+', rf"\g<1>{size}", text)
        assert found == 1
    script.write_text(text)
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (binaries / "python").chmod(0o755)
    (binaries / "activate").write_text(
        f'# {folder}/.venv\nexport PATH="{binaries}:{Path(sys.executable).parent}:$PATH"\n'
    )
    for path in folder.glob("requirements*.txt"):
        shutil.copy(path, folder / ".venv")
    return folder


class Shell:
    """Runs the commands of pages in a folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._port = str(free_port())

    def run(self, text: str) -> str:
        """Return what the commands print; a service goes on until the stack is closed."""
        command = text.replace(f":{PORT}", f":{self._port}")
        if "litestar run" in command:
            command = command.replace("litestar run", f"litestar run --port {self._port}")
            found = self._stack.enter_context(self._serving(command))
        else:
            found = self._finished(command)
        return found.replace(self._port, PORT)

    def _finished(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self._folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def _serving(self, command: str) -> Iterator[str]:
        """Run the service until the end; yields what it printed until it was ready."""
        log = self._folder / "service.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._folder, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            for _ in range(900):  # the first start compiles loops, for long on a busy machine
                assert process.poll() is None, log.read_text()
                if "Uvicorn running on" in log.read_text():
                    break
                time.sleep(0.1)
            httpx.get(f"http://127.0.0.1:{self._port}/health/live").raise_for_status()
            yield log.read_text()
        finally:
            process.terminate()
            process.wait(10)


def check_shape(shown: str, found: str) -> None:
    """Assert that each line shown stands in what was found, in this order, numbers apart."""
    if shown.startswith("{"):
        assert [shape(value) for value in values(shown)] == [
            shape(value) for value in values(found)
        ]
        return
    lines = iter(found.splitlines())
    for line in shown.splitlines():
        pattern = re.compile(pattern_of(line))
        assert any(pattern.fullmatch(other) for other in lines), f"{line!r} is not in\n{found}"


def pattern_of(line: str) -> str:
    """A regular expression of a line with other numbers, paths and names in it."""
    if re.fullmatch(r"[^:]+ - [^:]+", line):  # a track and its artists
        return r".+ - .+"
    # with the reason for it; the smaller sample may do without other generators
    limit = r"[a-z ]+\d* of the first 10 by one artist \([^)]*\)"
    limit += r"(?:; without the candidates of [\w, ]+)?"
    known = {"limit": limit, "number": NUMBER, "rule": rf"\b(?:{RULE})\b"}
    known["path"] = r"(?<!\S)data/"
    free = {"limit": limit, "number": NUMBER, "rule": r"\w+", "path": r"\S*data/"}
    parts = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in known.items()))
    result, end = "", 0
    for match in parts.finditer(line):
        result += re.escape(line[end : match.start()]) + free[str(match.lastgroup)]
        end = match.end()
    return result + re.escape(line[end:])


def values(text: str) -> list[object]:
    """The JSON values of a text, which may follow one another without a space."""
    decoder, result, rest = json.JSONDecoder(), [], text.replace(",…", "").strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        result.append(value)
        rest = rest[end:].lstrip()
    return result


def shape(value: object) -> object:
    """A value without its numbers and texts: keys, and the kinds of a list's entries."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return sorted({str(shape(inner)) for inner in value})
    return "null or number" if value is None or isinstance(value, int) else type(value).__name__


def test_the_commands_of_the_first_pages_run_and_print_what_the_pages_show(tmp_path):
    with ExitStack() as stack:
        shell = Shell(copy_of_the_repository(tmp_path / "copy"), stack)
        outputs: dict[str, str] = {}  # of the commands on the pages before
        for page in PAGES:
            found, own = "", {}
            for block in page.blocks:
                if block.language in ("bash", "sh"):
                    found = outputs.get(block.text) or shell.run(block.text)
                    own[block.text] = found
                elif block.language == "text":
                    check_shape(block.text, found)
            outputs |= own
        log = (tmp_path / "copy" / "service.log").read_text()
    assert "Found 100 personal recommendations!" in log
    assert "Found 100 TOP-recommendations!" in log
    assert "Traceback" not in log
