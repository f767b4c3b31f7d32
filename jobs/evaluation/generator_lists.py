"""The lists of each generator alone, and the share of the labels that its candidates contain."""

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.names import LIST_LENGTH
from jobs.contract.results import CandidateRecall, GeneratorRecall
from jobs.contract.top_k import NOTHING
from jobs.data.bounds import ENOUGH_USERS
from jobs.data.holdout import Holdout
from jobs.metrics import accuracy
from jobs.metrics.bootstrap import ratio
from jobs.models.ranked_lists import first_unheard
from jobs.ranking import candidates
from jobs.ranking.generators import GENERATORS
from jobs.ranking.snapshot import FORECAST, Snapshot
from jobs.runtime.parallel import in_blocks

USERS_A_BLOCK = 256
USEFUL_TO = 1_000  # users on whom it is measured whether a generator is of use
K = 10  # length of a list at which NDCG is computed
MUCH_BETTER = 1.1  # times the NDCG@10 of the top list: what the forecast's surely has to exceed


def own_lists(snapshot: Snapshot, users: np.ndarray) -> dict[str, np.ndarray]:
    """Return each generator's lists (users, 100) of items, for users in ascending rows."""

    def block(first: int, last: int) -> dict[str, np.ndarray]:
        of_users = snapshot.data.of_users(users[first:last])
        return candidates.generate(snapshot, of_users, LIST_LENGTH)[1]

    blocks = list(in_blocks(block, len(users), USERS_A_BLOCK, "generators"))
    none = np.empty((0, LIST_LENGTH), np.int32)
    return {
        name: np.concatenate([none, *(of_block[name] for of_block in blocks)])
        for name in GENERATORS
    }


def continued(lists: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Return lists (users, k) that go on with the users' top lists (users, k), no item twice.

    >>> continued(np.array([[7, NOTHING, NOTHING]]), np.array([[3, 7, 5]])).tolist()
    [[7, 3, 5]]
    """
    both = np.concatenate([lists, top], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    sorted_ = np.take_along_axis(both, order, axis=1)
    again = np.zeros(both.shape, bool)
    np.put_along_axis(again, order[:, 1:], sorted_[:, 1:] == sorted_[:, :-1], axis=1)
    kept = ~again & (both != NOTHING)
    place = np.cumsum(kept, axis=1) - 1
    row, at = np.nonzero(kept & (place < lists.shape[1]))
    result = np.full(lists.shape, NOTHING, np.int32)
    result[row, place[row, at]] = both[row, at]
    return result


def played_candidates(lists: dict[str, np.ndarray], labels: csr_matrix) -> np.ndarray:
    """Return how many of each user's labels are among the candidates of all generators, (users,).

    lists (users, 100) are by generator; labels (users, items).
    """
    found = np.concatenate(
        [items[:, : GENERATORS[name].candidates] for name, items in lists.items()], axis=1
    )
    row, place = np.nonzero(accuracy.hits(found, labels))
    keys = np.unique(row * labels.shape[1] + found[row, place])
    return np.bincount(keys // labels.shape[1], minlength=labels.shape[0])


def candidate_recall(lists: dict[str, np.ndarray], labels: csr_matrix) -> CandidateRecall:
    """Return which share of the labels (users, items) the candidates contain.

    That is the share for all generators together, and for each of them: the share in its
    candidates, the share in its candidates and no other's, and for how many users it has a list.
    lists (users, 100) are by generator.
    """
    n = labels.shape[1]
    keys = {}
    for name, found in lists.items():
        found = found[:, : GENERATORS[name].candidates]
        row, place = np.nonzero(accuracy.hits(found, labels))
        keys[name] = row * n + found[row, place]
    found_keys, times = np.unique(np.concatenate(list(keys.values())), return_counts=True)
    once = found_keys[times == 1]
    total = max(labels.nnz, 1)
    generators = {
        name: GeneratorRecall(
            users=int((lists[name] != NOTHING).any(axis=1).sum()),
            recall=len(of_generator) / total,
            alone=int(np.isin(of_generator, once).sum()) / total,
        )
        for name, of_generator in keys.items()
    }
    return CandidateRecall(labels.nnz, len(found_keys) / total, generators)


def useless(snapshot: Snapshot, users: Holdout) -> frozenset[str]:
    """Return the generators that jobs.rank does without, by some users of a holdout with a past.

    Of the labels that the candidates contain, such a generator alone finds less than the table of
    generators demands. Where that holds for several, they are left out one after the other, the one
    that finds least of what it has to first, since they may find the same labels. With few users
    nothing is left out but the forecast, which has to show that it is better than the top list (see
    forecast_pays).
    """
    off = set() if forecast_pays(snapshot, users) else {FORECAST}
    users = users.sample(USEFUL_TO)
    if len(users.row) < ENOUGH_USERS:
        return frozenset(off)
    lists = own_lists(replace(snapshot, switched_off=frozenset(off)), users.row)
    while optional := [name for name in lists if GENERATORS[name].least_alone]:
        recall = candidate_recall(lists, users.labels)
        pays = {
            name: recall.generators[name].alone / GENERATORS[name].least_alone for name in optional
        }
        worst = min(optional, key=lambda name: pays[name])
        if pays[worst] >= recall.union:
            break
        off.add(worst)
        del lists[worst]
    return frozenset(off)


def forecast_pays(snapshot: Snapshot, users: Holdout) -> bool:
    """Return whether the forecast's list is surely much better than the top list, by a holdout.

    That is so if the interval of the ratio of NDCG@10 (see metrics.bootstrap) lies above
    MUCH_BETTER. A little better isn't enough: the ranker has popularity over several horizons
    anyway, and where it does as well without the forecast, one more generator only adds chance to
    the choice of the rule. With few users nothing is sure. All users must have a past.
    """
    if len(users.row) < ENOUGH_USERS or not len(snapshot.rising):
        return False

    def block(first: int, last: int) -> np.ndarray:
        own = snapshot.data.of_users(users.row[first:last])
        out = own.kept_out(snapshot.hyperparameters.heard)
        labels = csr_matrix(users.labels[first:last])
        lists = (first_unheard(order, out) for order in (snapshot.rising, snapshot.top))
        return np.array([accuracy.per_user(found, labels, K)["ndcg"] for found in lists])

    blocks = list(in_blocks(block, len(users.row), USERS_A_BLOCK, "forecast"))
    known = ratio(*np.concatenate(blocks, axis=1)).known
    return known is not None and known[1] > MUCH_BETTER
