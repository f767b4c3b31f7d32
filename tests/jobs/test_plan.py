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
from jobs.plan import Model

SIZES = (1_000, 3_000, 10_000, 100_000)
SAMPLE = 9_000  # instead of 20 million listens
coefficient = st.floats(0, 1000).map(lambda value: round(value, 3))


def cost(of: tuple[float, float, float], listens: int, power: float = 1) -> float:
    fixed, sampled, growing = of
    return (
        fixed + sampled * min(listens, SAMPLE) / SAMPLE + growing * (listens / SIZES[-1]) ** power
    )


@given(st.tuples(coefficient, coefficient, coefficient), st.sampled_from([1, 1.5]))
def test_costs_that_grow_as_the_model_says_are_foretold(of, power):
    measured = {listens: cost(of, listens, power) for listens in SIZES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MOST_LISTENS", SAMPLE)
        model = Model.of(measured, power)
        found, growing = model.at(10 * SIZES[-1]), model.growing(10 * SIZES[-1])
        if any(of):
            assert model.error(measured) == pytest.approx(0, abs=1e-6)
    assert found == pytest.approx(cost(of, 10 * SIZES[-1], power), rel=1e-6)
    assert growing == pytest.approx(of[2] * 10**power, rel=1e-4, abs=1e-3)


@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=4), st.integers(1, 10**9))
def test_an_estimate_is_never_below_that_of_a_smaller_run(values, target):
    model = Model.of(dict(zip(SIZES, values, strict=False)))
    assert model.at(target) >= model.at(target // 2) >= 0
    assert 0 <= model.growing(target) <= model.at(target)


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
            blocks = {"blocks": 3, "hosts": 1, "cpu_seconds": seconds, "private_mb": 300}
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
    # 200 s of processor time: 20 on the driver, the rest by 8 cores, and 200 GB at 1 GB/s
    assert rows["rank"] == ["20", "0%", "200", "90%", "20", "3", "200", "4"]
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
    with pytest.raises(JobError, match="runs of at least two sizes with --engine local"):
        run_plan(one)
    others = [finished_run(tmp_path / "two", 2_000), finished_run(tmp_path / "c", 1_000, True)]
    with pytest.raises(JobError, match="runs of at least two sizes with a cluster"):
        run_plan(one, *others)


@pytest.mark.parametrize("value", ["-0.1", "1.1", "nan", "half"])
def test_the_drivers_share_is_from_0_to_1(tmp_path, value, capsys):
    with pytest.raises(SystemExit):
        run_plan(tmp_path, "--driver-share", value)
    assert "--driver-share" in capsys.readouterr().err


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
