"""Every generator alone, as if its lists were served, and what it brings to the candidates."""

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.names import LIST_LENGTH
from jobs.contract.results import CandidateRecall, GeneratorRecall
from jobs.contract.top_k import NOTHING
from jobs.metrics import accuracy
from jobs.ranking import candidates
from jobs.ranking.candidates import GENERATORS
from jobs.ranking.snapshot import Snapshot
from jobs.runtime.parallel import in_blocks

USERS_A_BLOCK = 512


def own_lists(past: Snapshot, users: np.ndarray, top: np.ndarray) -> dict[str, np.ndarray]:
    """(users, 100) items of each generator for users in some rows of the past, ascending.

    top (users, 100) are the first tracks of the top list that each may get.
    """

    def block(first: int, last: int) -> dict[str, np.ndarray]:
        part = users[first:last]
        _, lists = candidates.generate(past, part, past.data.of_users(part), LIST_LENGTH)
        return lists | {"popular": top[first:last]}

    blocks = list(in_blocks(block, len(users), USERS_A_BLOCK, "generators"))
    none = np.empty((0, LIST_LENGTH), np.int32)
    return {name: np.concatenate([none, *(own[name] for own in blocks)]) for name in GENERATORS}


def continued(lists: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Lists (users, 100) filled up with the users' top lists (users, 100), no item twice."""
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


def candidate_recall(lists: dict[str, np.ndarray], labels: csr_matrix) -> CandidateRecall:
    """Which share of the labels is in each generator's candidates, in its alone, and in any.

    And how many users each has a list for.
    """
    n = labels.shape[1]
    keys = {}
    for name, found in lists.items():
        found = found if name == "popular" else found[:, : candidates.EACH]
        row, place = np.nonzero(accuracy.hits(found, labels))
        keys[name] = row * n + found[row, place]
    every, times = np.unique(np.concatenate(list(keys.values())), return_counts=True)
    once = every[times == 1]
    total = max(labels.nnz, 1)
    generators = {
        name: GeneratorRecall(
            users=int((lists[name] != NOTHING).any(axis=1).sum()),
            recall=len(own) / total,
            alone=int(np.isin(own, once).sum()) / total,
        )
        for name, own in keys.items()
    }
    return CandidateRecall(labels.nnz, len(every) / total, generators)
