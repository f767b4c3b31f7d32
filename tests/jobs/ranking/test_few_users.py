"""What is chosen where there are few users: the defaults, and that is said."""

import numpy as np
import pytest

from jobs.contract import storage, tables
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.ranking.generators import GENERATORS
from tests.support.workspace import NOW, lists, run, run_line, save_input


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """All jobs on 24 users, who are too few to choose anything by."""
    rng = np.random.default_rng(0)
    played = [
        (user, int(track), float(day))
        for user in range(24)
        for track, day in zip(rng.permutation(60)[:30], rng.uniform(0, 100, 30), strict=True)
    ]
    folder = tmp_path_factory.mktemp("few")
    run_line(save_input(folder / "in", played, range(60)), folder)
    return folder


def test_of_few_users_settings_rule_split_and_blending_are_the_defaults(few):
    assert hyperparameters.load(few) == Hyperparameters()
    found = storage.read_json(few / "ranking.json", "jobs.rank")
    assert (found["rule"], found["too_few"]) == ("fusion", True)
    assert found["users"] < 50
    defaults = {name: generator.default_weight for name, generator in GENERATORS.items()}
    assert found["fusion_weights"] == pytest.approx(defaults)
    assert storage.read_json(few / "replay.json", "jobs.replay")["validation"] == []
    split = storage.read_json(few / "windows" / "test" / "split.json", "jobs.windows")
    assert (split["split"], split["share"]) == ("time", 0.1)


def test_each_job_says_that_few_users_decide_nothing(few):
    run("prepare", few, "--data", few / "in", "--now", NOW)
    for job in ("windows", "tune", "rank", "replay"):
        assert "too few to choose by" in run(job, few), job
    assert "prove nothing" in run("evaluate", few)
    page = (few / "report" / "evaluation.html").read_text()
    assert "so the way the final list is ordered is the default" in page.lower()


def test_where_no_user_can_be_asked_places_for_new_tracks_are_reserved_all_the_same(tmp_path):
    """All play one track over and over, so that no later play is of a track new to its user."""
    rng = np.random.default_rng(0)
    played = [(user, 0, float(day)) for user in range(20) for day in rng.uniform(0, 100, 5)]
    run_line(save_input(tmp_path / "in", played, range(6)), tmp_path, last="rank")
    summary = run("rank", tmp_path, "--new-share", "0.5")
    assert "0 users are too few to choose by" in summary and "as asked" not in summary
    assert storage.read_json(tmp_path / "ranking.json", "jobs.rank")["ndcg@10_with_new"] is None
    assert len(lists(tables.RECOMMENDATIONS, tmp_path)) == 20
