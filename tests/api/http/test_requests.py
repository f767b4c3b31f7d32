"""What a client may send: everything else is refused with words, and nothing gives a 500."""

import socket

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from api.app import create_app
from api.settings import Settings
from tests.support import releases
from tests.support.server import litestar_run

CALLS = {  # the parameters with which a call succeeds
    "/recommendations": {"user_id": 47, "k": 5},
    "/get_online_u2i": {"user_id": 47, "k": 5, "N": 5},
    "/put_user_event": {"user_id": 47, "item_id": 5},
    "/get_user_events": {"user_id": 47, "k": 5},
}


NOT_A_NUMBER = [
    "", " ", "abc", "1.5", "1,5", "0x1", "1_000", " 1", "+1", "٣", "true", "null", "NaN", "1e400",
    "1e3", "1E0", "5.0",
    "-1", "9007199254740992", "9" * 5000, "1\x00", "\ufffd", "[1]", "1;2", "' or 1=1", "../../x",
]  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    releases.make(work)
    return work


@pytest.fixture(scope="module")
def client(work):
    app = create_app(Settings(work=work, log_level="WARNING"))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("value", NOT_A_NUMBER)
@pytest.mark.parametrize(("path", "name"), [(p, n) for p, names in CALLS.items() for n in names])
def test_a_bad_value_is_400_with_the_name_and_what_was_expected(client, path, name, value):
    answer = client.post(path, params=CALLS[path] | {name: value})
    assert answer.status_code == 400
    detail = answer.json()["detail"]
    assert detail.startswith(f"{name}: expected a whole number from ")
    assert detail.endswith(f"found {value[:40]!r}")


@pytest.mark.parametrize("value", ["1e1", "5.0", "+5", "05"])
def test_no_call_takes_a_whole_number_that_is_not_in_plain_digits(client, value):
    paths = client.get("/schema/openapi.json").json()["paths"]
    parameters = [
        (method, path, parameter["name"], parameter["schema"])
        for path, calls in paths.items()
        for method, call in calls.items()
        for parameter in call.get("parameters", [])
    ]
    checked = set()
    for method, path, name, schema in parameters:
        if "integer" in (each.get("type") for each in (schema, *schema.get("oneOf", []))):
            params = {"user_id": 47, "item_id": 5, "ids": 5} | {name: value}
            answer = client.request(method, path, params=params)
            assert answer.status_code == 400
            assert answer.json()["detail"].startswith(f"{name}: expected a whole number")
            checked.add(name)
    assert checked == {"user_id", "item_id", "k", "N", "limit", "offset", "near"}


@pytest.mark.parametrize(
    ("path", "name", "low", "high"),
    [
        ("/recommendations", "user_id", 0, 2**53 - 1),
        ("/recommendations", "k", 1, 1000),
        ("/get_online_u2i", "user_id", 0, 2**53 - 1),
        ("/get_online_u2i", "k", 1, 100),
        ("/get_online_u2i", "N", 1, 100),
        ("/put_user_event", "user_id", 0, 2**53 - 1),
        ("/put_user_event", "item_id", 0, 2**53 - 1),
        ("/get_user_events", "user_id", 0, 2**53 - 1),
        ("/get_user_events", "k", 1, 100),
    ],
)
def test_a_parameter_takes_its_whole_range_and_no_more(client, path, name, low, high):
    def status(value):
        return client.post(path, params=CALLS[path] | {name: value}).status_code

    assert [status(v) for v in (low - 1, low, high, high + 1)] == [400, 200, 200, 400]


@pytest.mark.parametrize("path", CALLS)
def test_what_is_missing_is_named(client, path):
    detail = client.post(path).json()["detail"]
    required = [name for name in CALLS[path] if name in ("user_id", "item_id")]
    assert [part.split(":")[0] for part in detail.split("; ")] == required
    assert detail.endswith("missing")


def test_defaults_are_those_of_the_contract(client):
    for item in range(101, 120):
        client.post("/put_user_event", params={"user_id": 9, "item_id": item})
    for call in ("recommendations?k=100", "get_online_u2i?k=100&N=10", "get_user_events?k=10"):
        plain = client.get(f"{call.split('?')[0]}?user_id=9").json()
        assert plain == client.get(f"{call}&user_id=9").json()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("user_id=47&k=5&unknown=1&rec_type=personal", 200),
        ("&&user_id=47&=&k=5&", 200),
        ("user_id=x&user_id=47", 200),
        ("user_id=47&user_id=x", 400),
        ("user_id=47&k=5&k", 400),
    ],
)
def test_unknown_parameters_are_ignored_and_the_last_of_repeated_ones_counts(client, query, status):
    assert client.get(f"/recommendations?{query}").status_code == status


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\x00", b'{"user_id": 9}', b"user_id=9", b"[" * 60_000]
)
@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data", "\xff"]
)
def test_a_body_of_any_kind_is_ignored(client, body, kind):
    answer = client.post(
        "/recommendations?user_id=47&k=3",
        content=body,
        headers={"content-type": kind.encode("latin-1")},
    )
    assert (answer.status_code, answer.json()) == (200, {"recs": [200, 199, 198]})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "nothing"),
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b'{"user_ids": ["\xff"]}', "no JSON"),
        (b'{"user_ids": [1e400]}', "no JSON"),
        (b"[" * 60_000, "no JSON"),
        (b'{"user_ids": ' * 5000, "no JSON"),
        (b"null", "Expected `object`, got `null`"),
        (b"[47]", "Expected `object`, got `array`"),
        (b'{"k": 3}', "missing required field `user_ids`"),
        (b'{"user_ids": 47}', "user_ids: Expected `array`, got `int`"),
        (b'{"user_ids": []}', "user_ids: Expected `array` of length >= 1"),
        (b'{"user_ids": [%b]}' % b",".join([b"1"] * 1001), "user_ids: Expected `array` of length"),
        (b'{"user_ids": [47, -1]}', "user_ids[1]: Expected `int` >= 0"),
        (b'{"user_ids": [9007199254740992]}', "user_ids[0]: Expected `int` <= 9007199254740991"),
        (b'{"user_ids": [null]}', "user_ids[0]: Expected `int`, got `null`"),
        (b'{"user_ids": [1.5]}', "user_ids[0]: Expected `int`, got `float`"),
        (b'{"user_ids": [1], "k": 0}', "k: Expected `int` >= 1"),
        (b'{"user_ids": [1], "k": 1001}', "k: Expected `int` <= 1000"),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "\xff"])
def test_a_bad_body_of_a_batch_is_400_with_what_was_expected(client, body, says, kind):
    headers = {"content-type": kind.encode("latin-1")}
    answer = client.post("/recommendations/batch", content=body, headers=headers)
    assert answer.status_code == 400
    assert f"{says}" in answer.json()["detail"].partition("; expected {")[0]
    assert "1 to 1000 whole numbers" in answer.json()["detail"]


def test_the_body_of_a_batch_has_a_bound_and_takes_the_longest_list(client):
    longest = {"user_ids": [2**53 - 1 - i for i in range(1000)], "k": 1, "unknown": "x"}
    assert client.post("/recommendations/batch", json=longest).status_code == 200
    answer = client.post("/recommendations/batch", content=b" " * 65_537)
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "body: expected at most 65536 bytes",
    )


def test_an_unknown_path_is_404_and_a_wrong_method_405(client):
    assert client.get("/nothing").status_code == 404
    assert client.get("/put_user_event?user_id=1&item_id=1").status_code == 405
    assert client.delete("/recommendations?user_id=1").status_code == 405


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40) | st.text('user_idsk":{}[],0123456789.e- ').map(str.encode))
def test_no_body_gives_a_500(client, body):
    assert client.post("/recommendations/batch", content=body).status_code in (200, 400)


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from([*CALLS, "/load_recommendations", "/get_statistics", "/health/ready"]),
    query=st.binary(max_size=40)
    | st.text("user_idkN=&%0123456789+.;\x00é", max_size=40).map(str.encode),
)
def test_no_query_string_gives_a_500(client, path, query):
    escaped = "".join(f"%{b:02x}" if b <= 32 or b >= 127 or b == 35 else chr(b) for b in query)
    assert client.post(f"{path}?{escaped}").status_code in (200, 400)


RAW = [
    b"GET /recommendations?user_id=\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /recommendations?user_id=x HTTP/1.1\r\nHost: [\r\n\r\n",
    b"GET /recommendations?user_id=x HTTP/1.1\r\nHost: \xff:99999999\r\n\r\n",
    b"GET /recommendations?user_id=x HTTP/1.0\r\n\r\n",
    b"GET http://[/recommendations HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET //recommendations HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /\xff\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /recommendations%00?user_id=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /load_recommendations?release=../../etc HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /load_recommendations?release=%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /load_recommendations?release=/etc&release=. HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /put_user_event?user_id=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /put_user_event HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"BREW /recommendations?user_id=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD /recommendations?user_id=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /recommendations?user_id=x HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET /recommendations?user_id=1 HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
    b"GET /recommendations?user_id=x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 1000,
]


def test_nothing_sent_through_a_socket_gives_a_500_or_a_traceback(work):
    with litestar_run(work) as running:
        for request in RAW:
            with socket.create_connection(("127.0.0.1", running.port), timeout=5) as sock:
                sock.sendall(request)
                sock.shutdown(socket.SHUT_WR)
                answer = sock.recv(1 << 16)
            status = answer.split(b" ", 2)[1] if answer else b"closed"
            assert status in (b"400", b"403", b"404", b"405", b"closed"), (request, answer)
        statistics = httpx.get(f"{running.url}/get_statistics").json()
        assert statistics == {"request_personal_count": 0, "request_default_count": 0}
    log = running.log.read_text()
    assert "Traceback" not in log and "internal error" not in log


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", ["user_id", "k", "N"])
@pytest.mark.parametrize("value", ["1e1", "5.0", "5%2E0"])
def test_what_is_not_plain_digits_is_shown_as_it_was_sent(client, method, name, value):
    parameters = {"user_id": "47", "k": "5", "N": "5"} | {name: value}
    query = "&".join(f"{key}={text}" for key, text in parameters.items())
    answer = client.request(method, f"/get_online_u2i?{query}")
    assert answer.status_code == 400
    shown = value.replace("%2E", ".")
    assert answer.json()["detail"].startswith(f"{name}: expected a whole number from ")
    assert answer.json()["detail"].endswith(f"found {shown!r}")


def test_digits_may_be_percent_encoded_and_the_last_value_counts(client):
    assert client.get("/recommendations?user_id=%34%37&k=5").status_code == 200
    assert client.get("/recommendations?user_id=47&k=5.0&k=5").status_code == 200
    assert client.get("/recommendations?user_id=47&k=5&k=5.0").status_code == 400


def test_an_answer_has_no_blanks_in_its_lists(client):
    assert client.get("/recommendations?user_id=47&k=3").content == b'{"recs":[200,199,198]}'
    assert client.get("/recommendations?user_id=5&k=3").content == b'{"recs":[1,2,3]}'


PUT = "POST /put_user_event?user_id=47&item_id=5 HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("size", [100_000, 5_000_000])
def test_a_client_that_sends_too_large_a_body_can_read_why_it_is_refused(work, tmp_path, size):
    with (
        litestar_run(work, STATE=str(tmp_path)) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection,
    ):
        head = PUT + f"Content-Length: {size}"
        connection.sendall(
            f"{head}\r\n\r\n".encode() + b"x" * size
        )  # the client reads nothing before
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"body: expected at most 65536 bytes" in answer


def test_a_slow_sender_of_too_large_a_body_does_not_hold_its_connection(
    work, tmp_path, monkeypatch
):
    with (
        litestar_run(work, STATE=str(tmp_path)) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=15) as connection,
    ):
        connection.sendall(f"{PUT}Content-Length: 99999\r\n\r\nx".encode())  # and no more
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413")
