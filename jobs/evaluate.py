"""Evaluate the final list, its sources and other lists on the plays that came after them.

    python -m jobs.evaluate --work data [--users N] [--peers] [--ablation]

Scores the lists of windows/test, which were made without its holdout, for all users of the holdout;
if there are more than --users (30,000 at most), for a random sample of them. Lists may contain any
track, so they are not compared on a small sample of tracks. A user without a past ("cold") gets the
top list as the final list, as from the service, and has no list by ALS. Where lists are compared,
each is continued by the top list.

--peers also trains other models on the same window. --ablation also trains the ranker without each
generator, and measures ALS after each epoch. Makes metrics.json and report/evaluation.html.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from msgspec import UNSET, UnsetType, structs

from jobs.contract import compiling, storage, tables
from jobs.contract.names import METRICS, RANKING, SPLIT
from jobs.contract.results import (
    Ablation,
    ArtistLimit,
    ArtistSpread,
    BaselineSetting,
    Comparison,
    EvaluatedWindow,
    LeftOut,
    Metrics,
    Ranking,
    Scores,
    SegmentScores,
    Split,
)
from jobs.contract.storage import JobError
from jobs.data import holdout
from jobs.evaluation import ablation, baselines
from jobs.evaluation.evaluator import Evaluator, K, Lists
from jobs.evaluation.generator_lists import (
    candidate_recall,
    continued,
    own_lists,
    played_candidates,
)
from jobs.evaluation.segments import segments
from jobs.metrics import accuracy, beyond_accuracy
from jobs.metrics.bootstrap import intervals, ratio
from jobs.models.ranked_lists import read_by_score, read_lists
from jobs.ranking import artist_limit
from jobs.ranking.generators import GENERATORS
from jobs.ranking.ranker import TREES
from jobs.reporting import evaluation_page
from jobs.reporting.evaluation_text import too_few_users
from jobs.reporting.terms import BEST, FINAL, PERSONAL, TOP, three_lists
from jobs.runtime import cli, memory, parallel


def evaluated_window(evaluator: Evaluator, window: Path) -> EvaluatedWindow:
    """Return how the window was cut and what the lists are scored on."""
    split = storage.read_json(window / SPLIT, "jobs.windows", Split)
    users, warm = len(evaluator.warm), int(np.count_nonzero(evaluator.warm))
    scored = {
        "users": users,
        "warm": warm,
        "cold": users - warm,
        "labels": evaluator.later.labels.nnz,
        "catalogue": int(np.count_nonzero(evaluator.listeners)),
        "tracks": len(evaluator.listeners),
        "heard": evaluator.snapshot.hyperparameters.heard,
        "als_epochs": evaluator.snapshot.hyperparameters.als_epochs,
        "diversity": f"by {evaluator.traits[0]}",
    }
    return EvaluatedWindow(**structs.asdict(split) | scored)


def best_single(ndcg: dict[str, float]) -> str:
    """Return the generator with the best NDCG@10 on the window validation.

    It is not chosen on the window test, so that the comparison there is fair.
    """
    return max(GENERATORS, key=lambda name: ndcg.get(name, 0.0))


def over(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float | None]:
    """Return the fields of a Ratio of users' values (users,)."""
    return structs.asdict(ratio(ours, theirs))


def compare(ndcg: dict[str, np.ndarray], single: str) -> dict[str, Comparison]:
    """Compare the final list with the best single generator, personal ALS, and every baseline."""
    others = {BEST: single, PERSONAL: "als"} | {
        name: name for name in ndcg if name != FINAL and name not in GENERATORS
    }
    return {
        name: Comparison(**over(ndcg[FINAL], ndcg[other]), compared=other)
        for name, other in others.items()
    }


def by_segment(evaluator: Evaluator, lists: Lists, single: str) -> dict[str, SegmentScores]:
    """Return NDCG@10 of each list by segment of the users and tracks, and what limits it."""
    result = {}
    for part in segments(
        evaluator.snapshot.data, evaluator.later, evaluator.snapshot.hyperparameters.heard
    ):
        ndcg = {
            name: accuracy.per_user(items[part.users], part.labels, K)["ndcg"]
            for name, items in lists.items()
        }
        generated = {name: lists[name][part.users] for name in GENERATORS}
        reached, possible = played_candidates(generated, part.labels), part.labels.getnnz(axis=1)
        result[part.name] = SegmentScores(
            what=part.what,
            users=len(part.users),
            labels=part.labels.nnz,
            ndcg={name: float(values.mean()) for name, values in ndcg.items()},
            over_best_single=ratio(ndcg[FINAL], ndcg[single]),
            recall=float(reached.sum() / possible.sum()),
            best_order=float(accuracy.best_ndcg(reached, possible, K).mean()),
        )
    return result


def lists_of_baselines(
    evaluator: Evaluator, windows: Path
) -> tuple[Lists, dict[str, BaselineSetting]]:
    """Return the lists of each baseline, and the setting that was chosen for it."""
    past, heard = evaluator.snapshot.data, evaluator.snapshot.hyperparameters.heard
    lists, settings = {}, {}
    for baseline in baselines.baselines(past):
        best = baselines.best_setting(baseline, windows / "validation", heard)
        items = baselines.lists_of(
            baseline, best.setting, past, evaluator.later.row[evaluator.warm], heard
        )
        lists[baseline.name] = continued(evaluator.of_warm(items), evaluator.top)
        settings[baseline.name] = best
    return lists, settings


def measure_artists(
    evaluator: Evaluator, final: np.ndarray, ranking: Ranking, test: Path
) -> ArtistLimit | UnsetType:
    """Return by how many artists final lists (users with a past, 100) are, and the limit's cost.

    UNSET if no track has an artist, or no user a past.
    """
    data, artists = evaluator.snapshot.data, evaluator.snapshot.artists
    if not artists.nnz or not len(final):
        return UNSET
    warm = evaluator.later.warm()
    ids = data.user_ids, data.track_ids
    without = read_by_score(tables.RECOMMENDATIONS, test, *ids)[warm.row]

    def spread(items: np.ndarray) -> ArtistSpread:
        ndcg = float(accuracy.per_user(items, warm.labels, K)["ndcg"].mean())
        found = artist_limit.spread(items, artists)
        coverage = beyond_accuracy.coverage(items, K, evaluator.listeners)
        return ArtistSpread(*found, coverage, ndcg)

    return ArtistLimit(ranking.artist_limit, spread(final), spread(without))


def scores_by_id(evaluator: Evaluator, lists: Lists, test: Path) -> dict[str, Scores] | UnsetType:
    """Return the lists' metrics if only the id that was played is a hit.

    UNSET where no song has several ids, so that the metrics would be the same.
    """
    if not (test / tables.SONGS.file).exists():
        return UNSET
    heard = evaluator.snapshot.hyperparameters.heard
    labels = holdout.read_played(test, evaluator.later.user_ids, heard)
    return replace(evaluator, later=replace(evaluator.later, labels=labels)).scores(lists)


def measure_ablation(
    evaluator: Evaluator, windows: Path, generators: list[str], trees: int
) -> Ablation:
    """Return NDCG@10 of rankers without each generator, and of ALS after each epoch.

    The rankers have as many trees as `trees` says.

    Only users with a past are scored.
    """
    warm = evaluator.later.warm()
    if not len(warm.row):
        return Ablation({}, [])
    ndcg = ablation.leave_one_out(windows, evaluator.snapshot, warm, generators, trees)
    left_out = {
        name: LeftOut(**over(values, ndcg[ablation.WHOLE]), ndcg=float(values.mean()))
        for name, values in ndcg.items()
    }
    return Ablation(left_out, ablation.als_by_epoch(evaluator.snapshot, warm))


def measure(evaluator: Evaluator, ranking: Ranking, windows: Path, with_peers: bool) -> Metrics:
    """Return the content of metrics.json, without the ablation."""
    snapshot, row, test = evaluator.snapshot, evaluator.later.row[evaluator.warm], windows / "test"
    ids = snapshot.data.user_ids, snapshot.data.track_ids
    generated = own_lists(snapshot, row)
    final = read_lists(tables.RECOMMENDATIONS, test, *ids)[row]
    served = {
        name: continued(evaluator.of_warm(items), evaluator.top)
        for name, items in {FINAL: final, **generated}.items()
    }
    peers, settings = lists_of_baselines(evaluator, windows) if with_peers else ({}, {})
    lists = {
        TOP: evaluator.top,
        PERSONAL: evaluator.of_warm(generated["als"]),
        FINAL: served[FINAL],
    }
    single = best_single(ranking.ndcg_on_validation)
    ndcg = evaluator.ndcg(served | peers)
    return Metrics(
        window=evaluated_window(evaluator, test),
        lists=evaluator.scores(lists),
        lists_by_id=scores_by_id(evaluator, lists, test),
        artists=measure_artists(evaluator, final, ranking, test),
        generators=evaluator.scores({name: served[name] for name in GENERATORS}),
        comparisons=compare(ndcg, single),
        intervals=intervals(ndcg),
        segments=by_segment(evaluator, served | peers, single),
        candidates=candidate_recall(generated, evaluator.later.warm().labels),
        peers=evaluator.scores(peers) if with_peers else UNSET,
        peer_settings=settings if with_peers else UNSET,
    )


def main(argv: Sequence[str]) -> str:
    """Make metrics.json and report/evaluation.html."""
    parser = cli.parser(__doc__)
    most = holdout.MOST_USERS
    parser.add_argument("--users", type=int, default=most, help="score at most this many users")
    parser.add_argument("--peers", action="store_true", help="also compare with other models")
    parser.add_argument(
        "--ablation", action="store_true", help="also train the ranker without each generator"
    )
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("evaluate", args))
    compiling.set_by_size(args.work)
    if not 1 <= args.users <= most:
        raise JobError(f"--users is {args.users}: expected 1 to {most:,}")
    windows = args.work / "windows"
    ranking = storage.read_json(args.work / RANKING, "jobs.rank", Ranking)
    evaluator = Evaluator.read(windows / "test", args.users, frozenset(ranking.switched_off))
    content = measure(evaluator, ranking, windows, args.peers)
    if args.ablation:
        recalls = content.candidates.generators
        with_lists = [name for name in GENERATORS if recalls[name].users]
        content.ablation = measure_ablation(evaluator, windows, with_lists, ranking.trees or TREES)
    storage.write_json(args.work / METRICS, content)
    path = args.work / "report" / "evaluation.html"
    evaluation_page.page(content, ranking).write(path)
    lists = three_lists(content)
    ndcg = (f"{name} {kinds['all']['@10']['ndcg']:.4f}" for name, kinds in lists.items())
    warning = f"WARNING: {too_few_users(content)} " if too_few_users(content) else ""
    return f"{warning}NDCG@10 of {content.window.users:,} users: {', '.join(ndcg)}; see {path}"


if __name__ == "__main__":
    cli.run(main)
