"""Valkey is away, slow, or refuses: what the service says, and that it mends itself."""

import os
import signal
import time
from contextlib import contextmanager

import httpx
import pytest

from jobs import export_events
from jobs.contract.valkey import parse_server
from tests.api.release.test_answers import client_of
from tests.support import releases
from tests.support.server import litestar_run
from tests.support.waiting import wait_until

STALE = {"x-events": "stale"}


@contextmanager
def running(work, address, **settings):
    """A service of its own process, as users start it."""
    with (
        litestar_run(work, EVENTS=address, LOG_LEVEL="WARNING", **settings) as service,
        httpx.Client(base_url=service.url) as client,
    ):
        yield client, service


def recs(client, user=9, k=3):
    answer = client.get("/recommendations", params={"user_id": user, "k": k})
    assert answer.status_code == 200, answer.text
    return answer.json()["recs"], answer.headers.get("x-events")


def put(client, user, item):
    return client.post("/put_user_event", params={"user_id": user, "item_id": item})


@pytest.fixture
def work(tmp_path):
    releases.make(tmp_path)
    return tmp_path


def test_answers_go_on_and_are_marked_while_valkey_does_not_answer(work, valkey):
    with running(work, valkey.address) as (client, service):
        assert put(client, 9, 5).status_code == 200
        fresh = recs(client)
        assert fresh[1] is None
        os.kill(valkey.process.pid, signal.SIGSTOP)
        assert recs(client) == (fresh[0], "stale")
        for call in (lambda: put(client, 9, 6), lambda: client.post("/forget_user?user_id=9")):
            refused = call()
            assert (refused.status_code, refused.headers.get("x-events")) == (503, None)
            assert "Valkey" in refused.json()["detail"]
        ready = client.get("/health/ready").json()
        assert ready["events"] == "stale"
        assert "did not answer" in ready["journal"]
        batch = client.post("/recommendations/batch", json={"user_ids": [9], "k": 3})
        assert (batch.json()["recs"], batch.headers["x-events"]) == ([fresh[0]], "stale")
        assert client.get("/get_user_events?user_id=9").json() == {"events": [5]}
        never_seen = client.get("/get_user_events?user_id=8")
        assert (never_seen.status_code, never_seen.headers["x-events"]) == (503, "stale")
        assert recs(client, 8) == ([1, 2, 3], "stale")
        metrics = client.get("/metrics").text
        assert "reco_journal_works 0.0" in metrics
        assert "reco_stale_answers_total 0.0" not in metrics
        os.kill(valkey.process.pid, signal.SIGCONT)
        wait_until(lambda: recs(client)[1] is None)
        assert put(client, 9, 7).status_code == 200
        assert client.get("/get_user_events?user_id=9").json()["events"][0] == 7
        assert client.get("/health/ready").json()["journal"] == "ok"
        assert not [line for line in service.lines() if "Traceback" in line]


def test_nothing_acknowledged_is_lost_if_valkey_or_the_service_is_killed(work, start):
    valkey, stored = start(), []
    for _ in range(2):
        with running(work, valkey.address) as (client, service):
            for item in range(len(stored), len(stored) + 20):
                assert put(client, 9, item).status_code == 200
                stored.append(item)
            valkey.stop()
            assert recs(client)[1] == "stale"
            assert put(client, 9, 99).status_code == 503
            valkey = start(port=str(valkey.port))
            wait_until(lambda c=client: recs(c)[1] is None)
            found = client.get("/get_user_events?user_id=9&k=100").json()["events"]
            assert found == stored[::-1]
            service.process.kill()


def test_a_service_that_starts_without_valkey_serves_once_it_is_there(work, start):
    server = start()
    server.stop()
    with running(work, server.address) as (client, _):
        assert client.get("/health/live").status_code == 200
        away = client.get("/health/ready")
        assert away.status_code == 503
        assert "until the tombstones can be read" in away.json()["detail"]
        assert put(client, 9, 5).status_code == 503
        start(port=str(server.port))
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        assert put(client, 9, 5).status_code == 200
        assert recs(client) == ([6, 1, 7], None)


def test_a_slow_answer_of_valkey_is_not_waited_for_and_ends_no_put(work, valkey):
    """It answers after half a second: reads are stale after 0.2 s, and puts wait for it."""
    with running(work, valkey.address) as (client, _):
        assert put(client, 9, 5).status_code == 200
        recs(client)
        valkey.ask("CLIENT", "PAUSE", 500, "ALL")
        assert recs(client)[1] == "stale"
        assert put(client, 9, 6).status_code == 200
        wait_until(lambda: recs(client)[1] is None)
        assert client.get("/get_user_events?user_id=9").json() == {"events": [6, 5]}


def test_a_replica_that_does_not_confirm_refuses_puts_and_no_answers(work, valkey, start):
    replica = start("replica", replicaof=f"127.0.0.1 {valkey.port}")
    wait_until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"))
    with running(work, valkey.address, EVENTS_REPLICAS="1") as (client, _):
        assert put(client, 9, 5).status_code == 200
        assert replica.ask("LLEN", "reco:{44}e9") + replica.ask("DBSIZE") > 0
        os.kill(replica.process.pid, signal.SIGSTOP)
        refused = put(client, 9, 6)
        assert refused.status_code == 503
        assert "0 of 1 replica(s)" in refused.json()["detail"]
        assert recs(client)[1] is None
        os.kill(replica.process.pid, signal.SIGCONT)
        wait_until(lambda: put(client, 9, 7).status_code == 200)


def test_after_a_promotion_the_service_uses_the_new_primary(work, valkey, start):
    replica = start("replica", replicaof=f"127.0.0.1 {valkey.port}")
    wait_until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"))
    both = f"valkey://127.0.0.1:{valkey.port},127.0.0.1:{replica.port}/0"
    with running(work, both, EVENTS_REPLICAS="1") as (client, _):
        assert put(client, 9, 5).status_code == 200
        replica.ask("REPLICAOF", "NO", "ONE")
        valkey.ask("REPLICAOF", "127.0.0.1", replica.port)
        wait_until(lambda: "master_link_status:up" in valkey.ask("INFO", "replication"))
        wait_until(lambda: put(client, 9, 6).status_code == 200)
        wait_until(lambda: recs(client)[1] is None)
        found = client.get("/get_user_events?user_id=9").json()["events"]
        assert (found[0], found[-1]) == (6, 5)
        assert replica.ask("ROLE")[0] == "master"


def test_a_setting_that_is_changed_later_is_found_at_the_next_connect(work, valkey):
    with running(work, valkey.address) as (client, _):
        assert put(client, 9, 5).status_code == 200
        valkey.ask("CONFIG", "SET", "appendfsync", "everysec")
        valkey.ask("CLIENT", "KILL", "TYPE", "normal")
        wait_until(lambda: "write `appendfsync always`" in client.get("/health/ready").text)
        assert put(client, 9, 5).status_code == 503
        valkey.ask("CONFIG", "SET", "appendfsync", "always")
        wait_until(lambda: put(client, 9, 6).status_code == 200)


def test_users_who_were_forgotten_before_are_not_served_until_they_are_moved(work, valkey):
    with client_of(work, journal="normal") as client:
        client.answer("/forget_user", "POST", user_id=47)
    with client_of(work, events=parse_server(valkey.address)) as client:
        refused = client.get("/recommendations?user_id=47")
        assert refused.status_code == 503
        assert "jobs.move_events" in refused.text


def test_stopping_waits_for_the_puts_that_were_sent(work, valkey):
    with running(work, valkey.address) as (client, service):
        valkey.ask("CLIENT", "PAUSE", 300, "WRITE")
        start = time.monotonic()
        assert put(client, 9, 5).status_code == 200
        assert time.monotonic() - start > 0.1
        service.process.terminate()
        service.process.wait()
    assert service.process.returncode == 0 or service.process.returncode == -signal.SIGTERM


def test_where_memory_is_short_only_puts_are_refused_and_an_export_makes_room(work, start):
    valkey = start(maxmemory="3mb")
    with running(work, valkey.address) as (client, _):
        user = 0
        while (answer := put(client, user // 50, 5)).status_code == 200:
            user += 1
            if user == 1000:
                valkey.ask("CONFIG", "SET", "maxmemory", "1")
        assert "OOM" in answer.json()["detail"]
        assert recs(client, 0)[1] is None
        assert client.post("/forget_user?user_id=3").json()["events"] == 50
        assert client.get("/get_user_events?user_id=3").json() == {"events": []}
        with running(work, valkey.address) as (other, _):
            assert recs(other, 0)[1] is None
        exported = export_events.main(["--work", str(work), "--store", valkey.address])
        assert exported.startswith("950 new events")
        valkey.ask("CONFIG", "SET", "maxmemory", "0")
        assert put(client, 9, 6).status_code == 200
        assert client.get("/health/ready").json()["journal"] == "ok"
