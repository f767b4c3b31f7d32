"""Who is let in: keys, this machine only without them, rates and the size of bodies."""

import subprocess

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from litestar.testing import TestClient

from api.app import app, create_app
from api.http.guard import LEVELS, is_local
from api.http.rate_limit import RateLimiter
from api.settings import Settings, SettingsError, from_environment
from tests.support import releases
from tests.support.server import free_port, litestar_run, start

ADMIN, READ, WRITE = (f"the-key-for-{name}" for name in ("everything", "reading", "writing"))
CALLS = {
    "read": "/recommendations?user_id=47",
    "write": "/put_user_event?user_id=47&item_id=5",
    "admin": "/load_recommendations",
    "open": "/health/live",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    releases.make(work)
    return work


def served(work, address="http://192.0.2.1", root_path="", **settings):
    """The service as it is reached at an address."""
    app = create_app(Settings(work=work, journal="off", log_level="WARNING", **settings))
    return TestClient(app, base_url=address, raise_server_exceptions=False, root_path=root_path)


def statuses(client, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {level: client.post(path, headers=named).status_code for level, path in CALLS.items()}


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "10.0.0.1"])
def test_without_keys_other_addresses_are_refused(work, host):
    with served(work, f"http://{host}") as client:
        assert set(statuses(client).values()) == {403}
        assert "RECO_ADMIN_KEY" in client.get("/health/live").json()["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9"])
def test_without_keys_this_machine_is_served(work, host):
    with served(work, f"http://{host}") as client:
        assert set(statuses(client).values()) == {200}


def test_without_keys_nor_does_a_proxy_bring_in_others(work):
    with litestar_run(work) as running:
        for client, status in (("127.0.0.1", 200), ("192.0.2.1", 403)):
            answer = httpx.get(f"{running.url}/health/live", headers={"X-Forwarded-For": client})
            assert answer.status_code == status


def test_loopback_is_known_in_every_form():
    assert all(is_local(host) for host in ("::1", "::ffff:127.0.0.1", "localhost"))
    assert not any(
        is_local(host) for host in ("::", "2001:db8::1", "fe80::1%eth0", "::ffff:8.8.8.8")
    )


@pytest.mark.parametrize("address", ["http://192.0.2.1", "http://127.0.0.1"])
@pytest.mark.parametrize(
    ("settings", "key", "expected"),
    [
        ({"admin_key": ADMIN}, None, {"read": 200, "write": 200, "admin": 401}),
        ({"admin_key": ADMIN}, "x" * 20, {"read": 200, "write": 200, "admin": 401}),
        ({"admin_key": ADMIN}, ADMIN, {"read": 200, "write": 200, "admin": 200}),
        ("all", None, {"read": 401, "write": 401, "admin": 401}),
        ("all", READ, {"read": 200, "write": 403, "admin": 403}),
        ("all", WRITE, {"read": 403, "write": 200, "admin": 403}),
        ("all", ADMIN, {"read": 200, "write": 200, "admin": 200}),
        ("all", ADMIN[:-1], {"read": 401, "write": 401, "admin": 401}),
    ],
)
def test_each_key_opens_its_calls_and_that_of_the_admin_all(work, address, settings, key, expected):
    everything = {"admin_key": ADMIN, "read_key": READ, "write_key": WRITE}
    with served(work, address, **(everything if settings == "all" else settings)) as client:
        headers = [{"X_API_Key": key}, {"Authorization": f"Bearer {key}"}] if key else [{}]
        for given_so in headers:
            assert statuses(client, **given_so) == {**expected, "open": 200}


@pytest.mark.parametrize("prefix", ["", "/music"])
def test_no_spelling_of_a_path_goes_round_the_key(work, prefix):
    names = ["/load_recommendations", "/load%5Frecommendations", "/recommendations", "/music"]
    pieces = st.sampled_from([*names, "/", "//", "/%2e", "/..", "%2F", "?", "%00"])

    @given(st.lists(pieces, min_size=1, max_size=5))
    @example(["/load_recommendations"])
    @example(["//", "/load_recommendations", "/"])
    @example(["/music", "/load_recommendations"])
    def no_way_round(client, path):
        answer = client.post(
            "http://192.0.2.1" + "".join(["/", *path]), headers={"X-API-Key": READ}
        )
        assert b"tracks" not in answer.content  # of what is loaded
        assert answer.status_code in (400, 403, 404, 405)

    with served(work, admin_key=ADMIN, read_key=READ, root_path=prefix) as client:
        no_way_round(client)


def test_what_stands_in_the_table_of_levels_is_a_call(work):
    assert LEVELS.keys() <= {route.path for route in app.routes}


def test_other_machines_have_a_rate_and_this_one_has_none(work):
    with served(work, admin_key=ADMIN) as client:
        answers = [client.get("/get_statistics") for _ in range(400)]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert "at most 100 requests a second" in refused.json()["detail"]
        assert client.get("/health/live").status_code == 200
        assert client.get("/get_statistics", headers={"X-API-Key": ADMIN}).status_code == 200
    with served(work, "http://127.0.0.1") as client:
        assert {client.get("/get_statistics").status_code for _ in range(400)} == {200}
    with served(work, "http://127.0.0.1", rate_limit=1) as client:
        assert [client.get("/get_statistics").status_code for _ in range(2)] == [200, 429]


@given(st.integers(1, 50), st.lists(st.floats(0, 0.3), max_size=200))
def test_in_no_time_does_more_get_through_than_the_rate_and_one_second_s_worth(rate, pauses):
    now, through = 100.0, []
    rates = RateLimiter(lambda: now)
    for pause in pauses:
        now += pause
        wait = rates.wait("someone", rate)
        assert 0 <= wait <= 1 / rate + 1e-9
        if not wait:
            through.append(now)
    for i, first in enumerate(through):
        assert all(
            j - i + 1 <= rate * (at - first + 1) + 1e-6 for j, at in enumerate(through[i:], i)
        )


def test_the_rates_of_many_callers_take_no_more_memory_than_those_of_the_last(monkeypatch):
    monkeypatch.setattr("api.http.rate_limit.MAX_CALLERS", 100)
    rates = RateLimiter(lambda: 0.0)
    for i in range(1000):
        assert rates.wait(str(i), 1) == 0
    assert len(rates._used) == 100
    assert rates.wait("999", 1) > 0


def test_a_large_body_is_refused_before_it_is_read(work):
    with litestar_run(work) as running, httpx.Client(base_url=running.url) as client:
        for path in CALLS.values():
            answer = client.post(path, content=b"x" * 70_000)
            assert answer.status_code == 413
            assert answer.json()["detail"] == "body: expected at most 65536 bytes"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_litestar_run_on_other_addresses_needs_a_key(tmp_path, host):
    options = ["--host", host, "--port", str(free_port())]
    process = start(options, subprocess.PIPE, WORK=str(tmp_path))
    said = process.communicate(timeout=60)[0].decode().strip().splitlines()
    assert process.returncode == 1
    assert said == [
        f"--host {host}: expected 127.0.0.1 where there are no keys; "
        "set RECO_ADMIN_KEY to serve other machines"
    ]


def test_keys_are_shown_nowhere():
    settings = from_environment({"RECO_ADMIN_KEY": ADMIN, "RECO_READ_KEY": READ})
    assert ADMIN not in repr(settings) and READ not in repr(settings)
    for key in ("tooshort", ADMIN + " "):
        with pytest.raises(SettingsError) as error:
            from_environment({"RECO_ADMIN_KEY": key})
        assert key not in str(error.value)


def test_the_other_keys_need_that_of_the_admin():
    with pytest.raises(SettingsError, match="RECO_ADMIN_KEY is missing"):
        from_environment({"RECO_WRITE_KEY": WRITE})
