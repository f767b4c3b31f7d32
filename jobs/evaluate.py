"""Compare the final list with what it is made of, and with others, on what was played after them.

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
from typing import Any

import numpy as np

from jobs.contract import storage, tables
from jobs.contract.names import METRICS
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


def facts_of(judge: Evaluator, window: Path) -> dict[str, Any]:
    """What the lists are judged on."""
    split = storage.read_json(window / "split.json", made_by="jobs.windows")
    users, warm = len(judge.warm), int(np.count_nonzero(judge.warm))
    return split | {
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


def best_single(judged: dict[str, float]) -> str:
    """The generator that was best on the window validation, whatever it is on test."""
    return max(GENERATORS, key=lambda name: judged.get(name, 0.0))


def compare(ndcg: dict[str, np.ndarray], single: str) -> dict[str, Any]:
    """The final list over the best single generator, personal ALS, and every peer."""
    others = {BEST: single, PERSONAL: "als"} | {
        name: name for name in ndcg if name != FINAL and name not in GENERATORS
    }
    return {name: {"list": own} | ratio(ndcg[FINAL], ndcg[own]) for name, own in others.items()}


def by_segment(judge: Evaluator, lists: Lists, single: str) -> dict[str, Any]:
    """NDCG@10 of each list by part of users and tracks; the final list over the best single."""
    result = {}
    for part in segments(judge.past.data, judge.later, judge.past.chosen.heard):
        ndcg = {
            name: accuracy.per_user(found[part.users], part.labels, K)["ndcg"]
            for name, found in lists.items()
        }
        result[part.name] = {
            "what": part.what,
            "users": len(part.users),
            "labels": part.labels.nnz,
            "ndcg@10": {name: float(values.mean()) for name, values in ndcg.items()},
            "over_best_single": ratio(ndcg[FINAL], ndcg[single]),
        }
    return result


def read_peers(judge: Evaluator, windows: Path) -> tuple[Lists, dict[str, Any]]:
    """The lists of each peer, and the setting that it chose."""
    past, heard = judge.past.data, judge.past.chosen.heard
    lists, told = {}, {}
    for peer in baselines.baselines(past):
        setting, about = baselines.best_setting(peer, windows / "validation", heard)
        found = baselines.lists_of(peer, setting, past, judge.later.row[judge.warm], heard)
        lists[peer.name] = continued(judge.of_warm(found), judge.top)
        told[peer.name] = {"setting": setting} | about
    return lists, told


def read_ablation(judge: Evaluator, windows: Path, generators: list[str]) -> dict[str, Any]:
    """NDCG@10 of users with a past without each generator, and over that with all; ALS by epoch."""
    warm = judge.later.warm()
    if not len(warm.row):
        return {"left_out": {}, "als_by_epoch": []}
    ndcg = ablation.leave_one_out(windows, judge.past, warm, generators)
    left = {
        out: {"ndcg@10": float(values.mean())} | ratio(values, ndcg[ablation.WHOLE])
        for out, values in ndcg.items()
    }
    return {"left_out": left, "als_by_epoch": ablation.als_by_epoch(judge.past, warm)}


def measure(
    judge: Evaluator, ranking: dict[str, Any], windows: Path, with_peers: bool
) -> dict[str, Any]:
    """What metrics.json holds, but for the ablation."""
    past, row, report = judge.past, judge.later.row[judge.warm], windows / "test"
    ids = past.data.user_ids, past.data.track_ids
    found = own_lists(past, row, judge.top[judge.warm])
    found_by_all = {FINAL: read_lists(tables.RECOMMENDATIONS, report, *ids)[row], **found}
    served = {name: continued(judge.of_warm(own), judge.top) for name, own in found_by_all.items()}
    others, told = read_peers(judge, windows) if with_peers else ({}, {})
    lists = {TOP: judge.top, PERSONAL: judge.of_warm(found["als"]), FINAL: served[FINAL]}
    single = best_single(ranking["ndcg@10_on_validation"])
    ndcg = judge.ndcg(served | others)
    content = {
        "window": facts_of(judge, report),
        "lists": judge.scores(lists),
        "generators": judge.scores({name: served[name] for name in GENERATORS}),
        "comparisons": compare(ndcg, single),
        "intervals": intervals(ndcg),
        "segments": by_segment(judge, served | others, single),
        "candidates": candidate_recall(found, judge.later.warm().labels),
    }
    return content | ({"peers": judge.scores(others), "peer_settings": told} if with_peers else {})


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
    ranking = storage.read_json(args.work / "ranking.json", made_by="jobs.rank")
    judge = Evaluator.read(windows / "test", args.users)
    content = measure(judge, ranking, windows, args.peers)
    if args.ablation:
        bring = content["candidates"]["generators"]
        some = [name for name in GENERATORS if bring[name]["users"]]
        content["ablation"] = read_ablation(judge, windows, some)
    storage.write_json(args.work / METRICS, content)
    path = args.work / "report" / "evaluation.html"
    evaluation_page.page(content, ranking).write(path)
    lists = three_lists(content)
    ndcg = (f"{name} {kinds['all']['@10']['ndcg']:.4f}" for name, kinds in lists.items())
    users = content["window"]["users"]
    return f"NDCG@10 of {users:,} users: {', '.join(ndcg)}; see {path}"


if __name__ == "__main__":
    cli.run(main)
