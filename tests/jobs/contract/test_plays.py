"""What the service computes of one user's plays is what the jobs compute for all."""

import shutil

import numpy as np
import pytest

from api.release.catalog import Catalog
from api.release.listings import listings
from jobs.contract.names import CURRENT
from jobs.contract.top_k import NOTHING
from jobs.ranking.candidates import generate
from jobs.ranking.generators import GENERATORS
from jobs.ranking.snapshot import Snapshot
from tests.support.workspace import copied, run


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
        assert found.lacks.keys() == {"forecast", "artist", "user_knn", "ease"}
        assert found.lists.keys() | found.lacks.keys() == {*GENERATORS}
        for name, tracks in expected.items():
            if name in found.lists:
                wanted = tracks[at][tracks[at] != NOTHING].tolist()
                assert found.lists[name].tolist() == wanted, (name, user_id)
                compared |= {name} if wanted else set()
    assert compared >= {"als", "next_played", "after_last", "similar"}
    assert ("replayed" in compared) == (heard == "include")
