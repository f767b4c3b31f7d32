"""Print the results of a run: metrics, files with sizes, costs of the jobs, how to serve it.

python -m jobs.summary --work data
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from jobs.contract import storage
from jobs.contract.names import CURRENT, METRICS
from jobs.contract.results import Metrics, read_manifest
from jobs.reporting.terms import three_lists
from jobs.runtime import cli
from jobs.runtime.costs import costs


def metrics_table(work: Path) -> pd.DataFrame:
    """Return the metrics at 10 of the three lists, over all users of the test window."""
    lists = three_lists(storage.read_json(work / METRICS, "jobs.evaluate", Metrics))
    rows = {name: kinds["all"]["@10"] for name, kinds in lists.items()}
    return pd.DataFrame(rows).T.round(4)


def files_table(work: Path) -> pd.DataFrame:
    """Return a row for each file of the current release but its arrays: its rows and MB."""
    rows = {
        name: {"rows": "" if file.rows is None else f"{file.rows:,}",
               "MB": f"{file.bytes / 1e6:,.1f}"}
        for name, file in read_manifest(work / CURRENT).files.items()
        if "/" not in name
    }  # fmt: skip
    return pd.DataFrame(rows).T


def cost_table(work: Path) -> pd.DataFrame:
    """Return a column for each job, in the order of the run: its seconds and its peak MB."""
    result = costs(work)[["seconds", "peak_mb"]]
    result.loc["all"] = [result["seconds"].sum(), result["peak_mb"].max()]
    return result.round(1).T


def main(argv: Sequence[str]) -> str:
    """Print the tables; return which release is current."""
    work = cli.parser(__doc__).parse_args(argv).work
    for table in (metrics_table(work), files_table(work), cost_table(work)):
        print(f"\n{table.to_string()}")
    print("\nReports: " + ", ".join(map(str, sorted((work / "report").glob("*.html")))))
    setting = (
        "" if work.resolve() == Path("data").resolve() else f"RECO_WORK={shlex.quote(str(work))} "
    )
    print(f"Start the service: {setting}bash run_all.sh litestar run\n")
    kinds = read_manifest(work / CURRENT).mixed_processors
    mixed = f", made by a mix of {len(kinds)} kinds of processors" if kinds else ""
    return f"release {(work / CURRENT).resolve().name}{mixed}"


if __name__ == "__main__":
    cli.run(main)
