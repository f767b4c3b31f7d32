"""The load test passes a right service, and names each rule that a wrong one breaks."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from api.service import Service
from api.settings import Settings
from loadtest.support import expectations
from loadtest.support.expectations import Visitor, World
from tests.support import releases
from tests.support.server import ROOT, litestar_run

USERS = range(1, 41)
FINAL = {user: range(200 - user, 100 - user, -1) for user in USERS}
ONE_TRACK = {"tracks": [1], "top": [1], "similar": {}, "next_played": {}}
HEARD = {user: [201, 202, 300 - user] for user in USERS}


def test_rules_on_a_world_whose_answers_can_be_seen():
    who = Visitor(1, final=[9, 8], heard=frozenset([2, 8]))
    world = World(top=[1, 2, 3, 4], tracks=[], known=[who])
    assert world.offline(who, 3) == [9, 1, 3]
    expectations.recommendations({"recs": [9, 1, 3]}, world, who, 3)
    expectations.recommendations({"recs": [9, 1, 3, 4]}, world, who, 10)  # there are no more

    who.events.extend([4, 7])
    expectations.recommendations({"recs": [5, 9, 1]}, world, who, 3)  # 5 is near
    for heard in (2, 8, 4, 7):
        with pytest.raises(expectations.Violation, match="has heard is in the list"):
            expectations.recommendations({"recs": [9, 1, heard]}, world, who, 3)
    world.excludes_heard = False
    expectations.recommendations({"recs": [2, 8, 7]}, world, who, 3)
    with pytest.raises(expectations.Violation, match="has heard is in the list"):
        expectations.recommendations({"recs": [2, 8, 4]}, world, who, 3)  # 4 is the last event


def test_a_song_that_was_heard_under_another_id_is_heard():
    who = Visitor(1, final=[9, 8], heard=frozenset([20]))
    world = World(top=[1, 2, 3], tracks=[], known=[who], shown={20: 8, 30: 1})
    assert world.offline(who, 3) == [9, 1, 2]
    who.events.append(30)
    with pytest.raises(expectations.Violation, match="has heard is in the list"):
        expectations.recommendations({"recs": [9, 1, 2]}, world, who, 3)


def spoil_lists(call, user, answer, service):
    """Right sets in wrong orders, a heard track, too much of what is near, counts doubled."""
    if call == "/recommendations":
        last = service.store.last(user, 1)
        return {"recs": [*last, *answer["recs"][:-1]] if last else answer["recs"][::-1]}
    if call == "/get_user_events":
        return {"events": answer["events"][::-1]}
    if call == "/get_online_u2i":
        return {"recs": answer["recs"] or [7]}
    if call == "/get_statistics":
        return {name: 2 * count for name, count in answer.items()}
    return answer


def spoil_lengths(call, user, answer, service):
    """A track too few or twice, an event that is lost, ids as text, a release of yesterday."""
    if call == "/recommendations":
        recs = answer["recs"]
        return {"recs": recs[:-1] if user in USERS else [*recs[:-1], recs[0]]}
    if call == "/get_online_u2i":
        return {"recs": [str(user)]}
    return {"/put_user_event": {"result": "lost"}, "/health/ready": {"release": "old"}}.get(
        call, answer
    )


def spoil_transport(call, user, answer, service):
    """Errors, and what is no JSON."""
    return {"/recommendations": 500, "/get_user_events": "events: none"}.get(call, answer)


SPOILT = {
    spoil_lists: [
        "no events, but not the top list",
        "no events, but not the user's own list",
        "a track that the user has heard is in the list",
        "events are in order from the oldest",
        "more than N tracks for each event",
        "counts differ from the number of requests",
        "after the test: counts differ from the number of requests",
    ],
    spoil_lengths: [
        "not exactly k tracks",
        "a track is in the list twice",
        'not {"result": "ok"}',
        'not {"recs": [track ids]}',
        "release 'old' is served, but the ids are from 'first'",
    ],
    spoil_transport: ["status 500", "not JSON"],
}


def answer_of(service: Service, call: str, user: int, asked: dict[str, int]):
    """The right answer."""
    match call:
        case "/recommendations":
            return {"recs": json.loads(service.recommend(user, asked.get("k", 100)))}
        case "/get_online_u2i":
            return {
                "recs": json.loads(service.online(user, asked.get("k", 100), asked.get("N", 10)))
            }
        case "/get_user_events":
            return {"events": service.store.last(user, asked.get("k", 10))}
        case "/put_user_event":
            service.store.add(user, asked["item_id"])
            return {"result": "ok"}
        case "/get_statistics":
            counters = service.counters
            return {
                "request_personal_count": counters.personal,
                "request_default_count": counters.default,
            }
    return {"release": service.releases.current().catalog.id}


@contextmanager
def spoilt_service(work: Path, spoil):
    """Serve WORK with answers spoilt; yields the URL."""
    service = Service(Settings(work=work, journal="off"))
    asyncio.run(service.releases.load())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def do_GET(self):
            url = urlsplit(self.path)
            asked = {name: int(values[0]) for name, values in parse_qs(url.query).items()}
            user = asked.get("user_id", -1)
            answer = spoil(url.path, user, answer_of(service, url.path, user, asked), service)
            text = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def locust(folder: Path, work: Path, url: str, *options: str) -> subprocess.Popen:
    """Start the load test from a copy of its own in `folder`, for a few seconds."""
    shutil.copytree(ROOT / "loadtest", folder / "loadtest")
    words = ["-f", "loadtest/locustfile.py", "--headless", "-u", "30", "-r", "30", "-t", "3s"]
    return subprocess.Popen(
        [sys.executable, "-m", "locust", *words, "--host", url, "--work", str(work), *options],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(("LOCUST_", "RECO_"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    releases.make(folder, final=FINAL, heard=HEARD)
    return folder


@pytest.fixture(scope="module")
def spoilt_runs(work, tmp_path_factory):
    """By what was spoilt: exit code and output; the runs go on side by side."""
    with ExitStack() as stack:
        runs = {}
        for spoil in SPOILT:
            url = stack.enter_context(spoilt_service(work, spoil))
            runs[spoil] = locust(tmp_path_factory.mktemp("locust"), work, url, "-t", "5s")
        return {
            spoil: (run.communicate(timeout=60)[0], run.returncode) for spoil, run in runs.items()
        }


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_broken_rule_fails_the_test_and_is_named(spoilt_runs, spoil):
    output, code = spoilt_runs[spoil]
    assert code == 1
    table = output.partition("Error report")[2]
    assert [reason for reason in SPOILT[spoil] if reason not in table] == [], output


@pytest.mark.parametrize("source", ["release", "options"])
def test_a_right_service_passes(work, tmp_path, source):
    options = ["--user-ids", "1,2,3", "--track-ids", "5,6,7"] if source == "options" else []
    with litestar_run(work) as service:
        run = locust(tmp_path, work, service.url, *options)
        output = run.communicate(timeout=60)[0]
    assert run.returncode == 0, output
    assert "Error report" not in output
    assert "Response time percentiles" in output
    for call in ("/recommendations", "/get_online_u2i", "/put_user_event", "/get_statistics"):
        assert call in output
    assert "<html" in (tmp_path / "loadtest/report.html").read_text()


@pytest.mark.parametrize(
    "content",
    [
        {"final": {}},
        {"final": {}, "heard": {}},
        ONE_TRACK | {"final": {}, "heard": {7: [1]}},
        ONE_TRACK | {"final": {47: [1]}, "heard": {7: [1]}},
        ONE_TRACK | {"final": {47: [1]}, "heard": {47: [1]}, "heard_rule": "include"},
    ],
    ids=["nobody has a list", "nobody is known", "one track", "one track in a list", "included"],
)
def test_a_right_service_passes_with_a_release_that_has_hardly_anything(tmp_path, content):
    releases.make(tmp_path / "work", **content)
    with litestar_run(tmp_path / "work") as service:
        run = locust(tmp_path, tmp_path / "work", service.url)
        output = run.communicate(timeout=60)[0]
    assert run.returncode == 0, output
    assert " answers, 0 wrong" in output


def test_rules_on_a_release_that_includes_its_only_track():
    """The service may keep out any number of the last events, and must keep out the last one."""
    who = Visitor(1, final=[1])
    world = World(top=[1], tracks=[1], known=[who], excludes_heard=False)
    with pytest.raises(expectations.Violation, match="not exactly k tracks"):
        expectations.recommendations({"recs": []}, world, who, 3)
    who.events.extend([9, 1])  # newest first
    for right in ([], [1]):
        expectations.recommendations({"recs": right}, world, who, 3)
    who.events.appendleft(1)
    with pytest.raises(expectations.Violation, match="has heard is in the list"):
        expectations.recommendations({"recs": [1]}, world, who, 3)


def test_a_test_that_asks_nothing_fails(work, tmp_path):
    with spoilt_service(work, lambda call, user, answer, service: answer) as url:
        run = locust(tmp_path, work, url, "-u", "0", "-t", "1s")
        output = run.communicate(timeout=60)[0]
    assert (run.returncode, "No request was made" in output) == (1, True), output


def test_without_a_release_or_ids_it_ends_with_one_line(tmp_path):
    run = locust(tmp_path, tmp_path / "nowhere", "http://127.0.0.1:9")
    output = run.communicate(timeout=60)[0]
    assert run.returncode == 1
    assert "nowhere/current is not a release" in output
    assert "Traceback" not in output


def script(name: str, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"loadtest.{name}", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("journal", "code"), [("normal", 0), ("off", 1)])
def test_a_killed_service_has_all_that_it_acknowledged_and_else_that_is_told(journal, code):
    done = script("crash", "--times", "1", "--seconds", "0.5", "--journal", journal)
    assert (done.returncode, done.stderr) == (code, "")
    assert (", 0 lost" in done.stdout) == (code == 0)


def test_a_killed_service_with_text_ids_has_all_and_keeps_users_forgotten():
    done = script("crash", "--times", "1", "--seconds", "0.5", "--text-ids")
    assert (done.returncode, done.stderr) == (0, "")
    assert ", 0 back" in done.stdout
    assert ", 0 lost" in done.stdout


def test_the_soak_counts_who_left_memory_and_finds_their_events(work):
    done = script("soak", "--work", str(work), "--users", "400", "--in-memory", "100")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "300 evictions, 300 expected; events of 0 users missing" in done.stdout
