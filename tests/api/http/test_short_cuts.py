"""Plain requests are answered by short cuts, with the same bytes as by Litestar."""

from urllib.parse import quote_plus, unquote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from api.app import create_app
from api.events.journal import JournalError
from api.http import asgi
from api.http.asgi import Application
from api.settings import Settings
from tests.support import releases


class ByLitestar(Application):
    """The application without short cuts."""

    async def answer(self, scope, receive, send, service):
        asgi.refuse_other_spellings(scope, scope["state"])
        await super(Application, self).__call__(scope, receive, send)


@pytest.fixture(scope="module", params=[releases.INTEGERS, releases.TEXTS])
def both(request, tmp_path_factory):
    """Clients of two services of one release: one with short cuts, one without."""
    work = tmp_path_factory.mktemp("work")
    releases.make(work, text=request.param)
    chosen = Settings(work=work, journal="off", log_level="WARNING")
    with (
        TestClient(create_app(chosen), raise_server_exceptions=False) as client,
        TestClient(create_app(chosen, ByLitestar), raise_server_exceptions=False) as other,
    ):
        yield client, other


def seen(client, method, url, **headers):
    """What a client sees of an answer."""
    answer = client.request(method, url, headers=headers)
    headers = [(name, value) for name, value in answer.headers.raw if name != b"allow"]  # a set
    return answer.status_code, sorted(headers), answer.content


IDS = [
    "47",
    "16",
    "999",
    "u47",
    "t50",
    "007",
    "-1",
    "",
    "9007199254740991",
    "9007199254740992",
    "%37",
]
USER = st.sampled_from([f"user_id={text}" for text in [*IDS, "a" * 257, "ä", "4 7", "4+7"]])
NUMBERS = [
    "1",
    "10",
    "100",
    "101",
    "1000",
    "1001",
    "0",
    "-1",
    "01",
    "1e1",
    "x",
    "",
    "9999",
    "10000",
]
COUNT = st.builds("{}={}".format, st.sampled_from(["k", "N"]), st.sampled_from(NUMBERS))
OTHER = st.sampled_from(
    ["item_id=50", "item_id=t50", "item_id=", "explain=true", "events=50", "a", ""]
)
QUERY = st.one_of(
    USER,
    st.builds("{}&{}".format, USER, COUNT),
    st.builds("{}&k=10&{}".format, USER, COUNT),
    st.builds("{}&{}".format, USER, OTHER),
    st.lists(USER | COUNT | OTHER, max_size=4).map("&".join),
)
PATHS = ["/recommendations", "/get_online_u2i", "/put_user_event"]
PATH = st.sampled_from([*PATHS, "/recommendations/", "/RECOMMENDATIONS", "//recommendations"])


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS"]), PATH, QUERY)
def test_any_request_has_the_answer_that_litestar_gives(both, method, path, query):
    client, other = both
    assert seen(client, method, f"{path}?{query}") == seen(other, method, f"{path}?{query}")
    for call in ("/get_statistics", "/get_user_events?user_id=47", "/get_user_events?user_id=u47"):
        assert seen(client, "GET", call) == seen(other, "GET", call)


TYPED = ["thunder", "ac/dc", "a", "юн", "7", "47", "!!!", 'a"b AND', " ", "ё" * 256, "x" * 257]
SENT = ["%41c", "%", "%zz", "%D1%91", "%FF", "a;b", "a+b", "+", "a=b", "ё", "a'b", "%00", "\u0131"]
WORDS = st.sampled_from(TYPED).map(quote_plus) | st.sampled_from(SENT) | st.text().map(quote_plus)
SOUGHT = st.builds("q={}{}".format, WORDS, st.sampled_from(["", "&limit=10", "&limit=50"]))
LIMIT = st.sampled_from([f"limit={number}" for number in [*NUMBERS, "51"]])
MORE = st.sampled_from(["kind=track", "kind=any", "kind=x", "q=b", "limit=2", "other=1", "", "q"])


@pytest.fixture(scope="module")
def searched(finished):
    """The same two services on a release with names, where keys are set."""
    keys = {"admin_key": "the-key-for-all", "read_key": "the-key-for-read"}
    chosen = Settings(work=finished, journal="off", log_level="WARNING", **keys)
    with (
        TestClient(create_app(chosen), raise_server_exceptions=False) as client,
        TestClient(create_app(chosen, ByLitestar), raise_server_exceptions=False) as other,
    ):
        yield client, other


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["GET", "GET", "POST", "HEAD"]),
    st.sampled_from(["/search", "/search", "/search/", "//search"]),
    SOUGHT
    | st.builds("{}&{}".format, SOUGHT, LIMIT | MORE)
    | st.builds("q={}&{}".format, WORDS, LIMIT),
    st.sampled_from(["the-key-for-all", "the-key-for-read", "another"]),
)
def test_any_search_finds_what_it_finds_by_litestar(searched, method, path, query, key):
    ours, theirs = (
        seen(client, method, f"{path}?{query}", **{"X-API-Key": key}) for client in searched
    )
    if unquote_plus(query).partition("=")[2].partition("&")[0].strip() and "&q" not in query:
        assert ours == theirs
    else:  # listeners are drawn at random
        assert ours[:2] == theirs[:2] or ours[0] == theirs[0] == 200


@pytest.fixture
def work(tmp_path):
    releases.make(tmp_path)
    return tmp_path


def test_plain_requests_do_not_reach_litestar(work, monkeypatch):
    with TestClient(create_app(Settings(work=work, journal="off"))) as client:

        async def refuse(*_):
            raise AssertionError("a plain request reached Litestar")

        monkeypatch.setattr(Application.__base__, "__call__", refuse)
        for k in ("", "&k=1", "&k=1000"):
            assert client.get(f"/recommendations?user_id=47{k}").status_code == 200
        for more in ("", "&k=1", "&N=100", "&k=100&N=1"):
            assert client.get(f"/get_online_u2i?user_id=47{more}").status_code == 200
        assert client.post("/put_user_event?user_id=47&item_id=50").json() == {"result": "ok"}
        for more in ("", "&limit=50"):
            assert client.get(f"/search?q=%D1%91+a{more}").status_code == 200


@pytest.mark.parametrize("fault", [JournalError("the disk is full"), ValueError("a fault")])
@pytest.mark.parametrize("kind", [Application, ByLitestar])
def test_an_event_that_cannot_be_stored_is_refused_and_tried_once(work, monkeypatch, fault, kind):
    tried = []
    app = create_app(Settings(work=work, journal="off"), kind)
    with TestClient(app, raise_server_exceptions=False) as client:

        async def fail(user, track):
            tried.append((user, track))
            raise fault

        monkeypatch.setattr(app.service.store, "put", fail)
        status, _, content = seen(client, "POST", "/put_user_event?user_id=47&item_id=50")
    assert tried == [(47, 50)]
    assert (status, content) == (
        (503, b'{"status_code":503,"detail":"the disk is full"}')
        if isinstance(fault, JournalError)
        else (500, b'{"status_code":500,"detail":"internal error"}')
    )


def test_without_a_release_a_plain_request_says_why(tmp_path):
    answers = []
    for kind in (Application, ByLitestar):
        app = create_app(Settings(work=tmp_path, journal="off"), kind)
        with TestClient(app) as client:
            answers.append(seen(client, "GET", "/recommendations?user_id=47"))
    assert answers[0] == answers[1]
    assert answers[0][0] == 503
