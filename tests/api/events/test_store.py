"""Both stores do what EventStore says."""

import asyncio

import pytest

from api.events.journal import JournalError
from api.events.tombstones import Tombstones
from api.service import open_store
from api.settings import Settings
from tests.support import version_1


@pytest.fixture(params=["off", "normal", "full"])
def journal(request):
    return request.param


def run_with_store(folder, journal, scene, **bounds):
    """Run a scene, a coroutine function of a store and its tombstones."""

    async def run():
        tombstones = Tombstones(folder / "forgotten.db")
        tombstones.read_new()
        store = open_store(Settings(work=folder, journal=journal, **bounds), tombstones)
        await store.start()
        await scene(store, tombstones)
        await store.stop()

    asyncio.run(run())


def test_a_put_is_read_back_newest_first(tmp_path, journal):
    async def scene(store, tombstones):
        for item in (679169, 679169, 630670):
            await store.put(16, item)
        assert store.last(16, 2) == [630670, 679169]
        assert store.of(16) == [630670, 679169, 679169]
        assert store.of(17) == []
        assert (store.users, store.status) == (1, "off" if journal == "off" else "ok")
        assert (store.journal is None) == (journal == "off")

    run_with_store(tmp_path, journal, scene)


def test_memory_is_bounded(tmp_path, journal):
    async def scene(store, tombstones):
        for user in range(4):
            await store.put(user, 1)
        assert (store.users, store.evictions) == (2, 2)
        assert store.of(0) == ([] if journal == "off" else [1])  # the journal still has it

    run_with_store(tmp_path, journal, scene, max_users=2)


def test_forgetting_stores_a_tombstone_and_only_later_events_count(tmp_path, journal):
    async def scene(store, tombstones):
        await store.put(7, 1)
        await store.put(8, 2)
        assert await store.forget(7) == 1
        assert Tombstones(tombstones.path).read_new() == [7]
        assert [store.of(user) for user in (7, 8)] == [[], [2]]
        await store.put(7, 3)
        assert store.of(7) == [3]

    run_with_store(tmp_path, journal, scene)


@pytest.mark.parametrize("broken", [False, True])
def test_who_is_forgotten_without_a_journal_stays_so_when_there_is_one_again(tmp_path, broken):
    path = tmp_path / "state" / "events.db"
    version_1.journal(path, version_1.after_one_event_of_2150())  # later than the clock
    if broken:
        path.write_text("no database" * 200)

    async def forget(store, tombstones):
        await store.forget(7)

    async def read(store, tombstones):
        assert store.of(7) == []
        assert store.of(3)[-1] == 10
        assert len(store.of(3)) == 11

    run_with_store(tmp_path, "off", forget)
    if not broken:
        run_with_store(tmp_path, "normal", read)


def test_a_user_whom_another_process_forgot_is_dropped(tmp_path, journal):
    async def scene(store, tombstones):
        await store.put(7, 1)
        other = Tombstones(tombstones.path)
        other.add(7)
        store.drop(tombstones.read_new())
        assert store.of(7) == []

    run_with_store(tmp_path, journal, scene)


def test_without_a_tombstone_nobody_is_forgotten(tmp_path, journal):
    async def scene(store, tombstones):
        await store.put(7, 1)
        tombstones.path = tmp_path / "file" / "forgotten.db"
        with pytest.raises(JournalError, match="can't be written"):
            await store.forget(7)
        assert store.of(7) == [1]

    (tmp_path / "file").write_text("")
    run_with_store(tmp_path, journal, scene)
