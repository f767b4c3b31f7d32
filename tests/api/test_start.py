"""With settings that cannot be used the service does not start, and says why in one line."""

import json
import os
import subprocess
import sys
import time

import httpx
import pytest

from tests.support.server import ROOT, free_port

COMMANDS = {"litestar": ["litestar", "run"], "uvicorn": ["uvicorn", "app:app"]}
BAD_SETTINGS = [
    ("MAX_USERS", "many", "a whole number from 1 to"),
    ("BLENDING", "random", "one of alternate, weighted, offline"),
    ("JOURNAL", "on", "one of off, normal, full"),
    ("STATE", "/dev/null/state", "expected a folder for the journal of events"),
    ("LOG_LEVEL", "loud", "one of DEBUG, INFO"),
    ("WROK", "data", "is not a setting: expected one of RECO_WORK,"),
]


def start(server, port, *options, **settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECO_")}
    return subprocess.Popen(
        [sys.executable, "-m", *COMMANDS[server], "--port", str(port), *options],
        cwd=ROOT, env=environment | {f"RECO_{name}": str(v) for name, v in settings.items()},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def refusal(server, **settings):
    """The line that says why the service does not start; other lines are uvicorn's own."""
    process = start(server, free_port(), **settings)
    lines = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == {"litestar": 1, "uvicorn": 3}[server]
    if server == "uvicorn":
        *before, line, exiting = lines
        assert [text.split()[0] for text in before] == ["INFO:"] * 2
        assert exiting == "ERROR:    Application startup failed. Exiting."
        return line.removeprefix("ERROR:    ")
    (line,) = lines
    return line


@pytest.mark.parametrize(("name", "value", "expected"), BAD_SETTINGS)
def test_litestar_run_refuses_a_bad_setting_with_one_line(tmp_path, name, value, expected):
    line = refusal("litestar", **{"WORK": tmp_path, name: value})
    assert f"RECO_{name}" in line and expected in line


@pytest.mark.parametrize(("name", "value", "expected"), [BAD_SETTINGS[0], BAD_SETTINGS[3]])
def test_uvicorn_refuses_a_bad_setting_with_one_line(tmp_path, name, value, expected):
    line = refusal("uvicorn", **{"WORK": tmp_path, name: value})
    assert f"RECO_{name}" in line and expected in line


@pytest.mark.parametrize("server", COMMANDS)
def test_a_missing_work_folder_is_refused_and_nothing_is_made(tmp_path, server):
    (tmp_path / "file").write_text("")
    for name in ("mistyped", "file", "file/below"):
        line = refusal(server, WORK=tmp_path / name)
        assert line.startswith(f"RECO_WORK='{tmp_path / name}': expected the folder")
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


@pytest.mark.parametrize("server", COMMANDS)
def test_an_empty_work_folder_is_served_with_503_until_there_is_a_release(tmp_path, server):
    port = free_port()
    process = start(server, port, WORK=tmp_path)
    try:
        answer = first_answer(process, f"http://127.0.0.1:{port}/recommendations?user_id=1")
        assert answer.status_code == 503
        assert "current is missing: run python -m jobs.publish" in answer.json()["detail"]
        event = {"user_id": 1, "item_id": 5}
        stored = httpx.post(f"http://127.0.0.1:{port}/put_user_event", params=event)
        assert json.loads(stored.content) == {"result": "ok"}
    finally:
        process.terminate()
        log = process.communicate(timeout=30)[0]
    assert "Refused a release" in log and "Traceback" not in log


@pytest.mark.parametrize(("prefix", "url"), [(None, "/"), ("/music", "/music"), ("/a/b/", "/a/b")])
def test_the_schema_and_its_page_name_the_prefix_under_which_the_service_is(tmp_path, prefix, url):
    port = free_port()
    options = ["--root-path", prefix] if prefix else []
    process = start("uvicorn", port, *options, WORK=tmp_path)
    try:
        # the proxy has removed the prefix
        schema = first_answer(process, f"http://127.0.0.1:{port}/schema").json()
        assert schema["servers"] == [{"url": url}]
        page = httpx.get(f"http://127.0.0.1:{port}/schema/swagger").text
        assert json.dumps([{"url": url}], separators=(",", ":")) in page
        called = [path for path in schema["paths"] if path == "/health/live"]
        assert [httpx.get(f"http://127.0.0.1:{port}{path}").status_code for path in called] == [200]
    finally:
        process.terminate()
        log = process.communicate(timeout=30)[0]
    assert "Traceback" not in log


def first_answer(process, url):
    while process.poll() is None:
        try:
            return httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(process.communicate()[0])
