"""python -m jobs: what there is to run."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_script_has_one_line_and_those_of_a_run_come_in_its_order():
    done = subprocess.run(
        [sys.executable, "-m", "jobs"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    names = [name for name, _ in lines]
    scripts = {path.stem for path in (ROOT / "jobs").glob("*.py")} - {"__init__", "__main__"}
    assert {*names} == scripts
    assert len(names) == len(scripts)
    assert all(len(text) > 20 for _, text in lines)
    order = [names.index(name) for name in ("sample_data", "prepare", "tune", "rank", "publish")]
    assert order == sorted(order)
    assert order[-1] < names.index("summary")
