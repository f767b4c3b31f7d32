"""Web pages that someone opens on this machine can't read the service or change anything in it."""

import socket

import httpx
import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.settings import Settings, SettingsError, from_environment
from tests.support import releases
from tests.support.server import litestar_run

ADMIN = "the-key-for-everything"
CHANGING = {
    "/put_user_event?user_id=47&item_id=5": "POST",
    "/forget_user?user_id=1": "POST",
    "/load_recommendations": "GET",
    "/load_recommendations?": "POST",
}
READING = (
    "/recommendations?user_id=47", "/get_user_events?user_id=47", "/search?q=a", "/user?user_id=47",
    "/", "/access", "/metrics", "/schema", "/health/live", "/health/ready",
)  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    releases.make(work)
    return work


def served(work, address="http://127.0.0.1:8000", **chosen):
    app = create_app(Settings(work=work, journal="off", log_level="WARNING", **chosen))
    return TestClient(app, base_url=address, raise_server_exceptions=False)


def status(client, path, method="GET", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(method, path, headers=named).status_code


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "x",
     "10.0.0.1", "127.0.0.2", "[::2]", "[::1].evil.example", "localhost:x", "localhost:", ":8000",
     "LOCALHOST.", "é"],
)  # fmt: skip
def test_a_name_that_is_made_to_mean_this_machine_is_refused_by_every_call(work, host):
    with served(work) as client:
        for path in (*READING, *CHANGING):
            answer = client.request(
                CHANGING.get(path, "GET"), path, headers={"host": host.encode()}
            )
            assert answer.status_code == 403, path
            assert "RECO_HOSTS" in answer.json()["detail"]


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:9", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:8000"]
)
def test_the_names_of_this_machine_are_accepted(work, host):
    with served(work) as client:
        assert {status(client, path, host=host) for path in READING} == {200}


def test_names_that_the_operator_gives_are_accepted_too_and_then_only_they(work):
    hosts = ("music.example.org", "[2001:db8::1]")
    for keys in ({}, {"admin_key": ADMIN}):
        with served(work, hosts=hosts, **keys) as client:
            for host in ("music.example.org", "MUSIC.example.org:8443", "[2001:db8::1]:80"):
                assert status(client, "/recommendations?user_id=47", host=host) == 200
            assert status(client, "/health/live", host="localhost:8000") == 200
            assert status(client, "/recommendations?user_id=47", host="example.org") == 403


def test_with_keys_and_without_names_the_service_may_have_any_name(work):
    with served(work, "http://192.0.2.1", admin_key=ADMIN) as client:
        assert status(client, "/recommendations?user_id=47", host="music.example.org") == 200


def test_a_client_without_a_name_for_the_service_goes_on(work):
    with litestar_run(work) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        for host, expected in (("127.0.0.1", 200), ("localhost", 200), ("evil.example", 403)):
            answer = httpx.get(f"{running.url}/user?user_id=47", headers={"Host": host})
            assert answer.status_code == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "origin": "http://127.0.0.1:8000"},
        {"sec_fetch_site": "same-origin", "origin": "http://evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://localhost:8000"},
        {"origin": ""},
    ],
)
@pytest.mark.parametrize("keys", [{}, {"admin_key": ADMIN}])
def test_a_page_of_another_site_changes_nothing(work, headers, keys):
    with served(work, **keys) as client:
        for path, method in CHANGING.items():
            assert status(client, path, method, x_api_key=ADMIN, **headers) == 403
        events = client.get("/get_user_events?user_id=47", headers={"X-API-Key": ADMIN})
        assert events.json() == {"events": []}
        assert "reco_swaps_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("http://127.0.0.1:8000", {}),
        ("http://127.0.0.1:8000", {"sec_fetch_site": "same-origin"}),
        ("http://127.0.0.1:8000", {"sec_fetch_site": "none"}),
        ("http://127.0.0.1:8000", {"origin": "http://127.0.0.1:8000"}),
        ("http://127.0.0.1", {"origin": "http://127.0.0.1"}),
        ("http://127.0.0.1", {"origin": "http://127.0.0.1:80"}),
    ],
)
def test_programs_and_the_own_page_go_on(work, address, headers):
    with served(work, address) as client:
        for path, method in CHANGING.items():
            assert status(client, path, method, **headers) == 200


def test_the_own_page_goes_on_behind_a_proxy_that_encrypts(work):
    with served(work, hosts=("music.example.org",)) as client:
        own = {"host": "music.example.org", "origin": "https://music.example.org"}
        assert status(client, "/put_user_event?user_id=1&item_id=1", "POST", **own) == 200
        own["origin"] = "https://music.example.org:8443"
        assert status(client, "/put_user_event?user_id=1&item_id=1", "POST", **own) == 403


@pytest.mark.parametrize("path", ["//load_recommendations/", "/load%5Frecommendations"])
def test_no_spelling_of_a_path_goes_round_the_check(work, path):
    with served(work) as client:
        address = f"http://127.0.0.1:8000{path}"
        assert status(client, address) == 200
        assert status(client, address, sec_fetch_site="cross-site") == 403


def test_pages_of_other_sites_may_link_to_what_only_reads(work):
    with served(work) as client:
        for path in READING:
            assert status(client, path, sec_fetch_site="cross-site") == 200


def test_no_other_site_is_allowed_to_read_an_answer(work):
    asked = {
        "Origin": "http://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key",
    }
    with served(work) as client:
        for path in (*READING, *CHANGING):
            for method in ("GET", "OPTIONS"):
                headers = client.request(method, path, headers=asked).headers
                assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("music.example.org", ("music.example.org",)),
        ("Music.Example.org, reco ,[2001:DB8::1]", ("music.example.org", "reco", "[2001:db8::1]")),
    ],
)
def test_names_are_read_from_the_environment(text, hosts):
    assert from_environment({"RECO_HOSTS": text}).hosts == hosts


@pytest.mark.parametrize(
    "text", ["", ",", "a,", "example.org:80", "http://example.org", "*", "a b", "é.example", "[::1"]
)
def test_names_that_cannot_be_used_are_refused_with_words(text):
    with pytest.raises(SettingsError, match=r"RECO_HOSTS=.*host names without ports"):
        from_environment({"RECO_HOSTS": text})
