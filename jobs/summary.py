"""Print what a run made: metrics, files with their sizes, times, and how to start the service.

python -m jobs.summary --work data
"""

import shlex
from pathlib import Path

import pandas as pd

from jobs import command, contract


def metrics_table(work: Path) -> pd.DataFrame:
    """A row a list: its metrics at 10 over all users of the report window."""
    lists = contract.read_json(work / contract.METRICS, made_by="jobs.evaluate")["lists"]
    rows = {name: kinds["all"]["@10"] for name, kinds in lists.items()}
    return pd.DataFrame(rows).T.round(4)


def files_table(work: Path) -> pd.DataFrame:
    """A row a file of the current release: rows and MB."""
    made_by = "jobs.publish"
    manifest = contract.read_json(work / contract.CURRENT / contract.MANIFEST, made_by)
    rows = {
        name: {"rows": "" if file["rows"] is None else f"{file['rows']:,}",
               "MB": f"{file['bytes'] / 1e6:,.1f}"}
        for name, file in manifest["files"].items()
        if "/" not in name
    }  # fmt: skip
    return pd.DataFrame(rows).T


def times_table(work: Path) -> pd.DataFrame:
    """A row a job: its seconds, all windows together, in the order of the run."""
    runs = pd.read_csv(work / "times.tsv", sep=" ", names=["job", "start", "end"])
    runs["seconds"] = runs["end"] - runs["start"]
    seconds = runs.groupby("job", sort=False)["seconds"].sum()
    seconds["all"] = seconds.sum()
    return seconds.round(1).to_frame()


def main() -> str:
    """Print the tables."""
    work = command.parser(__doc__).parse_args().work
    for table in (metrics_table(work), files_table(work)):
        print(f"\n{table.to_string()}")
    if (work / "times.tsv").exists():
        print(f"\n{times_table(work).T.to_string()}")
    print("\nReports: " + ", ".join(map(str, sorted((work / "report").glob("*.html")))))
    setting = (
        "" if work.resolve() == Path("data").resolve() else f"RECO_WORK={shlex.quote(str(work))} "
    )
    print(f"Start the service: {setting}bash run_all.sh litestar run\n")
    return f"release {(work / contract.CURRENT).resolve().name}"


if __name__ == "__main__":
    command.run(main)
