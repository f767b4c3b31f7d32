"""Text ids through HTTP: any order of calls, what is refused, and other releases."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from api.app import create_app
from api.release import keys
from api.settings import Settings
from jobs.contract import ids
from jobs.contract.ids import flaw_of
from jobs.contract.storage import JobError
from jobs.contract.text_ids import Kinds
from jobs.data import tombstones
from tests.api.release.test_answers import client_of
from tests.api.test_states import ThroughHttp
from tests.support import releases
from tests.support.releases import TEXTS, named

MIXED = Kinds("text", "integer")
USER_KEYS = {"user_id", "user_ids"}
NUMBER = {named(number): number for number in range(3000)}


class Renaming:
    """A client whose callers use whole numbers, and whose service has text ids."""

    def __init__(self, client, kinds):
        self._client, self._kinds = client, kinds

    def answer(self, path, method="GET", **parameters):
        sent = {name: self._text(name, value) for name, value in parameters.items()}
        found = self._client.answer(path, method, **sent)
        return self._number(found) if "statistics" not in path else found

    def put(self, user, *items):
        for item in items:
            self.answer("/put_user_event", "POST", user_id=user, item_id=item)

    def post(self, path, json):
        sent = {name: self._text(name, value) for name, value in json.items()}
        return Answer(self._number(self._client.post(path, json=sent).json()))

    def _text(self, name, value):
        if isinstance(value, list):
            return [self._text(name, one) for one in value]
        if name in USER_KEYS:
            return named(value) if self._kinds.users == "text" else value
        track = name in ("item_id", "events", "ids")
        return named(value) if track and self._kinds.tracks == "text" else value

    def _number(self, found):
        if isinstance(found, dict):
            return {key: self._number(value) for key, value in found.items()}
        if isinstance(found, list):
            return [self._number(one) for one in found]
        return NUMBER.get(found, found) if isinstance(found, str) else found


class Answer:
    def __init__(self, content):
        self._content = content

    def json(self):
        return self._content


class WithText(ThroughHttp):
    """The same machine on releases with text ids."""

    kinds = TEXTS

    def restart(self):
        super().restart()
        self.client = Renaming(self.client, self.kinds)


@pytest.mark.parametrize("kinds", [TEXTS, MIXED], ids=["text", "mixed"])
def test_any_order_of_calls_keeps_the_promises_with_text_ids(tmp_path, kinds):
    releases.make(tmp_path, "second", heard_rule="include", text=kinds)
    releases.make(tmp_path, "first", text=kinds)
    machine = type("Machine", (WithText,), {"work": tmp_path, "kinds": kinds})
    machine.TestCase.settings = settings(max_examples=6, stateful_step_count=25, deadline=None)
    machine.TestCase().runTest()


def test_ids_with_equal_bits_are_told_apart_by_their_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(ids, "BITS", 9)  # 300 tracks have 512 numbers
    numbers = [ids.number_of(named(track).encode()) for track in releases.TRACKS]
    assert len({*numbers}) < 250
    monkeypatch.setattr(releases, "_MADE", {})
    releases.make(tmp_path, "first", text=TEXTS)
    with client_of(tmp_path) as client:
        answer = client.answer("/recommendations", user_id=named(47), k=100)
        assert answer["recs"] == [named(track) for track in releases.FINAL[47]]
        for track in releases.TRACKS:
            found = client.answer("/tracks", ids=named(track))["tracks"]
            assert [one["name"] for one in found] == [f"track {track}"]
        unknown = [f"unknown {i}" for i in range(100)]
        assert client.answer("/tracks", ids=unknown)["unknown"] == unknown


def test_places_are_found_anew_when_more_tracks_were_asked_for_than_are_remembered(monkeypatch):
    monkeypatch.setattr(keys, "REMEMBERED", 3)
    asked = []

    def place(text):
        asked.append(text)
        return len(text)

    places = keys.Places(place)
    order = ["a", "bb", "a", "ccc", "dddd", "a"]
    assert [places[text] for text in order] == [1, 2, 1, 3, 4, 1]
    assert asked == ["a", "bb", "ccc", "dddd", "a"] and len(places) <= 3


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    work = tmp_path_factory.mktemp("text")
    releases.make(work, text=TEXTS)
    with client_of(work, journal="off") as client:
        yield client


EXPECTED = "expected text of 1 to 256 bytes in UTF-8 without control characters, found "


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("user_id=", f"user_id: {EXPECTED}''"),
        ("user_id=a%00b", f"user_id: {EXPECTED}'a\\x00b'"),
        ("user_id=a%C2%85", f"user_id: {EXPECTED}'a\\x85'"),
        ("user_id=" + "x" * 257, f"user_id: {EXPECTED}'{'x' * 40}'"),
        ("user_id=" + quote("ж" * 129), f"user_id: {EXPECTED}'{'ж' * 40}'"),
        ("user_id=%FF", "user_id: expected UTF-8 in percent-encoding"),
        ("user_id=%ED%A0%80", "user_id: expected UTF-8 in percent-encoding"),
        ("user_id=x&events=", "events: expected track ids, texts of 1 to 256 bytes"),
        ("user_id=&k=0", f"user_id: {EXPECTED}''; k: expected a whole number from 1 to 1000"),
        ("", f"user_id: {EXPECTED.removesuffix(', found ')}, or events without a user, missing"),
    ],
)
def test_what_is_no_text_id_is_refused_and_named(service, query, detail):
    answer = service.get(f"/recommendations?{query}")
    assert answer.status_code == 400
    assert detail in answer.json()["detail"]


def test_ids_are_compared_byte_by_byte(service):
    """Neither case nor white space nor the form of a character is changed, nor zeros before 7."""
    alike = [
        "u7",
        "U7",
        " u7",
        "u7 ",
        "u 7",
        "007",
        "7",
        "7.0",
        "é",
        "e\u0301",
        "%37",
        "a+b",
        "a b",
    ]
    for place, user in enumerate(alike):
        service.put(user, named(place + 1))
    for place, user in enumerate(alike):
        assert service.answer("/get_user_events", user_id=user)["events"] == [named(place + 1)]


@given(st.text(max_size=300))
@settings(max_examples=60)
def test_every_text_is_taken_as_it_is_or_refused(service, text):
    sent = text.encode("utf-8", "surrogatepass")
    url = f"/put_user_event?user_id={quote(sent, safe='')}&item_id={quote(sent, safe='')}"
    answer = service.post(url)
    assert answer.status_code == (200 if flaw_of(text) is None else 400)
    if flaw_of(text) is None:
        found = service.get(f"/get_user_events?user_id={quote(text, safe='')}&k=1")
        assert found.json() == {"events": [text]}


def test_a_batch_counts_ids_and_may_be_larger_where_they_are_text(service):
    users = ["ж" * 128] * 1000
    answer = service.post("/recommendations/batch", json={"user_ids": users, "k": 1})
    assert answer.status_code == 200
    assert answer.json()["recs"] == [[named(1)]] * 1000
    answer = service.post("/recommendations/batch", json={"user_ids": ["x" * 300_000] * 4})
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "body: expected at most 1048576 bytes",
    )


@pytest.mark.parametrize(
    ("kinds", "body", "detail"),
    [
        (TEXTS, {"user_ids": ["a", 5]}, "user_ids[1]: Expected `str`, got `int`; expected"),
        (TEXTS, {"user_ids": ["a\t"]}, "user_ids[0]: the text has a control character; expected"),
        (TEXTS, {"user_ids": ["a"], "events": [7]}, "events[0]: Expected `str`, got `int`"),
        (TEXTS, {"user_ids": [None]}, "user_ids[0]: Expected `str`, got `null`"),
        (MIXED, {"user_ids": ["a"], "events": ["x"]}, "events[0]: Expected `int`, got `str`"),
        (MIXED, {"user_ids": [7]}, "user_ids[0]: Expected `str`, got `int`"),
    ],
)
def test_ids_of_the_wrong_kind_in_a_body_are_refused(tmp_path, kinds, body, detail):
    releases.make(tmp_path, text=kinds)
    with client_of(tmp_path, journal="off") as client:
        answer = client.post("/recommendations/batch", json=body)
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith(f"body: {detail}")
        if "events" in body:
            answer = client.post("/recommendations?user_id=a", json={"events": body["events"]})
            assert answer.status_code == 400 and "`$.events[0]`" in answer.json()["detail"]


def test_text_where_the_release_has_whole_numbers_is_refused(tmp_path):
    releases.make(tmp_path)
    with client_of(tmp_path) as client:
        answer = client.get("/recommendations?user_id=u7")
    expected = "user_id: expected a whole number from 0 to 9007199254740991, found 'u7'"
    assert (answer.status_code, answer.json()["detail"]) == (400, expected)


def types_of(schema):
    """The types of a user, a track and a list of tracks in a description of the calls."""
    calls, parts = schema["paths"], schema["components"]["schemas"]
    put = {p["name"]: p["schema"] for p in calls["/put_user_event"]["post"]["parameters"]}
    wanted = parts["ListsWanted"]["properties"]["user_ids"]["items"]
    recs = parts["Recommendations"]["properties"]["recs"]["items"]
    assert put["user_id"]["type"] == wanted["type"]
    assert put["item_id"]["type"] == parts["NamedTrack"]["properties"]["track_id"]["type"]
    return put["user_id"]["type"], recs["type"]


@pytest.mark.parametrize(
    ("kinds", "types"),
    [(Kinds(), ("integer", "integer")), (TEXTS, ("string", "string")),
     (MIXED, ("string", "integer"))],
)  # fmt: skip
def test_the_description_of_the_calls_follows_the_release(tmp_path, kinds, types):
    releases.make(tmp_path, text=kinds)
    with client_of(tmp_path, journal="off") as client:
        schema = client.get("/schema/openapi.json").json()
        assert types_of(schema) == types
        access = client.answer("/access")
    assert access.get("ids") == (None if kinds == Kinds() else kinds._asdict())
    if kinds == TEXTS:
        text = json.dumps(schema["components"]["schemas"]["ListsWanted"])
        assert '"integer"' in text and "679169, " not in text  # k is a number; examples are text


def open_service(work, **options):
    return TestClient(create_app(Settings(work=work, log_level="CRITICAL", **options)))


@pytest.mark.parametrize("journal", ["normal", "off"])
def test_a_release_with_other_kinds_is_refused_once_there_are_events(tmp_path, journal):
    releases.make(tmp_path, "numbers")
    releases.make(tmp_path, "texts", text=TEXTS)
    with open_service(tmp_path, journal=journal) as client:
        # without events, releases of all kinds may follow each other
        for release, user in (("numbers", 47), ("texts", quote(named(47))), ("numbers", 16)):
            assert client.get(f"/load_recommendations?release={release}").status_code == 200
            assert client.get(f"/recommendations?user_id={user}&k=1").status_code == 200
        assert client.get("/load_recommendations?release=texts").status_code == 200
        assert client.post("/put_user_event?user_id=u7&item_id=t5").status_code == 200
        refused = client.get("/load_recommendations?release=numbers")
        assert refused.status_code == 409
        assert "--user-ids and --track-ids" in refused.json()["detail"]
        assert client.get("/get_user_events?user_id=u7").json() == {"events": ["t5"]}
    if journal == "normal":
        releases.make(tmp_path, "numbers")  # current points to it
        with open_service(tmp_path) as client:
            assert client.get("/recommendations?user_id=7").status_code == 503
            # events are still taken, with the kinds that the journal has
            assert client.post("/put_user_event?user_id=u7&item_id=t6").status_code == 200
            assert client.get("/get_user_events?user_id=u7").json() == {"events": ["t6", "t5"]}


def test_whoever_was_forgotten_stays_so_in_every_release_and_after_a_restart(tmp_path):
    releases.make(tmp_path, "first", text=TEXTS)
    releases.make(tmp_path, "second", text=TEXTS, activate=False)
    user, other = (quote(named(number), safe="") for number in (47, 16))
    with open_service(tmp_path) as client:
        client.post(f"/put_user_event?user_id={user}&item_id=x")
        receipt = client.post(f"/forget_user?user_id={user}").json()
        assert (receipt["user_id"], receipt["events"], receipt["final_list"]) == (named(47), 1, 100)
    for release in ("second", "first"):
        with open_service(tmp_path) as client:
            assert client.get(f"/load_recommendations?release={release}").status_code == 200
            recs = client.get(f"/recommendations?user_id={user}&k=2").json()["recs"]
            assert recs == [named(1), named(2)]  # as anyone new
            assert client.get(f"/user?user_id={user}").json()["known"] is False
            assert client.get(f"/search?kind=user&q={user}").json()["users"] == []
            recs = client.get(f"/recommendations?user_id={other}&k=1").json()["recs"]
            assert recs == [named(101)]
    state = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert named(47).encode() not in state


def test_a_lost_key_is_never_replaced_by_a_new_one(tmp_path):
    releases.make(tmp_path, text=TEXTS)
    user, other = (quote(named(number), safe="") for number in (47, 16))
    with open_service(tmp_path) as client:
        assert client.post(f"/put_user_event?user_id={other}&item_id=x").status_code == 200
        assert client.post(f"/forget_user?user_id={user}").status_code == 200
    key = tmp_path / "state" / "forgotten.key"
    backup = key.read_bytes()
    key.unlink()
    with open_service(tmp_path) as client:
        refused = client.post(f"/forget_user?user_id={other}")
        assert refused.status_code == 503
        assert "forgotten.key can't be read" in refused.json()["detail"]
        assert not key.exists()
    key.write_bytes(bytes(len(backup)))  # of another folder, say
    with open_service(tmp_path) as client:
        refused = client.post(f"/forget_user?user_id={other}")
        assert refused.status_code == 503
        assert "is not the key of forgotten.db" in refused.json()["detail"]
        assert client.get(f"/recommendations?user_id={user}").status_code == 503
    with pytest.raises(JobError, match=r"is not the key of forgotten\.db"):
        tombstones.read(tmp_path / "state" / "forgotten.db")
    key.write_bytes(backup)
    with open_service(tmp_path) as client:
        assert client.post(f"/forget_user?user_id={other}").status_code == 200
        for user_id in (user, other):
            assert client.get(f"/user?user_id={user_id}").json()["known"] is False


def test_another_process_obeys_a_request_to_be_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr("api.events.tombstones.TOMBSTONE_POLL_SECONDS", 0.05)
    releases.make(tmp_path, text=TEXTS)
    user = quote(named(47), safe="")
    with open_service(tmp_path) as one, open_service(tmp_path) as two:
        assert one.post(f"/put_user_event?user_id={user}&item_id=x").status_code == 200
        assert two.post(f"/forget_user?user_id={user}").status_code == 200
        for _ in range(200):
            if one.get(f"/get_user_events?user_id={user}").json() == {"events": []}:
                break
        recs = one.get(f"/recommendations?user_id={user}&k=1").json()["recs"]
        assert recs == [named(1)]


def test_listeners_are_found_by_the_beginning_of_their_id(service):
    found = service.answer("/search", kind="user", q="№ ")["users"]
    assert [user["user_id"] for user in found] == sorted(map(named, releases.FINAL))
    found = service.answer("/search", kind="user", q=named(47))["users"]
    assert found == [{"user_id": named(47), "listens": 3}]
    assert service.answer("/search", kind="user", q="ne")["users"] == []
    assert service.answer("/search", kind="track", q=named(5))["tracks"][0]["name"] == "track 5"


def test_the_longest_ids_are_found_by_typing_them(tmp_path, monkeypatch):
    monkeypatch.setattr(releases, "named", lambda number: f"{number:0{ids.LONGEST}d}")
    # Listens of their own, since a release with the same content is made once in a process.
    releases.make(tmp_path, text=TEXTS, heard={47: [1, 2]})
    with open_service(tmp_path) as client:
        found = client.get(f"/search?q={47:0{ids.LONGEST}d}").json()
    assert [user["listens"] for user in found["users"]] == [2]
    assert found["tracks"][0]["name"] == "track 47"
