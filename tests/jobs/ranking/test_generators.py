"""The table of generators: every row keeps the rules that candidates and features rely on."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from jobs.contract import storage
from jobs.contract.names import RANKING
from jobs.data import holdout
from jobs.evaluation import generator_lists
from jobs.ranking import features
from jobs.ranking.generators import GENERATORS
from jobs.ranking.snapshot import Snapshot
from jobs.runtime import up_to_date
from tests.support.workspace import run

MAY_BE_OFF = frozenset({"user_knn", "sequence_knn", "ease"})


@pytest.fixture(scope="module")
def snapshot(finished) -> Snapshot:
    return Snapshot.read(finished / "windows" / "train")


@pytest.mark.parametrize("name", GENERATORS)
def test_scores_of_a_user_do_not_depend_on_who_else_is_in_the_block(name, snapshot):
    score = GENERATORS[name].scores
    users = np.arange(0, 60, 2)
    together = score(snapshot, snapshot.data.of_users(users)).toarray()
    assert together.dtype == np.float32 and together.shape == (30, snapshot.data.shape[1])
    assert (together >= 0).all()
    for row in (0, 7, 29):
        alone = score(snapshot, snapshot.data.of_users(users[row : row + 1])).toarray()
        assert alone[0] == pytest.approx(together[row], rel=1e-6)


@pytest.mark.parametrize("name", GENERATORS)
def test_if_a_file_of_a_generator_changes_the_lists_are_made_again(name):
    read, _ = up_to_date.FILES["rank"]
    for table in GENERATORS[name].made_from:
        assert {table.file, f"windows/test/{table.file}"} <= set(read)


def test_a_generator_that_is_switched_off_proposes_nothing_and_has_no_features(snapshot):
    users = np.arange(40)
    whole = features.featured_candidates(snapshot, users)
    off = features.featured_candidates(replace(snapshot, switched_off=MAY_BE_OFF), users)
    of_these = [name for name in whole.features if name.startswith((*MAY_BE_OFF,))]
    assert len(of_these) == 3 * len(MAY_BE_OFF)
    assert list(off.features) == [name for name in whole.features if name not in of_these]
    for name in MAY_BE_OFF:
        assert np.isnan(off.places[name]).all()
        assert whole.features[f"{name}_score"].any()
    keys = [set(zip(of.row.tolist(), of.item.tolist(), strict=True)) for of in (off, whole)]
    assert keys[0] <= keys[1]


def demand(least_alone, monkeypatch):
    """Let each generator that may be left out have to find this share of the labels alone."""
    table = GENERATORS | {
        name: replace(GENERATORS[name], least_alone=least_alone) for name in MAY_BE_OFF
    }
    monkeypatch.setattr(generator_lists, "GENERATORS", table)


def test_a_generator_is_switched_off_where_it_alone_finds_next_to_nothing(finished, monkeypatch):
    window = finished / "windows" / "train"
    snapshot = Snapshot.read(window)
    users = holdout.read(window, snapshot.data, snapshot.hyperparameters.heard).warm()
    monkeypatch.setattr(generator_lists, "forecast_pays", lambda *_: True)
    for least, expected in ((1e-9, frozenset()), (1.1, MAY_BE_OFF)):
        demand(least, monkeypatch)
        assert generator_lists.useless(snapshot, users) == expected
    few = users.take(np.arange(40))
    assert generator_lists.useless(snapshot, few) == frozenset()


def test_of_two_that_find_the_same_one_stays(finished, monkeypatch):
    window = finished / "windows" / "train"
    snapshot = Snapshot.read(window)
    users = holdout.read(window, snapshot.data, snapshot.hyperparameters.heard).warm()
    some = replace(GENERATORS["next_played"], least_alone=0.005)
    table = {"popular": GENERATORS["popular"], "one": some, "other": some}
    monkeypatch.setattr(generator_lists, "forecast_pays", lambda *_: True)
    monkeypatch.setattr(generator_lists, "GENERATORS", table)
    monkeypatch.setattr("jobs.ranking.candidates.GENERATORS", table)
    assert len(generator_lists.useless(snapshot, users)) == 1


def test_what_is_switched_off_is_said(finished, tmp_path, monkeypatch):
    work = shutil.copytree(finished, tmp_path / "work", symlinks=True)
    demand(1.1, monkeypatch)
    assert run("rank", work).endswith(
        "; without the candidates of ease, forecast, sequence_knn, user_knn"
    )
    off = storage.read_json(work / RANKING, "jobs.rank")["switched_off"]
    assert off == ["ease", "forecast", "sequence_knn", "user_knn"]
