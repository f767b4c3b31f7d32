"""The CatBoost ranker: collect its training examples, train it, and write lists in its order."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from catboost import CatBoost, Pool
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.contract.names import EARLIER, LIST_LENGTH
from jobs.contract.ragged import place_in_row
from jobs.contract.results import Ratio
from jobs.contract.top_k import NOTHING
from jobs.data import holdout, sampling
from jobs.data.holdout import Holdout
from jobs.metrics import accuracy
from jobs.metrics.bootstrap import ratio
from jobs.models.ranked_lists import rows_of
from jobs.ranking import artist_limit, fusion
from jobs.ranking.candidates import Candidates
from jobs.ranking.exploration import explored
from jobs.ranking.features import featured_candidates
from jobs.ranking.generators import GENERATORS
from jobs.ranking.snapshot import Snapshot
from jobs.runtime import parallel
from jobs.runtime.engine import in_blocks

T = TypeVar("T")
Lists = tuple[np.ndarray, np.ndarray]  # items and scores, (users, 100) each, best first
NO_LISTS: Lists = np.empty((0, LIST_LENGTH), np.int32), np.empty((0, LIST_LENGTH), np.float32)
RANKER, FUSION = "ranker", "fusion"
LONGER_RANKER = "longer ranker"  # the ranker with all the trees that it was fitted with
USERS_A_BLOCK = 256  # users whose candidates are made at a time: .5 MB for each
USERS_A_GROUP = 512  # users whose lists are written at a time
MOST_USERS = 12_000  # users of a window that the ranker is trained or evaluated on
FUSION_USERS = 1_000  # users of a window that the fusion's weights are fitted to
NEGATIVES = 40  # examples for each user, drawn from the candidates that were not played
SEED = 20
TREES, MORE_TREES = 150, 250  # of the ranker; see choose_trees
PARAMETERS = {
    "loss_function": "QueryRMSE",
    "depth": 6,
    "learning_rate": 0.05,
    "l2_leaf_reg": 20,
    "rsm": 0.5,  # share of the features that each split of a tree may choose from
    "border_count": 64,
    "random_seed": SEED,
    "allow_writing_files": False,
    "verbose": False,
}


@dataclass(frozen=True)
class TrainingExamples:
    """Candidates that the ranker is trained on."""

    features: np.ndarray  # (n, features) float32
    played: np.ndarray  # (n,) bool: whether the user played the track after the cut
    user: np.ndarray  # (n,) ascending


def over_users(
    snapshot: Snapshot,
    users: np.ndarray,
    visit: Callable[[Candidates, slice], T],
    name: str,
    length: int | None = None,
) -> Iterator[T]:
    """Yield visit(candidates, part) for each block of users, in order.

    candidates are those of users[part] (see featured_candidates); name is for the progress.
    """

    snapshot.complete()

    def block(first: int, last: int) -> T:
        return visit(featured_candidates(snapshot, users[first:last], length), slice(first, last))

    return in_blocks(block, len(users), USERS_A_BLOCK, f"rank {name}")


def listed_users(work: Path, snapshot: Snapshot) -> Holdout:
    """Return the users for whom a window gets final lists: those of its holdout, or a sample."""
    return (
        holdout.read(work, snapshot.data, snapshot.hyperparameters.heard)
        .sample(holdout.MOST_USERS)
        .warm()
    )


def collect_examples(
    candidates: Candidates, labels: csr_matrix, users: np.ndarray, user_ids: np.ndarray
) -> TrainingExamples:
    """Return the played candidates of users, and for each user NEGATIVES others, drawn by a hash.

    labels (users, items) are nonzero where the user played the track after the cut; users (n,) are
    their rows. Users of whom no candidate was played are left out, since there is nothing to learn
    from them. What is drawn for a user depends on their id and on the candidates alone.
    """
    played = accuracy.marked(labels, candidates.row, candidates.item)
    chance = sampling.fractions(user_ids[candidates.row], candidates.item, SEED)
    chance[played] = -1  # played candidates come first in their row
    order = np.lexsort((chance, candidates.row))
    place = place_in_row(np.bincount(candidates.row))
    hits = np.bincount(candidates.row[played], minlength=len(users))[candidates.row]
    kept = np.sort(order[(place < hits + NEGATIVES) & (hits > 0)])
    return TrainingExamples(candidates.matrix()[kept], played[kept], users[candidates.row[kept]])


def fit_ranker(
    windows: list[list[TrainingExamples]], names: list[str], trees: int
) -> CatBoost | None:
    """Train the ranker; return None if no candidate was played, or if all were.

    A group, inside which the ranker compares candidates, is one user in one window. names are those
    of the features.
    """
    parts = [(i, part) for i, window in enumerate(windows) for part in window]
    played = np.concatenate([np.zeros(0, bool)] + [part.played for _, part in parts])
    if played.all() or not played.any():
        return None
    features = np.concatenate([part.features for _, part in parts])
    group = np.concatenate([part.user.astype(np.int64) * len(windows) + i for i, part in parts])
    data = Pool(features, played.astype(np.float32), group_id=group, feature_names=names)
    parameters = PARAMETERS | {"iterations": trees, "thread_count": parallel.threads()}
    return CatBoost(parameters).fit(data)


def predict(ranker: CatBoost, candidates: Candidates, trees: int = 0) -> np.ndarray:
    """Return the score of each candidate, (n,) float32, by the first trees; 0 stands for all."""
    scores: np.ndarray = ranker.predict(candidates.matrix(), ntree_end=trees, thread_count=1)
    return scores.astype(np.float32)


@dataclass(frozen=True)
class BlockExamples:
    """What the ranker and the fusion learn from, for one block of users."""

    for_ranker: TrainingExamples
    for_fusion: fusion.Sample


def block_examples(candidates: Candidates, later: Holdout, for_fusion: np.ndarray) -> BlockExamples:
    """Return the examples of a block of users, whose holdout is given.

    The fusion learns only from those for whom for_fusion (users,) bool is true.
    """
    return BlockExamples(
        collect_examples(candidates, later.labels, later.row, later.user_ids),
        fusion.sample(candidates, later.labels, for_fusion),
    )


@dataclass(frozen=True)
class FittedRankers:
    """The rules that order candidates: the ranker, the fusion, and each generator alone."""

    ranker: CatBoost | None  # None if there was nothing to learn from
    weights: np.ndarray  # (generators,) float32: those of the fusion
    trees: int = TREES  # of the ranker; it may have more, which the rule LONGER_RANKER uses too

    @classmethod
    def fit(
        cls,
        windows: list[list[BlockExamples]],
        names: list[str],
        trees: int,
        fitted: int,
        rules: Collection[str] = (RANKER, FUSION),
    ) -> "FittedRankers":
        """Fit ranker and fusion to windows, each a list of blocks; names are those of features.

        The ranker has `fitted` trees, and the rule RANKER uses the first `trees` of them. Of the
        two, only those among `rules` are fitted; the fusion has its default weights otherwise.
        """
        models = cls.default()
        if RANKER in rules:
            examples = [[block.for_ranker for block in window] for window in windows]
            models = replace(models, ranker=fit_ranker(examples, names, fitted), trees=trees)
        if FUSION in rules:
            samples = [block.for_fusion for window in windows for block in window]
            models = replace(models, weights=fusion.fit(samples))
        return models

    @classmethod
    def default(cls) -> "FittedRankers":
        """Return what orders the lists where users are too few to learn from: a plain fusion."""
        weights = [generator.default_weight for generator in GENERATORS.values()]
        return cls(None, np.array(weights, np.float32))

    @property
    def usual(self) -> str:
        """Return the rule that orders the final lists unless another one is surely better."""
        return RANKER if self.ranker else FUSION

    @property
    def rules(self) -> list[str]:
        """Return the names of the rules: the generators, the fusion, the ranker if there is one."""
        if self.ranker is None:
            return [*GENERATORS, FUSION]
        longer = [LONGER_RANKER] if self.ranker.tree_count_ > self.trees else []
        return [*GENERATORS, FUSION, RANKER, *longer]

    def scores(self, candidates: Candidates, rule: str) -> np.ndarray:
        """Return the score that a rule gives each candidate, (n,) float32.

        It is the ranker's prediction; or the fusion's weighted sum; or minus the place in one
        generator's list, where the candidates that are not in it follow by their place in the top
        list.
        """
        if rule in (RANKER, LONGER_RANKER):
            assert self.ranker is not None
            return predict(self.ranker, candidates, self.trees if rule == RANKER else 0)
        if rule == FUSION:
            sums: np.ndarray = fusion.parts(candidates) @ self.weights
            return sums
        places = candidates.places[rule]
        behind = LIST_LENGTH + 1 + candidates.top_place
        return -np.where(np.isnan(places), behind, places).astype(np.float32)


def best_lists(candidates: Candidates, scores: np.ndarray, users: int) -> Lists:
    """Return the 100 best candidates of each user: items and scores (users, 100), best first.

    Equal scores are in the order of the candidates, which is that of ties.
    """
    order = np.lexsort((-scores, candidates.row))
    place = place_in_row(np.bincount(candidates.row))
    order, row, place = (part[place < LIST_LENGTH] for part in (order, candidates.row, place))
    items = np.full((users, LIST_LENGTH), NOTHING, np.int32)
    best = np.full((users, LIST_LENGTH), -np.inf, np.float32)
    items[row, place], best[row, place] = candidates.item[order], scores[order]
    items[np.isneginf(best)] = NOTHING
    return items, best


@dataclass(frozen=True)
class RuleChoice:
    """The rule that orders the final lists, and the one it was last compared with."""

    rule: str
    runner_up: str
    over_runner_up: Ratio  # of NDCG@10 on the window validation


@dataclass(frozen=True)
class Collected:
    """What collect_and_evaluate returns for the users of one window."""

    examples: list[BlockExamples]  # of the sample of the users
    ndcg: dict[str, np.ndarray]  # NDCG@10 of some rules, (users of the sample,)
    lists: list[Lists]  # of all users, in blocks; empty if they were not asked for


def collect_and_evaluate(
    snapshot: Snapshot,
    later: Holdout,
    models: FittedRankers | None,
    rules: Sequence[str],
    name: str,
    listed_by: str | None = None,
) -> Collected:
    """Return the training examples of a window's users, and the NDCG@10 (users,) of some rules.

    Both are those of a sample of at most MOST_USERS users. With `listed_by`, the name of a rule,
    the lists of all users by this rule are returned too. Each block of candidates is made once, for
    all of this. Without models there must be no rules.
    """
    of_sample = later.sample(MOST_USERS)
    users = later if listed_by else of_sample
    sampled = np.isin(users.user_ids, of_sample.user_ids)
    for_fusion = np.zeros(len(users.row), bool)
    if name not in EARLIER:  # a few weights need no more examples
        drawn = of_sample.user_ids[sampling.drawn(of_sample.user_ids, FUSION_USERS, SEED)]
        for_fusion = np.isin(users.user_ids, drawn)

    def visit(candidates: Candidates, part: slice) -> tuple[BlockExamples, list[np.ndarray], Lists]:
        some = sampled[part]
        lists = NO_LISTS
        if listed_by:
            assert models is not None
            lists = best_lists(candidates, models.scores(candidates, listed_by), len(some))
        of_some, block = candidates.of_users(some), users.take(np.flatnonzero(some) + part.start)
        ndcg = []
        for rule in rules:
            assert models is not None
            if rule == listed_by:
                found = lists[0][some]
            else:
                found, _ = best_lists(of_some, models.scores(of_some, rule), len(block.row))
            ndcg.append(accuracy.per_user(found, block.labels, 10)["ndcg"])
        return block_examples(of_some, block, for_fusion[part][some]), ndcg, lists

    blocks = list(over_users(snapshot, users.row, visit, name))
    ndcg = {
        rule: np.concatenate([np.zeros(0), *(by_rule[i] for _, by_rule, _ in blocks)])
        for i, rule in enumerate(rules)
    }
    lists = [lists for *_, lists in blocks] if listed_by else []
    return Collected([examples for examples, *_ in blocks], ndcg, lists)


def choose_trees(ndcg: dict[str, np.ndarray]) -> tuple[int, dict[str, np.ndarray]]:
    """Return how many trees the ranker gets, and the NDCG@10 (users,) of each rule with them.

    More trees are taken only if they are surely better: where users are few, more trees fit noise.
    They are compared only if ndcg has LONGER_RANKER.

    >>> ndcg = {"ranker": np.full(100, 0.2), "longer ranker": np.full(100, 0.3)}
    >>> trees, of_rules = choose_trees(ndcg)
    >>> trees, {rule: float(of.mean()) for rule, of in of_rules.items()}
    (250, {'ranker': 0.3})
    """
    rules = {rule: of for rule, of in ndcg.items() if rule != LONGER_RANKER}
    if LONGER_RANKER in ndcg and _surely_above_1(ratio(ndcg[LONGER_RANKER], ndcg[RANKER])):
        return MORE_TREES, rules | {RANKER: ndcg[LONGER_RANKER]}
    return TREES, rules


def _surely_above_1(over: Ratio) -> bool:
    return over.known is not None and over.known[1] > 1


def choose_rule(ndcg: dict[str, np.ndarray]) -> RuleChoice:
    """Return the rule that orders the final lists, by the NDCG@10 (users,) of each rule.

    The ranker orders them, since it does so best on most data, unless another rule is surely
    better: the interval of its ratio to the ranker (see metrics.bootstrap) lies above 1. Here the
    ranker is evaluated after training on the earlier windows only, but it orders the final lists
    after training on all of them, which makes it better. Without a ranker, the rule with the best
    mean is chosen.

    >>> close = {"als": np.array([0.3, 0.0] * 50), "ranker": np.array([0.0, 0.29] * 50)}
    >>> choose_rule(close).rule, choose_rule(close).runner_up
    ('ranker', 'als')
    >>> choose_rule({"als": np.full(100, 0.3), "ranker": np.full(100, 0.2)}).rule
    'als'
    """
    best, *others = sorted(ndcg, key=lambda name: -ndcg[name].mean())
    if RANKER not in ndcg:
        return RuleChoice(best, others[0], ratio(ndcg[best], ndcg[others[0]]))
    other = best if best != RANKER else others[0]
    over_ranker = ratio(ndcg[other], ndcg[RANKER])
    if _surely_above_1(over_ranker) or (ndcg[other].any() and not ndcg[RANKER].any()):
        return RuleChoice(other, RANKER, over_ranker)
    return RuleChoice(RANKER, other, ratio(ndcg[RANKER], ndcg[other]))


@dataclass(frozen=True)
class Places:
    """What moves tracks in lists that are ranked already.

    At most `limit` of the first tracks are by one artist, where that is possible (see
    artist_limit); None stands for any number. new_share of the places are for tracks without a
    listen (see exploration).
    """

    limit: int | None
    new_share: float

    def arrange(self, lists: Lists, snapshot: Snapshot, users: np.ndarray) -> Lists:
        """Return the lists of some users (rows) in their final order."""
        order = artist_limit.limited(lists[0], snapshot.artists, self.limit)
        items, scores = (np.take_along_axis(part, order, axis=1) for part in lists)
        return explored(items, scores, snapshot.new_lists[users], self.new_share)

    def arrange_all(
        self, blocks: Iterable[Lists], snapshot: Snapshot, users: np.ndarray
    ) -> list[Lists]:
        """Return the blocks of lists of users (rows) in their final order."""
        result, first = [], 0
        for lists in blocks:
            last = first + len(lists[0])
            result.append(self.arrange(lists, snapshot, users[first:last]))
            first = last
        return result


AS_RANKED = Places(None, 0)


def final_lists(
    snapshot: Snapshot,
    users: np.ndarray,
    rule: str,
    models: FittedRankers,
    places: Places,
    name: str,
) -> Iterator[Lists]:
    """Yield the final lists of users (ascending rows), a block of users at a time."""

    def visit(candidates: Candidates, part: slice) -> Lists:
        n = part.stop - part.start
        lists = best_lists(candidates, models.scores(candidates, rule), n)
        return places.arrange(lists, snapshot, users[part])

    length = LIST_LENGTH if rule in GENERATORS else None
    return over_users(snapshot, users, visit, name, length)


def write_lists(work: Path, snapshot: Snapshot, users: np.ndarray, blocks: Iterable[Lists]) -> int:
    """Write recommendations.parquet of the lists of users (rows); return how many rows it has."""
    written = first = 0
    with tables.writer(tables.RECOMMENDATIONS, work) as append:
        for found, scores in _joined(blocks):
            ids = snapshot.data.user_ids[users[first : first + len(found)]]
            table = rows_of(tables.RECOMMENDATIONS, ids, snapshot.data.track_ids, found, scores)
            append(table)
            first, written = first + len(found), written + len(table)
    return written


def _joined(blocks: Iterable[Lists]) -> Iterator[Lists]:
    """Yield the same lists in blocks of at least USERS_A_GROUP users."""
    waiting = [NO_LISTS]
    for block in blocks:
        waiting.append(block)
        if sum(len(items) for items, _ in waiting) >= USERS_A_GROUP:
            yield _one_block(waiting)
            waiting = [NO_LISTS]
    if len(waiting) > 1:
        yield _one_block(waiting)


def _one_block(blocks: list[Lists]) -> Lists:
    items, scores = zip(*blocks, strict=True)
    return np.concatenate(items), np.concatenate(scores)
