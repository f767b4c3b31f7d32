"""Which releases are served, which are refused, and that a swap harms no one."""

import asyncio
import gc
import hashlib
import json
import shutil
import threading
import weakref
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from litestar.testing import AsyncTestClient, TestClient

from api.app import create_app
from api.release.catalog import Catalog
from api.release.loader import ReleaseError, current
from api.release.manager import UnknownRelease
from api.release.recommender import Recommender
from api.service import Service
from api.settings import Settings
from jobs.contract import storage
from jobs.contract.names import CONTRACT_VERSION, MANIFEST
from tests.support import releases
from tests.support.server import litestar_run
from tests.support.waiting import until


def edit_manifest(change):
    def damage(folder):
        path = folder / MANIFEST
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return damage


def replace_array(name, change):
    """Another array in the place of one; the manifest agrees with it."""

    def damage(folder):
        path = folder / "serving" / f"{name}.npy"
        np.save(path, change(np.load(path)))
        agree(folder, f"serving/{name}.npy")

    return damage


def agree(folder, file, **facts):
    """Let the manifest agree with a file as it is."""
    content = (folder / file).read_bytes()
    facts |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit_manifest(lambda m: m["files"][file].update(facts))(folder)


def garbage(folder):
    path = folder / "serving/top_items.npy"
    path.write_bytes(b"x" * path.stat().st_size)
    agree(folder, "serving/top_items.npy")


def flip_a_bit(file):
    def damage(folder):
        content = bytearray((folder / file).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / file).write_bytes(content)

    return damage


def other_columns(folder):
    table = pq.read_table(folder / "similar.parquet").rename_columns(["a", "b", "c", "d"])
    pq.write_table(table, folder / "similar.parquet")
    agree(folder, "similar.parquet")


def truncate(file):
    def damage(folder):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: len(content) // 2])

    return damage


def link_elsewhere(folder):
    path = folder / "serving/top_items.npy"
    path.rename(folder.parent / "elsewhere.npy")
    path.symlink_to(folder.parent / "elsewhere.npy")


BROKEN = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json can't be used"),
    "half a manifest": (truncate("manifest.json"), "manifest.json can't be used"),
    "a manifest that is a list": (
        lambda f: (f / "manifest.json").write_text("[]"),
        f"contract version: expected {CONTRACT_VERSION}, found None",
    ),
    "a manifest without serving": (
        edit_manifest(lambda m: m.pop("serving")),
        "manifest.json can't be used",
    ),
    "an unknown contract": (
        edit_manifest(lambda m: m.update(contract=99)),
        f"contract version: expected {CONTRACT_VERSION}, found 99",
    ),
    "the manifest of another": (edit_manifest(lambda m: m.update(id="x")), "id: expected second"),
    "another schema": (
        edit_manifest(lambda m: m["schemas"]["similar.parquet"].update(score="double")),
        "schema of similar.parquet",
    ),
    "a schema of another contract's file": (
        edit_manifest(lambda m: m["schemas"].pop("items.parquet")),
        "schema of items.parquet",
    ),
    "another dtype in the manifest": (
        edit_manifest(lambda m: m["serving"].update(user_ids="int32")),
        "dtype of user_ids: expected int64, found int32",
    ),
    "another dtype in the array": (
        replace_array("user_ids", lambda a: a.astype(np.int32)),
        "layout of user_ids",
    ),
    "a table": (replace_array("top_items", lambda a: a.reshape(2, -1)), "layout of top_items"),
    "half an array": (truncate("serving/history_items.npy"), "bytes of serving/history_items.npy"),
    "half a table": (truncate("recommendations.parquet"), "bytes of recommendations.parquet"),
    "no array": (
        lambda f: (f / "serving/similar_items.npy").unlink(),
        "bytes of serving/similar_items.npy",
    ),
    "an array that is none": (garbage, "a serving array can't be read"),
    "a bit of an array": (
        flip_a_bit("serving/history_items.npy"),
        "sha256 of serving/history_items.npy",
    ),
    "a bit of a table": (flip_a_bit("recommendations.parquet"), "recommendations.parquet"),
    "a bit of the model": (flip_a_bit("als_model.npz"), "sha256 of als_model.npz"),
    "other columns": (other_columns, "expected similar.parquet with the columns of the contract"),
    "fewer rows than said": (
        lambda f: agree(f, "users.parquet", rows=3),
        "rows of users.parquet: expected 3, found 1",
    ),
    "a link to elsewhere": (link_elsewhere, "bytes of serving/top_items.npy"),
    "too few offsets": (
        replace_array("similar_offsets", lambda a: a[:-1]),
        "length of similar_offsets: expected 301, found 300",
    ),
    "offsets that fall": (
        replace_array("history_offsets", lambda a: a[[0, 2, 1]]),
        "expected history_offsets from 0 upwards",
    ),
    "fewer items than offsets": (
        replace_array("recommendations_items", lambda a: a[:-1]),
        "length of recommendations_items: expected 200, found 199",
    ),
    "fewer scores than items": (
        replace_array("similar_scores", lambda a: a[:-1]),
        "length of similar_scores",
    ),
    "a track out of range": (
        replace_array("top_items", lambda a: a + 1),
        "expected top_items within the 300 tracks",
    ),
    "users out of order": (
        replace_array("user_ids", lambda a: a[::-1].copy()),
        "expected user_ids ascending",
    ),
    "an unknown heard rule": (
        edit_manifest(lambda m: m["settings"].update(heard="maybe")),
        "Invalid enum value 'maybe' - at `$.settings.heard`",
    ),
    "an unknown blending": (
        edit_manifest(lambda m: m["settings"]["blending"].update(rule="dice")),
        "Invalid enum value 'dice' - at `$.settings.blending.rule`",
    ),
}


def test_a_release_whose_vectors_have_four_bytes_a_number_is_served_with_the_same_answers(tmp_path):
    blending = {"rule": "weighted", "sources": ["similar", "next_played", "fold_in"]}
    now, before = (releases.make(tmp_path / name, blending=blending) for name in ("now", "before"))
    replace_array("als_vectors", lambda a: a.astype(np.float32))(before)
    edit_manifest(lambda m: m["serving"].update(als_vectors="float32"))(before)
    first, second = (Recommender(Catalog(folder, {}), 5) for folder in (now, before))
    assert [c.catalog.model.order.vectors.itemsize for c in (first, second)] == [2, 4]
    for row in range(first.catalog.n_users):
        events = np.array([250, 150, 3 + row], np.int64).tobytes()
        assert first.answer(row, 40, events) == second.answer(row, 40, events)
        assert first.answer(row, 40, events) != first.answer(row, 40, b"")


def test_without_hashes_sizes_must_agree(tmp_path):
    flip_a_bit("als_model.npz")(releases.make(tmp_path, "flipped"))
    truncate("als_model.npz")(releases.make(tmp_path, "half", activate=False))
    service = Service(Settings(work=tmp_path, check="sizes"))
    assert asyncio.run(service.releases.load()).release == "flipped"
    with pytest.raises(ReleaseError, match=r"bytes of als_model.npz"):
        asyncio.run(service.releases.load("half"))


def test_a_release_whose_name_cannot_stand_in_a_header_is_refused(tmp_path):
    releases.make(tmp_path, "a name")
    with pytest.raises(ReleaseError, match="an id of letters, digits"):
        asyncio.run(Service(Settings(work=tmp_path)).releases.load())


def test_freshness_says_until_when_the_data_went_and_what_is_stale(tmp_path):
    releases.make(tmp_path, "first")
    with TestClient(create_app(Settings(work=tmp_path, max_age_hours=10**6))) as client:
        told = client.get("/freshness").json()
        assert told.pop("age_hours") > 8766
        assert told == {
            "release": "first",
            "data_until": "2022-12-31",
            "created_at": "2023-01-01T00:00:00+00:00",
            "max_age_hours": 10**6,
            "stale": False,
        }
    with TestClient(create_app(Settings(work=tmp_path))) as client:
        assert client.get("/freshness").json()["stale"]


def test_every_answer_says_which_release_it_is_from(tmp_path):
    with TestClient(create_app(Settings(work=tmp_path))) as client:
        assert "x-release" not in client.get("/recommendations?user_id=1").headers
        releases.make(tmp_path, "first")
        for path, status in (
            ("/load_recommendations", 200),
            ("/recommendations?user_id=1", 200),
            ("/recommendations?user_id=x", 400),
            ("/nothing", 404),
            ("/load_recommendations?release=none", 404),
        ):
            answer = client.get(path)
            assert (answer.status_code, answer.headers.get("x-release")) == (status, "first")


def test_a_batch_is_of_the_release_that_it_names_even_if_another_is_served_meanwhile(tmp_path):
    make_sides(tmp_path)
    users = {"user_ids": [9] * 200, "k": 100}

    async def scene():
        async with AsyncTestClient(create_app(Settings(work=tmp_path))) as client:
            batch = asyncio.create_task(client.post("/recommendations/batch", json=users))
            names = ["odd", "even"] * 10
            for name in names:
                await client.get("/load_recommendations", params={"release": name})
            return await batch

    answer = asyncio.run(scene())
    sides = {track % 2 for tracks in answer.json()["recs"] for track in tracks}
    assert sides == {int(answer.headers["x-release"] == "odd")}


def test_what_current_points_to_is_followed_and_a_named_release_left_alone(tmp_path, caplog):
    releases.make(tmp_path, "first")

    flip_a_bit("als_model.npz")(releases.make(tmp_path, "broken", activate=False))

    async def scene():
        service = Service(Settings(work=tmp_path, follow_seconds=0.02, journal="off"))
        await service.start()
        assert service.releases.current().catalog.id == "first"
        releases.make(tmp_path, "second")
        await until(lambda: service.releases.current().catalog.id == "second")
        releases.point_current(tmp_path, Path("releases/broken"))
        await until(lambda: "sha256 of als_model.npz" in caplog.text)  # why it is refused
        assert service.releases.current().catalog.id == "second"
        await service.releases.load("first")
        await asyncio.sleep(0.2)  # ten looks at `current`
        await service.stop()
        assert service.releases.current().catalog.id == "first"

    asyncio.run(scene())


@pytest.mark.parametrize(("damage", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_release_is_refused_with_the_reason_and_the_old_one_stays(
    tmp_path, damage, reason
):
    releases.make(tmp_path, "first")
    damage(releases.make(tmp_path, "second", activate=False))
    service = Service(Settings(work=tmp_path))
    asyncio.run(service.releases.load())
    with pytest.raises(ReleaseError) as error:
        asyncio.run(service.releases.load("second"))
    assert "second" in str(error.value) and reason in str(error.value)
    assert service.releases.current().catalog.id == "first"
    assert len(json.loads(service.recommend(47, 100))) == 100


def test_only_real_folders_of_the_work_folder_are_releases(tmp_path):
    work, other = tmp_path / "work", tmp_path / "other"
    releases.make(work, "first")
    foreign = releases.make(other, "foreign")
    (work / "releases/linked").symlink_to(foreign)
    (work / "releases/file").write_text("")
    (work / "releases/.half").mkdir()
    assert storage.listed(work) == ["first"]
    for target in (
        foreign,
        "../other/releases/foreign",
        "releases/linked",
        "releases/none",
        "..",
        "current",
    ):
        releases.point_current(work, Path(target))
        with pytest.raises(ReleaseError, match="expected a release in"):
            current(work)


@pytest.mark.parametrize(
    "release_id", ["", ".", "..", "../releases/first", "releases/first", "/etc", "first/", "x\0"]
)
def test_a_parameter_never_becomes_a_path(tmp_path, release_id):
    releases.make(tmp_path, "first")
    service = Service(Settings(work=tmp_path))
    with pytest.raises(UnknownRelease, match=r"expected one of \['first'\]"):
        asyncio.run(service.releases.load(release_id))


def test_a_named_release_is_served_until_the_next_load(tmp_path):
    releases.make(tmp_path, "old", activate=False)
    releases.make(tmp_path, "new")
    service = Service(Settings(work=tmp_path))
    assert asyncio.run(service.releases.load()).release == "new"
    named = asyncio.run(service.releases.load("old"))
    assert (named.release, named.previous, named.users, named.tracks) == ("old", "new", 2, 300)
    assert asyncio.run(service.releases.load()).release == "new"


def test_a_request_keeps_the_release_it_began_with_even_if_that_is_deleted(tmp_path):
    folder = releases.make(tmp_path, "first")
    catalog = Catalog(folder, {})
    shutil.rmtree(folder)
    assert catalog.ids(catalog.final(catalog.row(47))) == [*releases.FINAL[47]]


def test_a_release_that_is_served_no_more_is_let_go_at_once(tmp_path):
    releases.make(tmp_path, "first")

    async def scene():
        service = Service(Settings(work=tmp_path, journal="off"))
        await service.start()
        service.recommend(47, 10)
        gone = weakref.ref(service.releases.current().catalog)
        gc.disable()
        await service.releases.load()
        gc.enable()
        await service.stop()
        return gone()

    assert asyncio.run(scene()) is None


def test_loads_wait_for_each_other_and_others_are_served_meanwhile(tmp_path):
    releases.make(tmp_path, "first")
    service = Service(Settings(work=tmp_path))
    asyncio.run(service.releases.load())
    open_release, allowed, at_once = service.releases._open, threading.Event(), []

    def slow(release_id):
        at_once.append(1)
        assert allowed.wait(5) and len(at_once) == 1
        at_once.pop()
        return open_release(release_id)

    async def scene():
        service.releases._open = slow
        loads = [asyncio.create_task(service.releases.load()) for _ in range(3)]
        while not at_once:
            await asyncio.sleep(0.01)
        assert len(json.loads(service.recommend(47, 100))) == 100  # the event loop is free
        allowed.set()
        return await asyncio.gather(*loads)

    assert [loaded.release for loaded in asyncio.run(scene())] == ["first"] * 3


def make_sides(work):
    """Two releases, odd and even: each answer tells which it is from."""
    lists = {"odd": [*range(1, 300, 2)], "even": [*range(2, 301, 2)]}
    for name, tracks in lists.items():
        similar = {track: [t for t in tracks if t != track][:20] for track in releases.TRACKS}
        releases.make(work, name, top=tracks, final={47: tracks[:100]}, heard={}, similar=similar)
    return work


def test_swaps_and_refusals_under_load_fail_no_request_and_mix_no_answer(tmp_path):
    work = make_sides(tmp_path)
    truncate("serving/top_items.npy")(releases.make(work, "broken", activate=False))
    answers, done = [], threading.Event()

    def ask(user):
        with httpx.Client(base_url=running.url) as client:
            while not done.is_set():
                answers.append(client.get("/recommendations", params={"user_id": user, "k": 120}))

    with litestar_run(work, LOG_LEVEL="ERROR") as running:
        httpx.post(f"{running.url}/put_user_event", params={"user_id": 47, "item_id": 100})
        threads = [threading.Thread(target=ask, args=(user,)) for user in (47, 9)]
        for thread in threads:
            thread.start()
        statuses = [
            httpx.get(f"{running.url}/load_recommendations", params={"release": name}).status_code
            for name in ["odd", "even", "broken"] * 10
        ]
        done.set()
        for thread in threads:
            thread.join()
    assert statuses == [200, 200, 409] * 10
    assert {answer.status_code for answer in answers} == {200}
    sides = [{track % 2 for track in answer.json()["recs"]} for answer in answers]
    told = [{int(answer.headers["x-release"] == "odd")} for answer in answers]
    assert sides == told
    assert {0} in told and {1} in told
