"""One pass over the candidates of a window gives its lists, examples and figures."""

import numpy as np
import pytest

from jobs.contract import compiling
from jobs.ranking import features, ranker
from jobs.ranking.ranker import AS_RANKED, FUSION, FittedRankers
from jobs.ranking.snapshot import Snapshot


@pytest.fixture(scope="module")
def window(finished):
    return finished / "windows" / "validation"


@pytest.fixture(scope="module")
def snapshot(window):
    return Snapshot.read(window)


def test_lists_that_are_made_with_the_examples_are_those_made_alone(window, snapshot, monkeypatch):
    monkeypatch.setattr(ranker, "MOST_USERS", 70)
    monkeypatch.setattr(ranker, "USERS_A_BLOCK", 64)
    later, models = ranker.listed_users(window, snapshot), FittedRankers.default()
    rules = ["als", FUSION]
    together = ranker.collect_and_evaluate(snapshot, later, models, rules, "validation", FUSION)
    alone = ranker.collect_and_evaluate(snapshot, later, models, rules, "validation")
    expected = ranker.final_lists(snapshot, later.row, FUSION, models, AS_RANKED, "")
    for found, others in zip(together.lists, expected, strict=True):
        assert all(map(np.array_equal, found, others))
    for rule in rules:
        assert together.ndcg[rule].tolist() == alone.ndcg[rule].tolist()
        assert len(together.ndcg[rule]) == 70
    for part in ("features", "played", "user"):
        ours, others = (
            np.concatenate([getattr(block.for_ranker, part) for block in collected.examples])
            for collected in (together, alone)
        )
        assert np.array_equal(ours, others, equal_nan=part == "features")
    samples = [sum(len(block.for_fusion.row) for block in c.examples) for c in (together, alone)]
    assert samples[0] == samples[1] > 0


def test_compiled_loops_give_the_same_candidates_and_features(window):
    users, found = np.arange(0, 90, 3), []
    for compiled in (False, True):
        compiling.use(compiled)
        try:
            found.append(features.featured_candidates(Snapshot.read(window), users))
        finally:
            compiling.use(False)
    plain, fast = found
    assert np.array_equal(plain.row, fast.row)
    assert np.array_equal(plain.item, fast.item)
    for name, values in plain.features.items():
        np.testing.assert_allclose(fast.features[name], values, rtol=1e-3, atol=1e-5, err_msg=name)
