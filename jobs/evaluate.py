"""Evaluate the final list, its sources and other lists on the plays that came after them.

    python -m jobs.evaluate --work data [--users N] [--peers] [--ablation]

Scores the lists of windows/test, made without knowing its holdout, over the whole catalogue and
all users of the holdout (a sample where there are more than --users, which is 30,000 at most). A
user without a past ("cold") gets the top list for a final one, as from the service, and no list
from the model; where lists are compared, each goes on with the top list. --peers fits other models
to the same window; --ablation lets the ranker learn without each generator and follows ALS through
its epochs. Makes metrics.json and report/evaluation.html.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import UNSET, structs

from jobs.contract import storage, tables
from jobs.contract.names import METRICS, RANKING, SPLIT
from jobs.contract.results import (
    Ablation,
    BaselineSetting,
    Comparison,
    EvaluatedWindow,
    LeftOut,
    Metrics,
    Ranking,
    SegmentScores,
    Split,
)
from jobs.contract.storage import JobError
from jobs.data import holdout
from jobs.evaluation import ablation, baselines
from jobs.evaluation.evaluator import Evaluator, K, Lists
from jobs.evaluation.generator_lists import candidate_recall, continued, own_lists
from jobs.evaluation.segments import segments
from jobs.metrics import accuracy
from jobs.metrics.bootstrap import intervals, ratio
from jobs.models.ranked_lists import read_lists
from jobs.ranking.candidates import GENERATORS
from jobs.reporting import evaluation_page
from jobs.reporting.terms import BEST, FINAL, PERSONAL, TOP, three_lists
from jobs.runtime import cli, memory, parallel


def evaluated_window(judge: Evaluator, window: Path) -> EvaluatedWindow:
    """Return how the window was cut and what the lists are scored on."""
    split = storage.read_json(window / SPLIT, "jobs.windows", Split)
    users, warm = len(judge.warm), int(np.count_nonzero(judge.warm))
    scored = {
        "users": users,
        "warm": warm,
        "cold": users - warm,
        "labels": judge.later.labels.nnz,
        "catalogue": int(np.count_nonzero(judge.listeners)),
        "tracks": len(judge.listeners),
        "heard": judge.past.chosen.heard,
        "als_epochs": judge.past.chosen.als_epochs,
        "diversity": f"by {judge.traits[0]}",
    }
    return EvaluatedWindow(**structs.asdict(split) | scored)


def best_single(judged: dict[str, float]) -> str:
    """The generator that was best on the window validation, whatever it is on test."""
    return max(GENERATORS, key=lambda name: judged.get(name, 0.0))


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


def by_segment(judge: Evaluator, lists: Lists, single: str) -> dict[str, SegmentScores]:
    """Return NDCG@10 of each list by part of users and tracks."""
    result = {}
    for part in segments(judge.past.data, judge.later, judge.past.chosen.heard):
        ndcg = {
            name: accuracy.per_user(items[part.users], part.labels, K)["ndcg"]
            for name, items in lists.items()
        }
        result[part.name] = SegmentScores(
            what=part.what,
            users=len(part.users),
            labels=part.labels.nnz,
            ndcg={name: float(values.mean()) for name, values in ndcg.items()},
            over_best_single=ratio(ndcg[FINAL], ndcg[single]),
        )
    return result


def read_peers(judge: Evaluator, windows: Path) -> tuple[Lists, dict[str, BaselineSetting]]:
    """Return the lists of each baseline, and the setting that it chose."""
    past, heard = judge.past.data, judge.past.chosen.heard
    lists, settings = {}, {}
    for peer in baselines.baselines(past):
        best = baselines.best_setting(peer, windows / "validation", heard)
        items = baselines.lists_of(peer, best.setting, past, judge.later.row[judge.warm], heard)
        lists[peer.name] = continued(judge.of_warm(items), judge.top)
        settings[peer.name] = best
    return lists, settings


def read_ablation(judge: Evaluator, windows: Path, generators: list[str]) -> Ablation:
    """Score users with a past by rankers without each generator, and ALS after each epoch."""
    warm = judge.later.warm()
    if not len(warm.row):
        return Ablation({}, [])
    ndcg = ablation.leave_one_out(windows, judge.past, warm, generators)
    left_out = {
        name: LeftOut(**over(values, ndcg[ablation.WHOLE]), ndcg=float(values.mean()))
        for name, values in ndcg.items()
    }
    return Ablation(left_out, ablation.als_by_epoch(judge.past, warm))


def measure(judge: Evaluator, ranking: Ranking, windows: Path, with_peers: bool) -> Metrics:
    """Return what metrics.json holds, but for the ablation."""
    past, row, test = judge.past, judge.later.row[judge.warm], windows / "test"
    ids = past.data.user_ids, past.data.track_ids
    generated = own_lists(past, row, judge.top[judge.warm])
    final = read_lists(tables.RECOMMENDATIONS, test, *ids)[row]
    served = {
        name: continued(judge.of_warm(items), judge.top)
        for name, items in {FINAL: final, **generated}.items()
    }
    peers, settings = read_peers(judge, windows) if with_peers else ({}, {})
    lists = {TOP: judge.top, PERSONAL: judge.of_warm(generated["als"]), FINAL: served[FINAL]}
    single = best_single(ranking.ndcg_on_validation)
    ndcg = judge.ndcg(served | peers)
    return Metrics(
        window=evaluated_window(judge, test),
        lists=judge.scores(lists),
        generators=judge.scores({name: served[name] for name in GENERATORS}),
        comparisons=compare(ndcg, single),
        intervals=intervals(ndcg),
        segments=by_segment(judge, served | peers, single),
        candidates=candidate_recall(generated, judge.later.warm().labels),
        peers=judge.scores(peers) if with_peers else UNSET,
        peer_settings=settings if with_peers else UNSET,
    )


def main(argv: Sequence[str]) -> str:
    """Make metrics.json and report/evaluation.html."""
    parser = cli.parser(__doc__)
    most = holdout.MOST_USERS
    parser.add_argument("--users", type=int, default=most, help="most users to score")
    parser.add_argument("--peers", action="store_true", help="compare with other models")
    parser.add_argument("--ablation", action="store_true", help="learn without each generator")
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("evaluate", args))
    if not 1 <= args.users <= most:
        raise JobError(f"--users is {args.users}: expected 1 to {most:,}")
    windows = args.work / "windows"
    ranking = storage.read_json(args.work / RANKING, "jobs.rank", Ranking)
    judge = Evaluator.read(windows / "test", args.users)
    content = measure(judge, ranking, windows, args.peers)
    if args.ablation:
        recalls = content.candidates.generators
        with_lists = [name for name in GENERATORS if recalls[name].users]
        content.ablation = read_ablation(judge, windows, with_lists)
    storage.write_json(args.work / METRICS, content)
    path = args.work / "report" / "evaluation.html"
    evaluation_page.page(content, ranking).write(path)
    lists = three_lists(content)
    ndcg = (f"{name} {kinds['all']['@10']['ndcg']:.4f}" for name, kinds in lists.items())
    return f"NDCG@10 of {content.window.users:,} users: {', '.join(ndcg)}; see {path}"


if __name__ == "__main__":
    cli.run(main)
