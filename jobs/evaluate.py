"""Compare top popular, personal ALS and the final list on what was played after them.

    python -m jobs.evaluate --work data

Scores the lists of windows/report, made without knowing its holdout, over the whole catalogue and
all users of the holdout (a sample where there are more than --users). A user without a past
("cold") gets the top list for a final one, as from the service, and no list from the model. Makes
metrics.json and report/evaluation.html.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix

from jobs import command, contract, holdout, listens, metrics, settings
from jobs.contract import JobError
from jobs.holdout import COLD, Holdout
from jobs.listens import Listens
from jobs.ranked import first_unheard, in_blocks, read_lists
from jobs.report import Page
from jobs.retrieval import NOTHING

KS = (5, 10, 100)
TOP, PERSONAL, FINAL = "top popular", "personal ALS", "final list"
USERS_A_BLOCK = 512


def read_lists_of(window: Path, past: Listens, later: Holdout, heard: str) -> dict[str, np.ndarray]:
    """The (users, 100) items that each user of the holdout would have got, by kind of list."""
    cold = (later.row == COLD)[:, None]
    ids = past.user_ids, past.track_ids
    personal, final = (
        np.where(cold, NOTHING, read_lists(table, window, *ids)[later.row])
        for table in (contract.PERSONAL_ALS, contract.RECOMMENDATIONS)
    )
    top = contract.read(contract.TOP_POPULAR, window, ["track_id"])["track_id"].to_numpy()
    order = np.searchsorted(past.track_ids, top).astype(np.int32)

    def unheard(first: int, last: int) -> np.ndarray:
        row = later.row[first:last]
        known = holdout.heard_by(past, row) if heard == "exclude" else _none(row, past)
        return first_unheard(order, known)

    top = np.concatenate(list(in_blocks(unheard, len(cold), USERS_A_BLOCK, "evaluate")))
    return {TOP: top, PERSONAL: personal, FINAL: np.where(cold, top, final)}


def _none(row: np.ndarray, past: Listens) -> csr_matrix:
    return csr_matrix((len(row), past.shape[1]), dtype=np.float32)


def score(lists: dict[str, np.ndarray], later: Holdout, past: Listens) -> dict[str, Any]:
    """Metrics by list, kind of user (all, warm, cold), k and name; a kind without users is out."""
    listeners = past.pairs().getnnz(axis=0)
    catalogue = int(np.count_nonzero(listeners))
    warm = later.row != COLD
    kinds = {"all": np.ones(len(warm), bool), "warm": warm, "cold": ~warm}
    result: dict[str, Any] = {}
    for name, found in lists.items():
        for kind, users in kinds.items():
            if not users.any():
                continue
            for k in KS:
                values = metrics.per_user(found[users], csr_matrix(later.labels[users]), k)
                values["novelty"] = metrics.novelty(found[users], k, listeners, len(past.user_ids))
                means = {metric: float(value.mean()) for metric, value in values.items()}
                means["coverage"] = metrics.coverage(found[users], k, catalogue)
                result.setdefault(name, {}).setdefault(kind, {})[f"@{k}"] = means
    return result


def table_of(scores: dict[str, Any], kind: str, k: int) -> pd.DataFrame:
    """A row a list, a column a metric."""
    rows = {name: kinds[kind][f"@{k}"] for name, kinds in scores.items()}
    return pd.DataFrame(rows).T.rename_axis("list").reset_index().round(4)


def bars(scores: dict[str, Any], kind: str) -> Figure:
    """NDCG, recall and coverage of each list at every k."""
    shown = ("ndcg", "recall", "coverage")
    figure, axes = plt.subplots(1, len(shown), figsize=(11, 3.4), layout="constrained")
    for axis, metric in zip(axes, shown, strict=True):
        for i, (name, kinds) in enumerate(scores.items()):
            heights = [kinds[kind][f"@{k}"][metric] for k in KS]
            axis.bar(np.arange(len(KS)) + (i - 1) * 0.27, heights, 0.25, label=name)
        axis.set_xticks(range(len(KS)), [f"@{k}" for k in KS])
        axis.set_title(metric)
    axes[0].legend(frameon=False)
    return figure


def page(scores: dict[str, Any], facts: dict[str, Any], ranking: dict[str, Any]) -> Page:
    """The report to read."""
    result = Page("Evaluation")
    result.text(
        f"{facts['users']:,} users who played something new after the cut ({facts['cut']}; "
        f"{facts['split']} split: {facts['reason']}). {facts['warm']:,} of them have a past, "
        f"{facts['cold']:,} are cold. A user without a hit counts as 0; lists are drawn from the "
        f"whole catalogue of {facts['catalogue']:,} tracks."
    )
    for kind in ("all", "warm", "cold"):
        if kind in scores[FINAL]:
            result.figure(bars(scores, kind), f"{kind} users")
            for k in KS:
                result.table(table_of(scores, kind, k), f"{kind} users, at {k}")
    judged = pd.Series(ranking["ndcg@10_on_choose"]).sort_values(ascending=False).round(4)
    result.text(
        f"The final list is ordered by: {ranking['rule']}. It was chosen on an earlier window:"
    )
    result.table(judged.rename_axis("order").reset_index(name="NDCG@10"), "the window 'choose'")
    importance = pd.Series(ranking["feature_importance"]).sort_values().tail(25)
    figure, axis = plt.subplots(figsize=(8, 6), layout="constrained")
    axis.barh(importance.index, importance.to_numpy())
    result.figure(figure, "what the ranker looks at: share of its decisions, in per cent")
    return result


def main() -> str:
    """Make metrics.json and report/evaluation.html."""
    parser = command.parser(__doc__)
    parser.add_argument("--users", type=int, default=100_000, help="most users to score")
    args = parser.parse_args()
    if args.users < 1:
        raise JobError(f"--users is {args.users}: expected at least 1")
    window = args.work / "windows" / "report"
    past, heard = listens.load(window), settings.load(window).heard
    later = holdout.read(window, past, heard).sample(args.users)
    if not len(later.user_ids):
        raise JobError(f"nobody in {window} played anything new: there is nothing to score")
    scores = score(read_lists_of(window, past, later, heard), later, past)
    warm = int(np.count_nonzero(later.row != COLD))
    facts = contract.read_json(window / "split.json", made_by="jobs.windows") | {
        "users": len(later.user_ids),
        "warm": warm,
        "cold": len(later.user_ids) - warm,
        "catalogue": len(np.unique(past.item)),
        "heard": heard,
    }
    ranking = contract.read_json(args.work / "ranking.json", made_by="jobs.rank")
    contract.write_json(args.work / contract.METRICS, {"window": facts, "lists": scores})
    path = args.work / "report" / "evaluation.html"
    page(scores, facts, ranking).write(path)
    ndcg = (f"{name} {kinds['all']['@10']['ndcg']:.4f}" for name, kinds in scores.items())
    return f"NDCG@10 of {facts['users']:,} users: {', '.join(ndcg)}; see {path}"


if __name__ == "__main__":
    command.run(main)
