"""The weighted fusion of the generators' places."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from jobs.metrics import accuracy
from jobs.ranking import fusion
from jobs.ranking.candidates import Candidates
from jobs.ranking.generators import GENERATORS
from jobs.ranking.ranker import FittedRankers, best_lists

USERS, ITEMS = 6, 40
EVERYONE = np.ones(USERS, bool)
SOME = np.array([False, True, False, True, True, False])


def pool_of(seed: int) -> tuple[Candidates, csr_matrix]:
    """Candidates of a few users with places by chance, and labels, some not among them."""
    rng = np.random.default_rng(seed)
    row, item = np.divmod(np.flatnonzero(rng.random(USERS * ITEMS) < 0.7), ITEMS)
    pool = Candidates(row.astype(np.int32), item.astype(np.int32), item)
    for name in GENERATORS:
        places = rng.permutation(len(row)).astype(np.float32) % 50 + 1
        pool.places[name] = np.where(rng.random(len(row)) < 0.3, np.nan, places)
    labels = rng.random((USERS, ITEMS)) < 0.2
    labels[:, 0] = True
    return pool, csr_matrix(labels.astype(np.float32))


WEIGHTS = st.lists(
    st.sampled_from(fusion.LADDER), min_size=len(GENERATORS), max_size=len(GENERATORS)
)


@given(st.integers(0, 99), WEIGHTS)
def test_weights_are_fitted_to_the_very_ndcg_that_their_lists_have(seed, weights):
    pool, labels = pool_of(seed)
    models = FittedRankers(None, np.array(weights, np.float32))
    found, _ = best_lists(pool, models.scores(pool, "fusion"), USERS)
    expected = accuracy.per_user(found, labels, 10)["ndcg"].sum()
    assert fusion.sample(pool, labels, EVERYONE).ndcg(models.weights) == pytest.approx(expected)


@given(st.integers(0, 99))
def test_on_what_it_was_fitted_to_the_fusion_is_no_worse_than_any_generator(seed):
    pool, labels = pool_of(seed)
    sample = fusion.sample(pool, labels, EVERYONE)
    alone = [sample.ndcg(weights) for weights in np.eye(len(GENERATORS), dtype=np.float32)]
    assert sample.ndcg(fusion.fit([sample])) >= max(alone)


def test_a_sample_may_be_of_some_users_only():
    pool, labels = pool_of(0)
    weights = np.ones(len(GENERATORS), np.float32)
    found, _ = best_lists(pool, fusion.parts(pool) @ weights, USERS)
    expected = accuracy.per_user(found, labels, 10)["ndcg"][SOME].sum()
    assert fusion.sample(pool, labels, SOME).ndcg(weights) == pytest.approx(expected)
