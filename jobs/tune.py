"""Choose the settings that depend on the data, by how well they predict held-out plays.

    python -m jobs.tune --work data [--tune off|quick|full] [--heard exclude|include]

Makes settings.json in WORK and in every window. Each generator is tried on the windows "train" and
"validation": it is computed from the past, and scored by the mean of NDCG@10 over the two holdouts.
The window "test" is not used. One setting after another moves along a ladder of values until no
step makes NDCG@10 clearly better (see selection/hyperparameter_search).

"quick" uses a random sample of the users that has at most 200,000 listens, or two for each track if
that is more. "full" uses ten times as many listens. Where such a sample would have fewer than 1,000
users, 1,000 users are taken, with their latest listens only: five times as many listens in all as
the sample would have. "off" writes the defaults. They are also kept if the two windows have fewer
than 50 users with a label together, since nothing can be concluded from so few.
"""

from collections.abc import Sequence

from jobs.contract import compiling
from jobs.data.bounds import ENOUGH_USERS
from jobs.data.splitting import train_windows
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.runtime import cli, memory, parallel
from jobs.selection.hyperparameter_search import by_size, tune
from jobs.selection.tuning_window import TuningWindow


def main(argv: Sequence[str]) -> str:
    """Make settings.json in WORK and in every window."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--tune", choices=["off", "quick", "full"], default="quick", help="how long to search"
    )
    parser.add_argument(
        "--heard",
        choices=["exclude", "include"],
        default="exclude",
        help="whether tracks that a user has heard may be recommended",
    )
    args = parser.parse_args(argv)
    parallel.set_threads(memory.check("tune", args))
    compiling.set_by_size(args.work)
    settings = by_size(args.work, Hyperparameters(heard=args.heard))
    windows = args.work / "windows"
    choosing = [windows / name for name in ("train", "validation")]
    log: list[str] = []
    if args.tune != "off":
        tuning = [TuningWindow.read(window, args.tune, args.heard) for window in choosing]
        users = sum(len(window.holdout.row) for window in tuning)
        if users >= ENOUGH_USERS:
            settings = tune(tuning, settings, log)
        else:
            log.append(f"the defaults, since {users:,} users with a label are too few to choose by")
    for folder in (*train_windows(windows), windows / "validation", windows / "test", args.work):
        hyperparameters.save(folder, settings)
    return "; ".join(log) or "the defaults"


if __name__ == "__main__":
    cli.run(main)
