"""Choose the settings that depend on the data, by how well they predict held-out plays.

    python -m jobs.tune --work data [--tune off|quick|full] [--heard exclude|include]

Makes settings.json here and in every window. Each generator is tried on the windows "train" and
"validation": it is made from the past, and scored by the mean of NDCG@10 over the holdouts of the
two. The window "test" stays unseen. One setting after another moves along a ladder of values until
none gains clearly (see selection/hyperparameter_search).

"quick" looks at users with at most 200,000 listens in all, or two a track if that is more, drawn at
random; "full" at ten times as many; "off" writes the defaults.
"""

from collections.abc import Sequence

from jobs.contract.names import WINDOWS
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.runtime import cli, memory, parallel
from jobs.selection.hyperparameter_search import by_size, tune
from jobs.selection.tuning_window import TuningWindow


def main(argv: Sequence[str]) -> str:
    """Make settings.json."""
    parser = cli.parser(__doc__)
    parser.add_argument("--tune", choices=["off", "quick", "full"], default="quick")
    parser.add_argument("--heard", choices=["exclude", "include"], default="exclude")
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("tune", args))
    settings = by_size(args.work, Hyperparameters(heard=args.heard))
    windows = [args.work / "windows" / name for name in WINDOWS]
    log: list[str] = []
    if args.tune != "off":
        seen = [TuningWindow.read(window, args.tune, args.heard) for window in windows[:2]]
        settings = tune(seen, settings, log)
    for folder in (*windows, args.work):
        hyperparameters.save(folder, settings)
    return "; ".join(log) or "the defaults"


if __name__ == "__main__":
    cli.run(main)
