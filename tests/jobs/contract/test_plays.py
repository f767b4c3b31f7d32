"""What the service computes of one user's plays is what the jobs compute for all."""

import json
import shutil

import numpy as np
import pytest

from api.release.catalog import Catalog
from api.release.listings import listings
from jobs.contract import tables
from jobs.contract.names import CURRENT, RANKING
from jobs.contract.top_k import NOTHING
from jobs.ranking.candidates import generate
from jobs.ranking.generators import GENERATORS
from jobs.ranking.snapshot import Snapshot
from tests.support.workspace import copied, rows, run


@pytest.mark.parametrize("heard", ["exclude", "include"])
def test_the_generators_lists_are_those_that_the_ranker_gets(finished, tmp_path, heard):
    work = copied(finished, tmp_path / "work")
    if heard == "include":
        shutil.copytree(finished / "windows", work / "windows")
        run("tune", work, "--tune", "off", "--heard", "include")
        for job in ("top_popular", "train_als", "personal_als", "similar", "next_played"):
            run(job, work)
    run("publish", work, "--force")
    snapshot, catalog = Snapshot.read(work), Catalog((work / CURRENT).resolve(), {})
    users = np.arange(0, len(snapshot.data.user_ids), 7)
    block = snapshot.data.of_users(users)
    _, expected = generate(snapshot, block)
    compared = set()
    for at, user in enumerate(users):
        user_id = int(snapshot.data.user_ids[user])
        found = listings(catalog, user_id, catalog.row(user_id))
        assert found.lacks.keys() == {"user_knn", "sequence_knn"}
        assert found.lists.keys() | found.lacks.keys() == {*GENERATORS}
        for name, tracks in expected.items():
            if name in found.lists:
                wanted = tracks[at][tracks[at] != NOTHING].tolist()
                assert found.lists[name].tolist() == wanted, (name, user_id)
                compared |= {name} if wanted else set()
    assert compared >= {"als", "next_played", "after_last", "similar", "artist", "ease", "forecast"}
    assert ("replayed" in compared) == (heard == "include")


def test_what_a_release_lacks_is_said_and_its_other_lists_are_given(finished, tmp_path):
    work = copied(finished, tmp_path / "work")
    for table in (tables.ARTIST_TRACKS, tables.FORECAST, tables.ITEM_WEIGHTS):
        (work / table.file).unlink()
    run("publish", work, "--force")
    catalog = Catalog((work / CURRENT).resolve(), {})
    user_id = catalog.random_users(1)[0]
    found = listings(catalog, user_id, catalog.row(user_id))
    assert {name: "run python -m jobs." in why for name, why in found.lacks.items()} == {
        "forecast": True,
        "artist": True,
        "ease": True,
        "user_knn": False,
        "sequence_knn": False,
    }
    assert found.lists["als"].size


def test_a_list_that_the_ranker_did_without_is_shown_as_such(finished, tmp_path):
    work = copied(finished, tmp_path / "work")
    content = json.loads((work / RANKING).read_text()) | {"switched_off": ["ease", "forecast"]}
    (work / RANKING).unlink()
    (work / RANKING).write_text(json.dumps(content))
    run("publish", work, "--force")
    folder = (work / CURRENT).resolve()
    catalog = Catalog(folder, {})
    user_id = catalog.random_users(1)[0]
    assert listings(catalog, user_id, catalog.row(user_id)).left_out == ["forecast", "ease"]
    (folder / RANKING).write_text("[")
    assert listings(catalog, user_id, catalog.row(user_id)).left_out == []


def test_a_new_user_has_the_forecast_and_no_list_of_plays(finished):
    catalog = Catalog((finished / CURRENT).resolve(), {})
    found = listings(catalog, 1, -1)
    assert not any(found.lists[name].size for name in ("artist", "ease", "similar"))
    expected = [
        row[0]
        for row in sorted(
            rows(tables.FORECAST, finished, "track_id", "rank"), key=lambda row: row[1]
        )
    ]
    assert catalog.ids(found.lists["forecast"]) == expected[:100] and expected
