"""Which user's events are read before a call is the user whom the call is about."""

from types import SimpleNamespace
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st
from litestar.datastructures import State
from litestar.testing import RequestFactory

from api.http.ids import parsed
from api.http.shared_events import user_of
from jobs.contract.text_ids import Kinds

NAMES = st.sampled_from(["user_id", "user%5Fid", "user_ids", "k", "xuser_id", "", "User_id"])
VALUES = st.one_of(
    st.integers(0, 2**54).map(str),
    st.text(max_size=8).map(lambda text: quote(text, safe="")),
    st.sampled_from(["", "+7", "007", "a+b", "1=2", "%37", "a;user_id=9", "-", "7&k"]),
)


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
    st.sampled_from([Kinds(), Kinds("text", "text")]),
)
@example([("user_id", "47"), ("user%5Fid", "9")], Kinds())
@example([("user%5Fid", "9"), ("user_id", "47")], Kinds())
def test_the_user_who_is_read_is_the_one_whom_the_call_gets(pairs, kinds):
    query = "&".join(f"{name}={value}" for name, value in pairs).encode()
    request = RequestFactory().get("/recommendations")
    request.scope["query_string"] = query
    request.scope["state"] = State()
    sent = request.query_params.getall("user_id", [])
    expected = parsed(sent[-1], kinds.users) if sent else None
    scope = {"path": "/music/recommendations/", "query_string": query}
    assert user_of(scope, kinds) == expected


def test_other_calls_read_nobody():
    for path in ("/put_user_event", "/forget_user", "/metrics", "/health/ready"):
        scope = SimpleNamespace(path=path, query_string=b"user_id=47").__dict__
        assert user_of(scope, Kinds()) is None
