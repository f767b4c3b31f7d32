"""The service ends in good order: what was begun is answered, what was taken in is stored."""

import http.client
import json
import os
import signal
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from jobs.contract.names import JOURNAL, STATE
from tests.support import releases
from tests.support.server import litestar_run
from tests.support.waiting import wait_until

BODY = json.dumps({"user_ids": [*range(1000)], "k": 300}).encode()


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def begin(port):
    """A request of which half has arrived."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    head = (
        "POST /recommendations/batch HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    )
    sock.sendall(head.encode() + BODY[:1000])
    return sock


def finish(sock):
    """The answer, after the other half."""
    sock.sendall(BODY[1000:])
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    return json.loads(answer.read())


@pytest.mark.parametrize("journal", ["normal", "full"])
def test_what_was_begun_is_answered_and_what_was_taken_in_is_stored(tmp_path, journal):
    releases.make(tmp_path)
    stored = []

    def put():
        with httpx.Client(base_url=running.url) as client:
            for item in range(10**6):
                try:
                    answer = client.post("/put_user_event", params={"user_id": 7, "item_id": item})
                except httpx.TransportError:  # the service takes no more
                    return
                assert answer.status_code == 200
                stored.append(item)

    with litestar_run(tmp_path, JOURNAL=journal, LOG_LEVEL="ERROR") as running:
        pids = [running.process.pid, *children(running.process.pid)]
        putting = threading.Thread(target=put)
        putting.start()
        begun = [begin(running.port) for _ in range(3)]
        wait_until(lambda: len(stored) >= 20)
        running.process.send_signal(signal.SIGTERM)
        putting.join()
        answers = [finish(sock) for sock in begun]
        running.process.wait(10)
        for sock in begun:
            sock.close()
    assert [len(answer["recs"]) for answer in answers] == [1000] * 3
    assert running.process.returncode in (0, -signal.SIGTERM)
    assert not any(exists(pid) for pid in pids)
    file = tmp_path / STATE / JOURNAL
    assert not file.with_name(f"{file.name}-wal").exists()  # all is in the file itself
    with closing(sqlite3.connect(file)) as db:
        rows = db.execute("SELECT track_id FROM events ORDER BY at").fetchall()
    found = [item for (item,) in rows]
    assert found == [*range(len(found))]
    assert 0 <= len(found) - len(stored) <= 1


def test_several_workers_end_with_the_command_that_started_them(tmp_path):
    releases.make(tmp_path)
    with litestar_run(tmp_path, workers=2) as running:
        (server,) = children(running.process.pid)
        pids = [running.process.pid, server, *children(server)]
        assert len(pids) >= 4
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        wait_until(lambda: not any(exists(pid) for pid in pids))  # Python's own helper ends last
    assert "Traceback" not in running.log.read_text()
