"""Choose the settings that depend on the data, by what they would have foreseen.

    python -m jobs.tune --work data [--tune off|quick|full] [--heard exclude|include]

Makes settings.json here and in every window. Each generator is tried on the windows "train" and
"validation": made from the past, scored by NDCG@10 on the holdout, averaged over the two; the
window "test" stays unseen. One setting after another moves to its best neighbour on a ladder of
values until none is clearly better. "quick" looks at users with at most 200,000 listens in all, or
two a track if that is more, drawn at random, "full" at ten times as many; "off" writes the
defaults. What fades is tried along the whole ladder, since short histories can't tell the long
half-lives apart.
"""

from collections.abc import Sequence

from jobs.contract.names import WINDOWS
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.runtime import cli, memory, parallel
from jobs.selection.hyperparameter_search import TuningWindow, by_size, tune


def main(argv: Sequence[str]) -> str:
    """Make settings.json."""
    parser = cli.parser(__doc__)
    parser.add_argument("--tune", choices=["off", "quick", "full"], default="quick")
    parser.add_argument("--heard", choices=["exclude", "include"], default="exclude")
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("tune", args))
    chosen = by_size(args.work, Hyperparameters(heard=args.heard))
    windows = [args.work / "windows" / name for name in WINDOWS]
    log: list[str] = []
    if args.tune != "off":
        trials = [TuningWindow.read(window, args.tune, args.heard) for window in windows[:2]]
        chosen = tune(trials, chosen, log)
    for folder in (*windows, args.work):
        hyperparameters.save(folder, chosen)
    return "; ".join(log) or "the defaults"


if __name__ == "__main__":
    cli.run(main)
