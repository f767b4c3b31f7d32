"""The scripts that measure: they measure the right thing, whatever it is today."""

import numpy as np
import pandas as pd
import pytest

from jobs import benchmark, benchmark_libraries, check_sample
from jobs.contract import tables


def test_implicit_and_our_search_are_timed_on_lists_that_are_the_same(finished):
    found = benchmark_libraries.recommend(finished, users=10**6, threads=2)
    assert found["users"] == tables.n_rows(tables.USERS, finished)
    assert found["same_places"] > 0.999
    assert found["largest_difference"] < 1e-4
    assert found["times_faster"] == pytest.approx(found["implicit_ms_a_user"] / found["ms_a_user"])


def test_pandas_and_prepare_are_timed_on_the_same_rows(finished, sample):
    found = benchmark_libraries.notebook(sample)
    assert found["rows"] == tables.n_rows(tables.LISTENS, finished)
    assert found["tracks"] == tables.n_rows(tables.TOP_POPULAR, finished)


def test_what_grows_as_the_data_does_has_the_exponent_1_and_with_its_square_2():
    listens = np.array([1e6, 3e6, 1e7])
    assert benchmark.exponent(listens, listens / 5e5) == pytest.approx(1)
    assert benchmark.exponent(listens, listens**2) == pytest.approx(2)


def test_the_table_has_a_row_a_job_and_the_plot_is_drawn(tmp_path):
    columns = ["seconds", "cpu_seconds", "peak_mb", "written_mb", "need_mb"]
    jobs = [*benchmark.SHOWN, "summary"]
    found = {
        size: pd.DataFrame({name: size * np.arange(1.0, 9.0) for name in columns}, index=jobs)
        for size in (1.0, 10.0)
    }
    lines = benchmark.markdown(benchmark.table(found)).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == jobs
    assert "| 10 (10) | 1.0 |" in lines[2]
    benchmark.plot(found, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


def test_the_twin_is_compared_with_real_figures_of_its_own_size(sample):
    table = check_sample.compare(sample)
    assert list(table.index) == list(check_sample.REAL)
    assert table.loc["listens"].tolist() == ["9,000", "9,000"]
    assert table.loc["users"].tolist() == ["300", "300"]
    assert table.loc["listens of a user: lower quartile", "real"] == "22"
