"""What the calls answer, through HTTP, on the world of tests/releases.py."""

import json
import logging
import multiprocessing
from contextlib import contextmanager
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from api.app import create_app
from api.release import kernels, taste
from api.release.catalog import Catalog
from api.release.recommender import Recommender
from api.service import Service
from api.settings import Settings
from jobs.contract import top_k_kernels
from jobs.contract.blending import RECENT_EVENTS
from tests.support import releases
from tests.support.ties import by_tie

UNKNOWN = 987654321  # a track that no release knows


@contextmanager
def client_of(work, journal="off", **chosen):
    app = create_app(Settings(work=work, journal=journal, log_level="WARNING", **chosen))
    with TestClient(app, raise_server_exceptions=False) as client:
        client.answer = lambda path, method="GET", **params: _ok(client, method, path, params)
        client.put = lambda user, *items: [
            client.answer("/put_user_event", "POST", user_id=user, item_id=i) for i in items
        ]
        client.recs = lambda user, **params: client.answer(
            "/recommendations", user_id=user, **params
        )["recs"]
        yield client


def _ok(client, method, path, params):
    answer = client.request(method, path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    releases.make(work)
    return work


@pytest.fixture
def client(work):
    with client_of(work) as client:
        yield client


@pytest.mark.parametrize(
    ("blending", "answer"),
    [
        ({"rule": "alternate"}, [13, 30, 12, 31, 32, 1, 2, 3]),
        (
            {"rule": "weighted", "half_life": 1, "offline_half_life": 2, "offline_half_place": 2},
            [30, 13, 12, 31, 32, 1, 2, 3],
        ),
    ],
)
def test_the_example_of_the_readme_comes_out_as_worked_by_hand(tmp_path, blending, answer):
    releases.make(
        tmp_path,
        tracks=[1, 2, 3, 10, 11, 12, 13, 20, 30, 31, 32],
        top=[1, 2, 3, 30],
        final={7: [30, 31, 32]},
        heard={7: [11]},
        similar={10: {11: 0.9, 12: 0.8, 13: 0.4}, 20: {13: 0.7, 30: 0.6, 10: 0.5}},
        blending=blending,
    )
    with client_of(tmp_path) as client:
        client.put(7, 10, 20)
        assert client.answer("/get_online_u2i", user_id=7)["recs"] == [13, 12, 30]
        assert client.recs(7, k=8) == answer


@pytest.mark.parametrize("path", ["/recommendations", "/get_online_u2i", "/get_user_events"])
def test_get_and_post_answer_the_same(client, path):
    client.put(16, 250)
    answers = [client.answer(path, method, user_id=16) for method in ("GET", "POST")]
    assert answers[0] == answers[1] != {"recs": []}


@pytest.mark.parametrize("k", [1, 2, 10, 99, 100, 101, 297])
@pytest.mark.parametrize("user", [47, 16, 9])
def test_k_is_honoured_with_and_without_events(client, k, user):
    heard = {*releases.HEARD.get(user, [])}
    for items in ([], [4, 5], [UNKNOWN, *range(20, 30)]):
        client.put(user, *items)
        heard.update(items)
        recs = client.recs(user, k=k)
        assert len(recs) == len(set(recs)) == min(k, 300 - len(heard - {UNKNOWN}))


def test_a_list_goes_on_with_the_top_list_where_k_asks_for_more(client):
    recs = client.recs(47, k=1000)
    assert recs[:100] == [*releases.FINAL[47]]
    assert recs[100:] == [t for t in releases.TOP if t not in {1, 2, 3, *releases.FINAL[47]}]


def test_what_was_just_played_and_what_was_ever_heard_stays_away(client):
    client.put(47, 200, 4)
    recs = client.recs(47, k=1000)
    assert not {1, 2, 3, 4, 200}.intersection(recs)
    assert not {1, 2, 3, 4, 200}.intersection(client.answer("/get_online_u2i", user_id=47)["recs"])


def test_where_heard_tracks_are_included_only_the_last_few_events_stay_away(tmp_path):
    releases.make(tmp_path, heard_rule="include")
    with client_of(tmp_path, recent_events=2) as client:
        client.put(47, 150, 151, 152)
        recs = client.recs(47, k=1000)
        assert {1, 2, 3, 150}.issubset(recs)
        assert not {151, 152}.intersection(recs)


# User 47 dislikes the first tracks of the final list, of the top list, and neighbours of track 150;
# user 8 is known by a dislike only.
DISLIKED = {47: [5, 151, 152, 199, 200], 8: [1, 151]}


@pytest.fixture(params=["exclude", "include"])
def heard(request):
    return request.param


@pytest.fixture(params=[releases.INTEGERS, releases.TEXTS])
def named(request):
    """What ids of a release are called in calls, by the numbers that they have in the tests."""
    return (lambda n: n) if request.param == releases.INTEGERS else releases.named


@pytest.fixture(params=["alternate", "weighted", "offline", "only fold_in"])
def disliking(request, tmp_path, heard, named):
    """A client of a release in which some users dislike tracks, by each rule, with all sources.

    There is one more whose rule is weighted and has one source only.
    """
    blending = {"rule": request.param, "sources": ["similar", "next_played", "fold_in"]}
    if request.param == "only fold_in":
        blending = {"rule": "weighted", "sources": ["fold_in"]}
    text = releases.TEXTS if named is releases.named else releases.INTEGERS
    releases.make(tmp_path, disliked=DISLIKED, heard_rule=heard, blending=blending, text=text)
    with client_of(tmp_path) as client:
        yield client


def test_what_somebody_dislikes_is_in_none_of_their_answers(disliking, heard, named):
    for user, disliked in DISLIKED.items():
        out = {*map(named, disliked)}
        for events in ([], [150], [151]):
            disliking.put(named(user), *map(named, events))
            for k in (1, 100, 1000):
                recs = disliking.recs(named(user), k=k)
                assert recs and not out & {*recs}
            u2i = disliking.answer("/get_online_u2i", user_id=named(user), N=100)["recs"]
            assert bool(u2i) == bool(events)
            assert not out & {*u2i}
    gone = {*range(1, 301)} - {*DISLIKED[47], 150, 151}
    gone -= {1, 2, 3} if heard == "exclude" else {*()}
    assert {*disliking.recs(named(47), k=1000)} == {*map(named, gone)}
    assert named(151) in disliking.recs(named(16), k=1000)  # whoever dislikes nothing


def compiled_forms():
    """How many forms of the service's loops are compiled; each takes seconds once."""
    loops = [loop for part in (kernels, taste, top_k_kernels) for loop in vars(part).values()]
    return sum(len(loop.signatures) for loop in loops if hasattr(loop, "signatures"))


def test_no_call_waits_for_a_compiler(disliking, named):
    at_start = compiled_forms()
    for user in (47, 16, *DISLIKED, 999):
        for events in ([], [UNKNOWN], [150]):
            disliking.put(named(user), *map(named, events))
            disliking.recs(named(user), k=1)
            disliking.recs(named(user), k=1000)
            disliking.recs(named(user), explain=True)
            disliking.recs(named(user), events=[named(151)])
            disliking.answer("/get_online_u2i", user_id=named(user))
    assert compiled_forms() == at_start


def test_a_track_near_several_events_comes_first(client):
    client.put(9, 50, 52)  # 53 is the first neighbour of 52 and the third of 50
    assert client.answer("/get_online_u2i", user_id=9, N=10)["recs"][0] == 53


def test_only_the_last_k_events_bring_n_neighbours_each(client):
    assert client.answer("/get_online_u2i", user_id=9) == {"recs": []}
    client.put(9, 50, 150, 250)
    u2i = [client.answer("/get_online_u2i", user_id=9, k=2, N=n)["recs"] for n in (1, 2)]
    assert u2i == [by_tie([151, 251]), by_tie([151, 251]) + by_tie([152, 252])]


@pytest.mark.parametrize("path", ["/get_online_u2i", "/recommendations"])
def test_neighbours_that_were_heard_take_no_place_of_others(tmp_path, path):
    releases.make(
        tmp_path,
        tracks=range(1, 10),
        top=[9],
        final={},
        heard={47: [4]},
        similar={1: {2: 0.9, 3: 0.8, 4: 0.7, 5: 0.6, 6: 0.5}},
        blending={"events": 1, "neighbours": 1},
    )
    with client_of(tmp_path) as client:
        client.put(47, 7, 8, 3, 2, 1)  # the first three neighbours of 1 were heard
        limits = {"k": 1, "N": 1} if path == "/get_online_u2i" else {"k": 1}
        assert client.answer(path, user_id=47, **limits) == {"recs": [5]}


def test_release_and_settings_choose_the_blending(tmp_path):
    releases.make(tmp_path, blending={"rule": "alternate", "sources": ["next_played"], "events": 1})
    with client_of(tmp_path) as client:
        client.put(9, 250, 150)
        assert client.recs(9, k=4) == [149, 1, 2, 3]
    with client_of(tmp_path, online_source=("similar",), online_events=2) as client:
        client.put(9, 250, 150)
        first, second = by_tie([151, 251])  # they have equal scores
        assert client.recs(9, k=4) == [first, 1, second, 2]
    with client_of(tmp_path, blending="offline") as client:
        client.put(9, 250, 150)
        assert client.recs(9, k=4) == [1, 2, 3, 4]


def test_a_manifest_of_before_the_sources_were_a_list_is_served(tmp_path):
    old = {"rule": "weighted", "source": "next_played+fold_in", "events": 5, "neighbours": 50}
    catalog = Catalog(releases.make(tmp_path, blending=old), {})
    assert catalog.blending.sources == ("next_played", "fold_in")
    assert catalog.blending.neighbours == 50


def test_an_unknown_track_is_a_listen_that_brings_no_neighbours(client):
    before = client.recs(47)
    client.put(47, UNKNOWN)
    assert client.recs(47) == before
    assert client.answer("/get_online_u2i", user_id=47) == {"recs": []}
    assert client.answer("/get_user_events", user_id=47) == {"events": [UNKNOWN]}


def test_no_more_events_and_users_are_kept_than_the_settings_say(work):
    with client_of(work, events_per_user=10, max_users=2) as client:
        client.put(1, *range(11))
        assert client.answer("/get_user_events", user_id=1, k=100)["events"] == [*range(10, 0, -1)]
        client.put(2, 5)
        client.put(1, 5)
        client.put(3, 5)  # the third user: 2 is the least recently active
        assert client.answer("/get_user_events", user_id=2) == {"events": []}
        ready = client.answer("/health/ready")
        assert (ready["users_with_events"], ready["evicted_users"]) == (2, 1)


def test_statistics_count_by_final_list_and_only_recommendations(client):
    client.put(9, 5)  # events make no one personal
    for user in (47, 9, 9, 16, 47000000000):
        client.recs(user)
    client.answer("/get_online_u2i", user_id=47)
    client.get("/recommendations", params={"user_id": -1})
    assert client.answer("/get_statistics") == {
        "request_personal_count": 2,
        "request_default_count": 3,
    }


def test_a_batch_gives_each_user_what_they_are_given_alone_and_counts_them(client):
    users = [47, 9, 16, 47, 47000000000, *range(2000, 2995)]
    client.put(9, 5, 6)
    before = client.answer("/get_statistics")
    answer = client.post("/recommendations/batch", json={"user_ids": users, "k": 7})
    after = client.answer("/get_statistics")
    assert answer.status_code == 200
    assert answer.json() == {"recs": [client.recs(user, k=7) for user in users]}
    assert [after[name] - before[name] for name in before] == [3, 997]
    answer = client.post("/recommendations/batch", json={"user_ids": [47]})
    assert answer.json() == {"recs": [client.recs(47)]}


def test_an_error_of_ours_is_logged_and_never_served_as_a_cold_answer(client, monkeypatch, caplog):
    monkeypatch.setattr(Catalog, "final", lambda *_: 1 / 0)
    with caplog.at_level(logging.ERROR, "api"):
        answer = client.get("/recommendations", params={"user_id": 47})
    assert (answer.status_code, answer.json()["detail"]) == (500, "internal error")
    assert "ZeroDivisionError" in caplog.text
    assert client.answer("/get_statistics")["request_default_count"] == 0


def test_without_a_release_events_and_health_answer_and_the_rest_says_why(tmp_path):
    with client_of(tmp_path) as client:
        client.put(47, 5)
        assert client.answer("/get_user_events", user_id=47) == {"events": [5]}
        assert client.answer("/health/live") == {"status": "ok"}
        for path in ("recommendations", "get_online_u2i", "load_recommendations", "health/ready"):
            answer = client.get(path, params={"user_id": 47})
            assert answer.status_code == 503
            assert "current is missing: run python -m jobs.publish" in answer.json()["detail"]
        assert client.get("/load_recommendations", params={"release": "x"}).status_code == 404
        releases.make(tmp_path)
        assert client.answer("/load_recommendations")["previous"] is None
        assert len(client.recs(47)) == 100


def test_one_of_several_workers_says_that_events_are_its_own(work, monkeypatch, caplog):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "a supervisor")
    with client_of(work):
        assert "each keeps its own events and counters" in caplog.text


@pytest.fixture(scope="module", params=range(3))
def random_world(request, tmp_path_factory):
    """A release of random lists over 26 tracks, for 30 users, and what it was made from."""
    random = Random(request.param)
    some = lambda most: random.sample(range(26), random.randint(0, most))  # noqa: E731
    lists = {
        "top": some(26),
        "final": {user: some(12) for user in range(30)},
        "heard": {user: some(8) for user in range(20)},
        "similar": {
            track: {near: 1 - rank / 16 for rank, near in enumerate(some(10))}
            for track in random.sample(range(26), 20)
        },
    }
    cut = {"neighbours": random.choice([2, 4, 20])}
    work = tmp_path_factory.mktemp("work")
    folder = releases.make(work, tracks=range(26), blending=cut, **lists)
    # At last come the tracks that nobody has played (test_serving_arrays has their order).
    lists["rest"] = np.load(folder / "serving/top_items.npy").tolist()[len(lists["top"]) :]
    return Catalog(folder, {}), lists


@settings(max_examples=60, deadline=None)
@given(
    user=st.integers(0, 31), events=st.lists(st.integers(0, 30), max_size=15), k=st.integers(1, 30)
)
def test_any_answer_is_what_a_plain_reading_of_the_rules_gives(random_world, user, events, k):
    catalog, lists = random_world
    service = Service(Settings(journal="off"))
    service.releases.recommender = Recommender(catalog, RECENT_EVENTS)
    for item in events:
        service.store.add(user, item)

    gains = {}
    heard = {*lists["heard"].get(user, []), *events}
    for item in events[-10:]:
        near = lists["similar"].get(item, {})
        allowed = [(track, score) for track, score in near.items() if track not in heard]
        for track, score in allowed[: catalog.blending.neighbours]:
            gains[track] = gains.get(track, 0) + score
    online = sorted(by_tie(gains), key=lambda t: -gains[t])
    offline = [*lists["final"].get(user, []), *lists["top"], *lists["rest"]]
    turns = [[t for t in side if t not in heard] for side in (online, offline)]
    expected = []
    while any(turns):
        for side in turns:
            while side and side[0] in expected:
                side.pop(0)
            if side:
                expected.append(side.pop(0))
    assert json.loads(service.recommend(user, k)) == expected[:k]
