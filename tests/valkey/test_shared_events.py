"""Two services on one Valkey answer as one: what one was told, the other knows at once."""

import re
from contextlib import ExitStack, contextmanager
from random import Random

import pytest

from jobs.contract.valkey import SHARDS, list_of, parse_server
from tests.api.release.test_answers import client_of
from tests.support import releases
from tests.support.releases import INTEGERS, TEXTS, Kinds, named
from tests.support.waiting import wait_until

MIXED = Kinds("integer", "text")


@contextmanager
def services(work, valkey, n=2, **settings):
    """Services that share a Valkey, each with a folder of its own for what is not shared."""
    address = parse_server(valkey.address)
    with ExitStack() as stack:
        yield [
            stack.enter_context(client_of(work, events=address, state=work / f"s{i}", **settings))
            for i in range(n)
        ]


@pytest.fixture(params=[INTEGERS, TEXTS, MIXED], ids="-".join)
def world(request, tmp_path):
    """A folder with a release, and functions from numbers to ids of users and of tracks."""
    releases.make(tmp_path, text=request.param)
    users, tracks = (named if kind == "text" else int for kind in request.param)
    return tmp_path, users, tracks


def test_each_answer_takes_into_account_what_another_process_stored(world, valkey):
    work, user, track = world
    with services(work, valkey) as (one, other):
        one.put(user(47), track(5), track(6), track(6))
        expected = {"events": [track(6), track(6), track(5)]}
        assert other.answer("/get_user_events", user_id=user(47)) == expected
        assert other.recs(user(47), k=4) == [track(7), track(200), track(8), track(199)]
        other.put(user(47), track(20))
        assert track(21) in one.recs(user(47), k=6)
        assert other.answer("/get_online_u2i", user_id=user(47), k=1, N=2)["recs"] == [
            track(21), track(22)
        ]  # fmt: skip
        batch = one.post("/recommendations/batch", json={"user_ids": [user(47)], "k": 6})
        assert batch.json() == {"recs": [other.recs(user(47), k=6)]}
        explained = other.answer("/recommendations", user_id=user(47), k=6, explain=True)
        assert explained["recs"] == one.recs(user(47), k=6)


def test_two_processes_answer_at_random_as_one_list_would(tmp_path, valkey):
    releases.make(tmp_path)
    rng, events = Random(3), {}
    with services(tmp_path, valkey, events_per_user=5) as both:
        for _ in range(400):
            client, user = rng.choice(both), rng.choice((47, 16, 9, 8))
            action = rng.random()
            if action < 0.5:
                item = rng.randrange(1, 301)
                client.put(user, item)
                events[user] = [item, *events.get(user, [])][:5]
            elif action < 0.55:
                receipt = client.answer("/forget_user", "POST", user_id=user)
                assert receipt["events"] >= len(events.pop(user, []))
            elif action < 0.8:
                found = client.answer("/get_user_events", user_id=user, k=100)["events"]
                assert found == events.get(user, [])
            else:
                recs = client.recs(user, k=100)
                assert len({*recs}) == 100
                assert not {*recs} & {*events.get(user, [])}


def test_a_user_who_is_forgotten_through_one_process_is_new_in_all(world, valkey):
    work, user, track = world
    with services(work, valkey) as (one, other):
        one.put(user(47), track(5), track(6))
        other.recs(user(47))
        receipt = one.answer("/forget_user", "POST", user_id=user(47))
        assert (receipt["events"], receipt["final_list"], receipt["history"]) == (2, 100, 3)
        assert other.recs(user(47), k=3) == other.recs(user(9), k=3)
        assert other.answer("/get_user_events", user_id=user(47)) == {"events": []}
        other.put(user(47), track(50))
        assert one.recs(user(47), k=1) == [track(51)]
    with services(work, valkey, n=1) as (later,):
        assert later.answer("/get_user_events", user_id=user(47)) == {"events": [track(50)]}
        assert later.recs(user(47), k=2) == [track(51), track(1)]


def test_nothing_of_a_forgotten_user_stays_in_the_files_but_the_tombstone(tmp_path, valkey):
    releases.make(tmp_path, text=TEXTS)
    users, item = [f"someone-{n}-of-them" for n in range(3)], "a-track-of-nobody-else"
    with services(tmp_path, valkey, n=1) as (service,):
        for user in users:
            service.put(user, *[item] * 50, named(5))
        service.answer("/forget_user", "POST", user_id=users[0])
        wait_until(lambda: valkey.ask("GET", "reco:forgotten:left") == "0")
        wait_until(lambda: "aof_rewrite_in_progress:0" in valkey.ask("INFO", "persistence"))
        service.put(users[1], named(6))
    valkey.ask("SAVE")
    files = [path for path in valkey.folder.rglob("*") if path.is_file()]
    held = [path.name for path in files if users[0].encode() in path.read_bytes()]
    assert held == []
    assert [path.name for path in files if users[1].encode() in path.read_bytes()] != []
    assert valkey.ask("ZCARD", "reco:forgotten") == 1


def test_whole_numbers_of_forgotten_users_are_in_the_tombstone_only(tmp_path, valkey):
    releases.make(tmp_path)
    with services(tmp_path, valkey, n=1) as (service,):
        service.put(7654321, 5)
        service.answer("/forget_user", "POST", user_id=7654321)
        held = [key for key in valkey.ask("KEYS", "*") if "7654321" in key]
        assert held == []
        assert valkey.ask("ZRANGE", "reco:forgotten", 0, -1) == ["i7654321"]


def test_a_list_keeps_as_many_events_as_the_setting_says(tmp_path, valkey):
    releases.make(tmp_path)
    with services(tmp_path, valkey, n=1, events_per_user=3) as (service,):
        service.put(9, *range(10, 20))
        assert valkey.ask("LRANGE", list_of(9), 0, -1) == ["19", "18", "17"]
        assert service.answer("/get_user_events", user_id=9, k=100)["events"] == [19, 18, 17]


def test_events_are_in_their_order_whatever_the_clock_says(tmp_path, valkey):
    """The newest seq of each shard is far ahead, as after a time when the clock was wrong."""
    releases.make(tmp_path)
    ahead = 4_000_000_000_000_000  # in the year 2096
    for shard in range(SHARDS):
        valkey.ask("HSET", f"reco:{{{shard}}}", "seq", ahead + shard)
    with services(tmp_path, valkey, n=1) as (service,):
        service.put(9, 1, 2)
        log = [int(n) for n in valkey.ask("LRANGE", list_of(9).replace("}e", "}u"), 0, -1)]
        assert (log[0], log[3]) == (1, 2)
        assert ahead < log[1] < log[4]
        assert log[2] < log[5] < ahead
        service.answer("/forget_user", "POST", user_id=9)
        service.put(9, 3)
        assert service.answer("/get_user_events", user_id=9) == {"events": [3]}


def test_ids_of_another_kind_are_refused_once_there_are_events(tmp_path, valkey):
    releases.make(tmp_path)
    with services(tmp_path, valkey, n=1) as (service,):
        service.put(9, 1)
    releases.make(tmp_path, "texts", text=TEXTS)
    with services(tmp_path, valkey, n=1) as (service,):
        refused = service.get("/health/ready")
        assert refused.status_code == 503
        assert "those of the events in Valkey are integer for users" in refused.text


def test_metrics_count_what_was_not_exported(tmp_path, valkey):
    releases.make(tmp_path)
    with services(tmp_path, valkey, n=1) as (service,):
        service.put(9, 1, 2, 3)
    with services(tmp_path, valkey, n=1) as (service,):
        wait_until(lambda: "reco_events_not_exported 3.0" in service.get("/metrics").text)
        text = service.get("/metrics").text
        assert re.search(r"^reco_stale_answers_total 0.0$", text, re.MULTILINE)
        assert re.search(r"^reco_events_unverified 0.0$", text, re.MULTILINE)
