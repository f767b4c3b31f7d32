"""jobs.plan: what a run of another size would take, by those that were measured."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import plan
from jobs.contract.storage import JobError
from jobs.contract.tables import LISTENS

SIZES = (1_000, 3_000, 10_000, 100_000)
SAMPLE = 9_000  # instead of 20 million listens
coefficient = st.floats(0, 1000).map(lambda value: round(value, 3))


def cost(of: tuple[float, float, float], listens: int, power: float = 1) -> float:
    fixed, sampled, growing = of
    return (
        fixed + sampled * min(listens, SAMPLE) / SAMPLE + growing * (listens / SIZES[-1]) ** power
    )


@given(st.tuples(coefficient, coefficient, coefficient), st.sampled_from(["rank", "similar"]))
def test_costs_that_grow_as_the_model_says_are_foretold(of, job):
    power = 1.5 if job == "similar" else 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MOST_LISTENS", SAMPLE)
        measured = {listens: cost(of, listens, power) for listens in SIZES}
        found, error = plan.estimate(measured, job, 10 * SIZES[-1])
    assert found == pytest.approx(cost(of, 10 * SIZES[-1], power), rel=1e-6)
    assert error == pytest.approx(0, abs=1e-6)


@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=4), st.integers(1, 10**9))
def test_an_estimate_is_never_below_that_of_a_smaller_run(values, target):
    measured = dict(zip(SIZES, values, strict=False))
    found, smaller = (plan.estimate(measured, "rank", n)[0] for n in (target, target // 2))
    assert found >= smaller >= 0


def finished_run(work: Path, listens: int, on_cluster: bool = False) -> Path:
    """Records of a run, in which each job takes a second and 100 MB for 1,000 listens."""
    (work / ".done").mkdir(parents=True)
    ids = pa.array(np.zeros(listens, np.int64))
    pq.write_table(
        pa.table([ids.cast(field.type) for field in LISTENS.schema], schema=LISTENS.schema),
        work / LISTENS.file,
    )
    for start, job in enumerate(("prepare", "rank", "publish")):
        seconds = listens / 1000
        record = {"start": start, "seconds": seconds, "cpu_seconds": seconds, "made": {}}
        record["peak_mb"] = listens / 10
        if on_cluster and job == "rank":
            record["cpu_seconds"] = seconds / 4
            blocks = {"blocks": 3, "hosts": 1, "cpu_seconds": 3 / 4 * seconds, "private_mb": 300}
            blocks |= {"mapped_mb": listens / 100, "read_mb": listens, "written_mb": 1.0}
            record["on_cluster"] = blocks
        (work / ".done" / f"{job}.json").write_text(json.dumps(record))
    return work


def test_the_table_names_costs_hosts_and_what_does_not_fit_first(tmp_path, capsys):
    runs = [finished_run(tmp_path / str(n), n) for n in (2_000, 20_000)]
    runs += [finished_run(tmp_path / f"c{n}", n, on_cluster=True) for n in (2_000, 4_000)]
    options = ["--times", "10", "--hosts", "2", "--cores", "4", "--memory", "15G"]
    summary = run_plan(*runs, *options, "--network", "8")
    rows = dict(table_rows(capsys.readouterr().out))
    # 200 s of processor time: a quarter on the driver, the rest by 8 cores, and 200 GB at 1 GB/s
    assert rows["rank"] == ["20", "0%", "200", "75%", "20", "3", "200", "4"]
    assert rows["publish"] == ["20", "0%", "200", "0%", "20", "0", "0", "3"]
    assert rows["prepare"][4] == "1"  # it keeps the rows in files
    assert summary == "11 minutes for 200,000 listens"


def test_what_does_not_fit_is_named(tmp_path, capsys):
    runs = [finished_run(tmp_path / str(n), n) for n in (2_000, 20_000)]
    run_plan(*runs, "--memory", "15G")
    out = capsys.readouterr().out
    assert "rank is the first job that does not fit on the driver: it needs 20 GB" in out
    assert "All jobs fit on a host: the most is 0 GB" in out


def test_runs_that_tell_too_little_are_refused(tmp_path):
    with pytest.raises(JobError, match="has no finished run"):
        run_plan(tmp_path / "nowhere")
    one = finished_run(tmp_path / "one", 1_000)
    with pytest.raises(JobError, match="runs of at least two sizes"):
        run_plan(one)


@pytest.mark.parametrize("option", ["--times", "--hosts", "--cores", "--memory", "--network"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "many", ""])
def test_numbers_are_above_0(tmp_path, option, value, capsys):
    with pytest.raises(SystemExit):
        run_plan(tmp_path, option, value)
    assert option in capsys.readouterr().err


def run_plan(*arguments: Path | str) -> str:
    return plan.main([*map(str, arguments)])


def table_rows(out: str) -> list[tuple[str, list[str]]]:
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in out.splitlines()
        if line.startswith("|")
    ]
    return [(job, values) for job, *values in cells[2:]]
