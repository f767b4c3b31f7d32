"""The walk through the service that its first description gives, against a real process."""

import httpx
import pytest

from tests.support import releases
from tests.support.server import litestar_run

ROCK = [679169, 630670, 646516, 19152669, 38646012]
NEAR = {track: [*range(track + 1, track + 31)] for track in ROCK}
TRACKS = sorted({*range(1, 501), *ROCK, *(n for near in NEAR.values() for n in near)})
TOP = [*range(500, 0, -1)]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    releases.make(
        work,
        tracks=TRACKS,
        top=TOP,
        final={16: range(101, 201), 47: range(201, 301)},
        heard={16: [1, 2], 47: [400, 500]},
        similar=NEAR,
    )
    with litestar_run(work) as running:
        yield running
    assert "Application shutdown complete." in running.log.read_text()
    assert "Traceback" not in running.log.read_text()


def test_the_walk_through(service):
    def call(method, path, **params):
        answer = httpx.request(method, service.url + path, params=params)
        assert answer.status_code == 200
        return answer.json()

    personal = call("POST", "/recommendations", user_id=47)
    assert personal == {"recs": [*range(201, 301)]}
    cold = call("POST", "/recommendations", user_id=47000000000)
    assert cold == {"recs": TOP[:100]}
    assert call("GET", "/get_statistics") == {
        "request_personal_count": 1,
        "request_default_count": 1,
    }

    assert call("POST", "/get_user_events", user_id=16) == {"events": []}
    for item in [ROCK[0], *ROCK]:
        assert call("POST", "/put_user_event", user_id=16, item_id=item) == {"result": "ok"}
    newest_first = [*reversed(ROCK), ROCK[0]]
    assert call("POST", "/get_user_events", user_id=16) == {"events": newest_first}

    blended = call("POST", "/recommendations", user_id=16)["recs"]
    assert len(blended) == len(set(blended)) == 100
    near = {track for tracks in NEAR.values() for track in tracks}
    assert near.issuperset(blended[0::2])
    assert blended[1::2] == [*range(101, 151)]
    assert not {*ROCK, 1, 2}.intersection(blended)

    online = call("GET", "/get_online_u2i", user_id=16, k=100, N=10)["recs"]
    assert near.issuperset(online)
    assert online[0] == ROCK[0] + 1  # the only track near two events: 679169 was put twice

    loaded = call("GET", "/load_recommendations", rec_type="personal", file_path="personal.parquet")
    assert loaded["release"] == loaded["previous"] == "first"
    assert (loaded["users"], loaded["tracks"]) == (2, len(TRACKS))

    console = [line.removeprefix("INFO:").strip() for line in service.lines()]
    found = [line for line in console if line.startswith("Found")]
    assert found == [
        "Found 100 personal recommendations!",
        "Found 100 TOP-recommendations!",
        "Found 100 personal recommendations!",
    ]
    assert not any("HTTP/1.1" in line for line in console)  # no access log beside it
