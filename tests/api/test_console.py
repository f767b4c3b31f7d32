"""The calls behind the console, on a release that the jobs have made."""

import json
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from api.app import create_app
from api.events.journal import JournalError
from api.http import guard
from api.settings import Settings
from jobs.contract import tables
from jobs.contract.names import CURRENT, MANIFEST, RELEASES, REPORTS
from jobs.contract.search import SEARCH
from jobs.contract.serving import OPTIONAL_ARRAYS
from jobs.ranking.generators import GENERATORS
from tests.support.workspace import lists, rows

ADMIN, READ, WRITE, CONSOLE = (f"the-key-for-{name}" for name in ("all", "read", "write", "look"))
KEYS = {"admin_key": ADMIN, "read_key": READ, "write_key": WRITE, "console_key": CONSOLE}
CALLS = (
    "/search", "/tracks?ids=1", "/user?user_id=1", "/releases", "/reports/evaluation", "/access",
    "/", "/console/style.css",
)  # fmt: skip
NEW_CALLS = {"/search", "/tracks", "/user", "/releases", "/access", "/reports/{name}"}
HUGE = 2**53 - 1
ROOT = Path(__file__).parents[2]


def served(work, **chosen):
    app = create_app(Settings(work=work, journal="off", log_level="WARNING", **chosen))
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(finished):
    with served(finished) as client:
        yield client


@pytest.fixture(scope="module")
def items(finished):
    columns = ("track_id", "track_name", "artist_names", "genre_names")
    return {row[0]: row[1:] for row in rows(tables.ITEMS, finished, *columns)}


def answer(client, path, **params):
    found = client.get(path, params=params)
    assert found.status_code == 200, found.text
    return found.json()


def named(items, track_id):
    name, artists, _ = items[track_id]
    return {"track_id": track_id, "name": name, "artists": artists}


def test_a_person_finds_thunderstruck_and_ac_dc(client):
    for text in ("thunderstruck", "THUNDER ac/dc", "acdc thun", "thunders"):
        found = answer(client, "/search", q=text)
        assert found["tracks"][0]["name"] == "Thunderstruck"
        assert found["tracks"][0]["artists"] == ["AC/DC"]
        assert found["lacks"] == {}
    artist = answer(client, "/search", q="ac dc", kind="artist")
    assert [one["name"] for one in artist["artists"]] == ["AC/DC"]
    assert "Thunderstruck" in [track["name"] for track in artist["artists"][0]["best"]]
    assert (artist["tracks"], artist["users"]) == ([], None)
    assert answer(client, "/search", q="679169")["tracks"][0]["name"] == "Thunderstruck"
    assert answer(client, "/search", q="юность dabro")["tracks"][0]["name"] == "Юность"


def test_results_are_ordered_as_the_top_list_and_no_more_than_asked_for(client, finished):
    top = [row[0] for row in rows(tables.TOP_POPULAR, finished, "track_id")]
    for text in ("", "a", "s", "de"):
        for limit in (1, 7, 50):
            found = answer(client, "/search", q=text, limit=limit)
            ids = [track["track_id"] for track in found["tracks"]]
            assert len(ids) <= limit and ids == sorted(ids, key=top.index)
            plays = [artist["plays"] for artist in found["artists"]]
            assert len(plays) <= limit and plays == sorted(plays, reverse=True)
    assert [t["track_id"] for t in answer(client, "/search", limit=5)["tracks"]] == top[:5]


def test_listeners_are_found_by_id_and_at_random(client, finished):
    known = {user: n for user, n in rows(tables.USERS, finished, "user_id", "listens")}  # noqa: C416
    user = max(known)
    found = answer(client, "/search", q=str(user))["users"]
    assert found[0] == {"user_id": user, "listens": known[user]}
    starts = answer(client, "/search", q=str(user)[:1], kind="user", limit=50)["users"]
    assert starts and all(str(one["user_id"]).startswith(str(user)[:1]) for one in starts)
    draws = [answer(client, "/search", kind="user")["users"] for _ in range(8)]
    drawn = {one["user_id"] for users in draws for one in users}
    assert drawn < known.keys() and len(drawn) > 10
    for text in ("x", "1e3", "-1", "9" * 17, "٣"):
        assert answer(client, "/search", q=text, kind="user")["users"] == []
    client.post(f"/put_user_event?user_id={HUGE}&item_id=5")
    assert answer(client, "/search", q=str(HUGE))["users"] == [{"user_id": HUGE, "listens": 0}]


def test_a_track_has_its_names_counts_and_neighbours(client, finished, items):
    columns = ("track_id", "rank", "listeners", "plays")
    top = {row[0]: row[1:] for row in rows(tables.TOP_POPULAR, finished, *columns)}
    similar, after = lists(tables.SIMILAR, finished), lists(tables.NEXT_PLAYED, finished)
    ids = [679169, *list(items)[:30], 1]
    found = answer(client, "/tracks", ids=ids, near=3)
    assert (found["unknown"], found["lacks"]) == ([1], {})
    assert [track["track_id"] for track in found["tracks"]] == ids[:-1]
    for track in found["tracks"]:
        track_id = track["track_id"]
        rank, listeners, plays = top.get(track_id, (None, 0, 0))
        assert {key: track[key] for key in ("track_id", "name", "artists")} == named(
            items, track_id
        )
        assert track["genres"] == items[track_id][2]
        assert (track["top_rank"], track["listeners"], track["plays"]) == (rank, listeners, plays)
        assert len(track["trend"]) == 12
        for near, expected in (("similar", similar), ("next_played", after)):
            assert track[near] == [named(items, t) for t in expected.get(track_id, [])[:3]]
    assert found["trend_from"] < found["trend_until"]
    assert answer(client, "/tracks", ids=679169)["tracks"][0]["similar"] == []


@pytest.mark.parametrize("row", [0, 5, -1])
def test_a_listener_has_a_history_with_dates_by_page_and_all_lists(client, finished, items, row):
    user = rows(tables.USERS, finished, "user_id")[row][0]
    listens = [
        (track, at.isoformat())
        for one, track, at in rows(tables.LISTENS, finished, "user_id", "track_id", "started_at")
        if one == user
    ][::-1]
    client.post(f"/put_user_event?user_id={user}&item_id=679169")
    client.post(f"/put_user_event?user_id={user}&item_id=5")
    pages, offset = [], 0
    while offset is not None:
        page = answer(client, "/user", user_id=user, offset=offset, limit=7, lists=offset == 0)
        pages.append(page)
        offset = page["next_offset"]
    heard = [one for page in pages for one in page["history"]]
    assert [(one["track_id"], one["started_at"]) for one in heard] == listens
    assert all(one["genres"] == items[one["track_id"]][2] for one in heard)
    first = pages[0]
    assert (first["known"], first["listens"]) == (True, len(listens))
    unknown = {"track_id": 5, "name": None, "artists": None}
    assert first["events"] == [unknown, named(items, 679169)]
    final = lists(tables.RECOMMENDATIONS, finished)[user]
    assert first["final"] == [named(items, track) for track in final]
    assert first["generators"].keys() | first["lacks"].keys() == {*GENERATORS}
    als = lists(tables.PERSONAL_ALS, finished)[user]
    assert first["generators"]["als"] == [named(items, track) for track in als[:50]]
    assert all((page["final"], page["generators"]) == ([], {}) for page in pages[1:])
    assert answer(client, "/user", user_id=user, offset=HUGE)["history"] == []


def test_events_that_cannot_be_read_are_lacking_and_the_rest_is_shown(finished, monkeypatch):
    user = rows(tables.USERS, finished, "user_id")[0][0]

    def broken(_):
        raise JournalError("the journal can't be read: no disk")

    with served(finished) as client:
        monkeypatch.setattr(client.app.state.service.store, "of", broken)
        found = answer(client, "/user", user_id=user)
        assert found["lacks"]["events"] == "the journal can't be read: no disk"
        assert found["history"] and found["final"]


def test_someone_new_has_nothing_but_the_top_list_and_the_forecast(client, finished):
    found = answer(client, "/user", user_id=HUGE - 1)
    assert (found["known"], found["listens"], found["history"], found["final"]) == (
        False,
        0,
        [],
        [],
    )
    top = [row[0] for row in rows(tables.TOP_POPULAR, finished, "track_id")][:100]
    assert [track["track_id"] for track in found["generators"].pop("popular")] == top
    expected = [row[0] for row in rows(tables.FORECAST, finished, "track_id")][:100]
    assert [track["track_id"] for track in found["generators"].pop("forecast")] == expected
    assert not any(found["generators"].values())


def test_a_forgotten_listener_is_found_by_no_call(finished, tmp_path):
    user = rows(tables.USERS, finished, "user_id")[3][0]
    with served(finished, state=tmp_path) as client:
        before = answer(client, "/user", user_id=user)
        assert before["known"] and before["generators"]["als"]
        client.post(f"/put_user_event?user_id={user}&item_id=5")
        assert client.post(f"/forget_user?user_id={user}").status_code == 200
        after = answer(client, "/user", user_id=user)
        assert after == answer(client, "/user", user_id=HUGE - 1) | {"user_id": user}
        for text in (str(user), str(user)[:-1]):
            found = answer(client, "/search", q=text, kind="user", limit=50)["users"]
            assert user not in [one["user_id"] for one in found]
        drawn = [answer(client, "/search", kind="user", limit=50)["users"] for _ in range(40)]
        assert user not in {one["user_id"] for users in drawn for one in users}


def test_who_is_forgotten_while_they_are_looked_at_is_not_shown(finished, monkeypatch):
    user = rows(tables.USERS, finished, "user_id")[3][0]
    with served(finished) as client:
        catalog = client.app.state.service.releases.current().catalog
        read = type(catalog).history_rows

        def forget_and_read(self, row):
            catalog.forget({user: 2**62})
            return read(self, row)

        monkeypatch.setattr(type(catalog), "history_rows", forget_and_read)
        assert answer(client, "/user", user_id=user)["history"] == []


def former(finished: Path, work: Path, damage=lambda release: None) -> Path:
    """A folder with the finished release as an earlier version would have made it."""
    release = shutil.copytree((finished / CURRENT).resolve(), work / RELEASES / "former")
    gone = [SEARCH, tables.NEW_TRACKS.file, *(f"serving/{name}.npy" for name in OPTIONAL_ARRAYS)]
    gone += [f"{REPORTS}/{path.name}" for path in (release / REPORTS).iterdir()]
    manifest = json.loads((release / MANIFEST).read_text()) | {"id": "former"}
    for name in gone:
        (release / name).unlink(missing_ok=True)
        manifest["files"].pop(name, None)
        manifest["serving"].pop(Path(name).stem, None)
    for name in ("next_half_life", "similar_half_life", "own_half_life"):
        del manifest["settings"][name]
    damage(release)
    (release / MANIFEST).write_text(json.dumps(manifest))
    (work / CURRENT).symlink_to(Path(RELEASES) / "former")
    return work


def test_a_release_made_before_is_served_and_the_answers_say_what_they_lack(finished, tmp_path):
    user = rows(tables.USERS, finished, "user_id")[3][0]
    with served(former(finished, tmp_path)) as client:
        found = answer(client, "/search", q="679169")
        assert "run python -m jobs.publish" in found["lacks"]["search"]
        assert (found["artists"], found["tracks"][0]["name"]) == ([], "Thunderstruck")
        assert found["tracks"][0]["artists"] is found["tracks"][0]["listeners"] is None
        assert answer(client, "/search", q="thunder")["tracks"] == []
        assert len(answer(client, "/search")["tracks"]) == 10
        track = answer(client, "/tracks", ids=679169, near=2)
        assert track["lacks"].keys() == {"artists", "genres", "counts"}
        assert track["tracks"][0]["trend"] is track["tracks"][0]["plays"] is None
        assert len(track["tracks"][0]["similar"]) == 2
        person = answer(client, "/user", user_id=user)
        assert len(person["history"]) and person["history"][0]["started_at"]
        assert person["generators"].keys() == {"popular", "als"}
        assert person["lacks"].keys() == {*GENERATORS} - {"popular", "als"}
        assert answer(client, "/releases")["releases"][0]["reports"] == []
        assert client.get("/reports/data").json()["detail"] == "report: release former has no data"
        reason = answer(client, "/recommendations", user_id=user, k=1, explain="true")["reasons"][0]
        assert reason["artists"] is None


def test_a_release_that_is_removed_while_it_is_served_gives_what_is_in_memory(finished, tmp_path):
    work = shutil.copytree(finished, tmp_path / "work", symlinks=True)
    user = rows(tables.USERS, finished, "user_id")[3][0]
    with served(work) as client:
        shutil.rmtree((work / CURRENT).resolve())
        assert answer(client, "/search", q="thunderstruck")["tracks"]
        person = answer(client, "/user", user_id=user)
        assert person["history"] and person["history"][0]["started_at"] is None
        assert person["lacks"]["history"] == "listens.parquet can't be read"
        assert person["generators"]["similar"] and "als" in person["lacks"]
        assert answer(client, "/releases")["releases"] == []
        assert client.get("/reports/data").status_code == 404


def test_an_index_that_cannot_be_read_is_a_503_or_lacking_but_never_a_500(finished, tmp_path):
    def cut(release):
        (release / SEARCH).write_bytes(b"SQLite format 3\0" + b"\0" * 5000)

    with served(former(finished, tmp_path, cut)) as client:
        found = client.get("/search?q=thunder")
        assert found.status_code == 503 or "can't be read" in found.json()["lacks"]["search"]
        assert client.get("/health/ready").status_code == 200


def test_a_long_search_is_stopped(client, monkeypatch):
    monkeypatch.setattr("api.release.search_index.SECONDS", -1.0)
    index = client.app.state.service.releases.current().catalog.index
    index._db.set_progress_handler(lambda: True, 1)
    found = client.get("/search?q=a")
    assert found.status_code == 503
    assert "try longer words" in found.json()["detail"]
    index._db.set_progress_handler(None, 0)
    assert client.get("/search?q=a").status_code == 200


def test_releases_show_which_is_served_and_how_good_each_is(client, finished):
    (release,) = answer(client, "/releases")["releases"]
    manifest = json.loads((finished / CURRENT / MANIFEST).read_text())
    assert release["release"] == manifest["id"]
    assert (release["served"], release["current"], release["previous"]) == (True, True, False)
    metrics = manifest["metrics"]
    assert release["metrics"]["final list"] == metrics["lists"]["final list"]["all"]["@10"]
    # as in the reports: with the top list for new users
    assert release["metrics"]["personal ALS"] == metrics["generators"]["als"]["all"]["@10"]
    assert release["command"].endswith(f"--work {finished} --activate {manifest['id']}")
    assert {report["name"] for report in release["reports"]} == {"evaluation", "replay"}
    for report in release["reports"]:
        page = client.get("/" + report["path"])
        assert page.status_code == 200 and page.text.startswith("<!doctype html>")
        policy = page.headers["content-security-policy"]
        assert "script" not in policy and policy.endswith("sandbox") and "'sha256-" in policy


def test_a_damaged_release_is_listed_with_its_problem(finished, tmp_path):
    work = former(finished, tmp_path)
    (work / RELEASES / "broken").mkdir()
    with served(work) as client:
        broken = next(
            r for r in answer(client, "/releases")["releases"] if r["release"] == "broken"
        )
        assert "manifest.json is missing" in broken["problem"]
        assert broken["metrics"] == {}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, (401, 401, 401, 401, 401, 200, 200, 200)),
        ("x" * 20, (401, 401, 401, 401, 401, 200, 200, 200)),
        (READ, (200, 200, 403, 200, 200, 200, 200, 200)),
        (WRITE, (403, 403, 403, 403, 403, 200, 200, 200)),
        (CONSOLE, (200,) * 8),
        (ADMIN, (200,) * 8),
    ],
)
def test_each_key_opens_its_calls_of_the_console(finished, key, expected):
    with served(finished, **KEYS) as client:
        headers = {"X-API-Key": key} if key else {}
        assert tuple(client.get(path, headers=headers).status_code for path in CALLS) == expected
        people = client.get("/search?kind=user", headers=headers)
        assert people.status_code == expected[2]
        both = client.get("/search?q=1", headers=headers)
        assert both.status_code == expected[0]
        if both.status_code == 200:
            assert (both.json()["users"] is None) == (expected[2] != 200)
        assert client.get("/health/live", headers=headers).status_code == 200


def test_without_a_read_key_people_still_need_a_key(finished):
    with served(finished, admin_key=ADMIN) as client:
        assert client.get("/search?q=1").json()["users"] is None
        for path in ("/user?user_id=1", "/search?kind=user"):
            refused = client.get(path)
            assert refused.status_code == 401
            assert refused.json()["detail"] == "expected a valid key in X-API-Key"
        assert client.get("/user?user_id=1", headers={"X-API-Key": ADMIN}).status_code == 200


@pytest.mark.parametrize(
    ("key", "name", "opens"),
    [
        (None, "none", ""),
        ("y" * 20, "unknown", ""),
        (READ, "read", "read"),
        (WRITE, "write", "write"),
        (CONSOLE, "console", "read people"),
        (ADMIN, "admin", "read write people admin"),
    ],
)
def test_access_says_what_a_key_opens(finished, key, name, opens):
    with served(finished, **KEYS) as client:
        found = client.get("/access", headers={"Authorization": f"Bearer {key}"} if key else {})
        expected = {level: level in opens.split() for level in ("read", "write", "people", "admin")}
        assert found.json() == {"keys": True, "key": name} | expected
    with served(finished) as client:
        everything = dict.fromkeys(("read", "write", "people", "admin"), True)
        assert answer(client, "/access") == {"keys": False, "key": "none"} | everything


def test_the_address_of_a_report_opens_it_without_a_key_for_a_while(finished, monkeypatch):
    with served(finished, **KEYS) as client:
        found = client.get("/releases", headers={"X-API-Key": READ}).json()
        path = "/" + found["releases"][0]["reports"][0]["path"]
        assert client.get(path).status_code == 200
        assert client.get(path.replace("evaluation", "replay")).status_code == 401
        assert client.get(path[:-1]).status_code == 401
        assert client.get(path.replace("ticket=", "ticket=%C3%A9")).status_code == 401
        assert client.get(path.replace("until=", "until=9")).status_code == 401
        assert ADMIN not in path
        monkeypatch.setattr("api.http.guard.time.time", lambda: 2e9 * 2)
        assert client.get(path).status_code == 401


def test_off_removes_the_page_and_every_call_but_events(finished):
    with served(finished, console="off") as client:
        assert {client.get(path).status_code for path in CALLS} == {404}
        assert client.get("/recommendations?events=5&k=1").status_code == 200
        paths = client.get("/schema").json()["paths"]
        assert not NEW_CALLS & paths.keys()
        assert "/recommendations" in paths


def test_answers_are_not_stored_and_not_sniffed(client):
    for path in CALLS[:4]:
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"


POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def test_the_page_and_its_files_come_with_the_policy_and_relative_addresses(finished):
    with served(finished, **KEYS) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert 'href="/' not in page.text and 'src="/' not in page.text
        assert "http://" not in page.text and "https://" not in page.text
        style = client.get("/console/style.css")
        assert style.headers["content-type"].startswith("text/css")
        for answered in (page, style):
            assert answered.headers["content-security-policy"] == POLICY
            assert answered.headers["x-content-type-options"] == "nosniff"
        for name in ("nothing.js", "..%2fapp.py", "%2e%2e", "index.html%00", "style.css/x", ""):
            assert client.get(f"/console/{name}").status_code == 404
    app = create_app(Settings(work=finished, journal="off"))
    with TestClient(app, root_path="/music") as client:
        assert client.get("/music/").text == page.text
        assert client.get("/music/console/style.css").text == style.text


def test_page_and_files_count_for_the_rate_limit(finished):
    with served(finished, rate_limit=2) as client:
        assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
        console = ROOT / "api" / "console"
        files = [file.name for file in console.iterdir() if file.name != "index.html"]
        statuses = {client.get(f"/console/{name}").status_code for name in files}
        assert len(files) > 2
        assert statuses == {200}  # or else the page would stay blank


def test_files_have_a_limit_of_their_own(finished, monkeypatch):
    monkeypatch.setattr(guard, "RATE_OF_FILES", 3)
    with served(finished, rate_limit=1) as client:
        statuses = [client.get("/console/style.css").status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/search?kind=x", "kind: expected any, track, artist or user, found 'x'"),
        ("/search?limit=0", "limit: expected a whole number from 1 to 50, found '0'"),
        ("/search?limit=1e1", "limit: expected a whole number from 1 to 50, found '1e1'"),
        ("/search?q=" + "é" * 257, "q: expected at most 256 characters"),
        ("/tracks", "ids: expected track ids, whole numbers from 0 to 9007199254740991, missing"),
        ("/tracks?ids=5&ids=x", "ids: expected track ids"),
        ("/tracks?ids=9007199254740992", "ids: expected track ids"),
        ("/tracks?" + "&".join(["ids=1"] * 101), "ids: expected at most 100, found 101"),
        ("/tracks?ids=1&near=101", "near: expected a whole number from 0 to 100, found '101'"),
        ("/user", "user_id: expected a whole number from 0 to 9007199254740991, missing"),
        ("/user?user_id=1&offset=-1", "offset: expected a whole number from 0"),
        ("/user?user_id=1&limit=501", "limit: expected a whole number from 1 to 500"),
        ("/user?user_id=1&lists=x", "lists: expected true or false, found 'x'"),
    ],
)
def test_bad_parameters_are_400_with_what_was_expected(client, path, says):
    found = client.get(path)
    assert found.status_code == 400
    assert found.json()["detail"].startswith(says)


@settings(max_examples=80)
@given(st.text(max_size=256), st.sampled_from([None, "track", "artist", "user"]))
def test_no_search_is_an_error(client, text, kind):
    params = {"q": text} if kind is None else {"q": text, "kind": kind}
    assert client.get("/search", params=params).status_code == 200


def test_reading_does_not_wait_for_answers_nor_answers_for_reading(finished, monkeypatch):
    """A search that takes long leaves the event loop free."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(*_):
        entered.set()
        go_on.wait(20)
        return []

    with served(finished) as client:
        catalog = client.app.state.service.releases.current().catalog
        monkeypatch.setattr(type(catalog.index), "tracks", slow)
        searching = threading.Thread(target=client.get, args=("/search?q=a",))
        searching.start()
        assert entered.wait(20)
        assert client.get("/recommendations?user_id=1").status_code == 200
        go_on.set()
        searching.join()
