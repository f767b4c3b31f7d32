"""Events that a request brings along: the answer after them, without a trace of them."""

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.service import Service
from api.settings import Settings
from tests.api.release.test_answers import UNKNOWN, client_of
from tests.support import releases

TRACK = st.sampled_from([*range(1, 40), 150, 250, UNKNOWN])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    releases.make(work, blending={"rule": "weighted", "sources": ["similar", "next_played"]})
    return work


@pytest.fixture
def client(work):
    with client_of(work) as client:
        yield client


@settings(max_examples=60)
@given(
    user=st.sampled_from([47, 16, 9]),
    stored=st.lists(TRACK, max_size=6),
    new=st.lists(TRACK, max_size=6),
    k=st.integers(1, 120),
)
def test_the_answer_is_the_one_after_the_events_were_put(work, user, stored, new, k):
    service = Service(Settings(work=work, journal="off", events_per_user=5, log_level="WARNING"))
    asyncio.run(service.releases.load())
    for item in stored:
        service.store.add(user, item)
    before = service.recommend(user, k)
    supposed = service.try_events(user, k, new)
    explained, _ = service.explain(user, k, new)
    assert service.recommend(user, k) == before
    for item in reversed(new):
        service.store.add(user, item)
    assert supposed == explained == service.recommend(user, k)


def test_someone_without_an_id_gets_what_a_new_user_gets(client):
    client.put(999, 7, 5)
    for body, query in (({}, "&events=5&events=7"), ({"events": [5, 7]}, "")):
        answer = client.post(f"/recommendations?k=20{query}", json=body)
        assert answer.json()["recs"] == client.recs(999, k=20)
    assert client.get("/recommendations?k=9&events=5&events=7").json()["recs"] == client.recs(
        999, k=9
    )
    nothing = client.post("/recommendations?k=5", json={"events": []}).json()
    assert nothing["recs"] == client.recs(998, k=5)


def test_a_batch_takes_events_for_each_of_its_users(client):
    body = {"user_ids": [47, 16, 9], "k": 7, "events": [5, 7]}
    answer = client.post("/recommendations/batch", json=body).json()["recs"]
    assert answer == [client.recs(user, k=7, events=[5, 7]) for user in (47, 16, 9)]


def test_nothing_of_it_is_stored_counted_logged_or_remembered(client, caplog):
    caplog.set_level(logging.INFO, "api")
    recommender = client.app.state.service.releases.current()
    for query in ("user_id=47&events=5", "events=5", "user_id=47&events=5&explain=true"):
        assert client.get(f"/recommendations?{query}").status_code == 200
    client.post("/recommendations?user_id=47", json={"events": [5]})
    client.post("/recommendations/batch", json={"user_ids": [47], "events": [5]})
    assert client.answer("/get_user_events", user_id=47) == {"events": []}
    counts = {"request_personal_count": 0, "request_default_count": 0}
    assert client.answer("/get_statistics") == counts
    assert recommender.answer.cache_info().currsize == 0
    assert "reco_events_total 0.0" in client.get("/metrics").text
    assert [record for record in caplog.records if "Found" in record.message] == []


BAD = "events: expected track ids, whole numbers from 0 to 9007199254740991, found "


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("events=a", f"{BAD}'a'"),
        ("events=5&events=5.0", f"{BAD}'5.0'"),
        ("events=", f"{BAD}''"),
        ("events=-1&events=5", f"{BAD}'-1'"),
        ("events=5&events=9007199254740992", f"{BAD}'9007199254740992'"),
        ("events=" + "9" * 500, f"{BAD}'{'9' * 40}'"),
        ("&".join(["events=1"] * 101), "events: expected at most 100, found 101"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_bad_events_are_400_with_what_was_expected(client, method, query, says):
    answer = client.request(method, f"/recommendations?user_id=47&{query}")
    assert (answer.status_code, answer.json()["detail"]) == (400, says)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"events"', "body: Input data was truncated"),
        (b'["events"]', "body: Expected `object`, got `array`"),
        (b'{"events": 5}', "body: Expected `array`, got `int`"),
        (b'{"events": [5, "7"]}', "body: Expected `int`, got `str` - at `$.events[1]`"),
        (b'{"events": [-5]}', "body: Expected `int` >= 0"),
        (b'{"events": [9007199254740992]}', "body: Expected `int` <= 9007199254740991"),
        (b'\xff\xfe"events"', "body: JSON is malformed"),
        (b'{"events": ' + b"[" * 20_000, "body: "),
        (b'{"events": [' + b"1," * 100 + b"1]}", "body: Expected `array` of length <= 100"),
    ],
)
def test_a_bad_body_with_events_is_400_with_what_was_expected(client, body, says):
    headers = {"content-type": "application/json; charset=utf-8"}
    answer = client.post("/recommendations?user_id=47", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(says)
    assert '{"events": [5, 7]} with at most 100 whole numbers' in answer.json()["detail"]


def test_a_body_that_is_too_large_is_refused_even_if_its_length_is_not_said(client):
    def parts():
        yield b'{"events": ['
        for _ in range(70):
            yield b" " * 1000
        yield b"5]}"

    headers = {"content-type": "application/json"}
    answer = client.post("/recommendations?user_id=47", content=parts(), headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "body: expected at most 65536 bytes",
    )


def test_events_in_both_places_are_refused_and_so_is_neither_user_nor_events(client):
    both = client.post("/recommendations?events=5", json={"events": [5]})
    assert (both.status_code, "not both" in both.json()["detail"]) == (400, True)
    neither = client.get("/recommendations?k=5")
    assert neither.status_code == 400
    assert neither.json()["detail"].endswith("or events without a user, missing")
