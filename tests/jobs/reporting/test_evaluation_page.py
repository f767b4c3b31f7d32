"""The evaluation page: one figure by one name, numbers that agree, names that people can read."""

import re

import pytest

from jobs.contract import storage
from jobs.contract.names import METRICS
from jobs.contract.results import Metrics, Ranking
from jobs.ranking.generators import GENERATORS
from jobs.reporting import terms
from jobs.reporting.evaluation_page import page
from jobs.reporting.page import Interval, Page, ticks_between
from tests.support.workspace import run


@pytest.fixture
def content(finished):
    return storage.read_json(finished / METRICS, "jobs.evaluate", Metrics)


@pytest.fixture
def ranking(finished):
    return storage.read_json(finished / "ranking.json", "jobs.rank", Ranking)


def html_of(page: Page, folder) -> str:
    page.write(folder / "page.html")
    return (folder / "page.html").read_text()


def test_personal_als_has_one_figure_on_the_console_and_on_the_page(
    finished, content, ranking, tmp_path, capsys
):
    ndcg = content.generators["als"]["all"]["@10"]["ndcg"]
    run("summary", finished)
    assert re.search(
        rf"personal ALS .* {ndcg:.4f}".replace(".", r"\.?", 0), capsys.readouterr().out
    )
    html = html_of(page(content, ranking), tmp_path)
    shown = re.findall(r"<td dir=\"auto\">personal ALS</td><td[^>]*>(.*?)</td>", html)
    all_users = shown[: 1 + len(content.lists["final list"]["all"])]
    assert f"{ndcg:.4f}" in all_users
    alone = content.lists["personal ALS"]["all"]["@10"]["ndcg"]
    assert alone != ndcg and f"{alone:.4f}" not in html


def test_the_tracks_of_the_segments_add_up_to_those_that_the_page_speaks_of(
    content, ranking, tmp_path
):
    window, parts = content.window, content.segments
    counts = [parts[f"{name} tracks"].what.split()[0] for name in ("head", "mid", "tail")]
    assert sum(int(count.replace(",", "")) for count in counts) == window.tracks
    window.tracks += 5  # as if these had no play before the cut
    html = html_of(page(content, ranking), tmp_path)
    assert f"each of the {window.catalogue:,} tracks that anybody had played" in html
    assert f"The other 5 of the {window.tracks:,} tracks in the catalogue had no play" in html


def test_every_generator_segment_metric_and_feature_has_a_name_for_people(content, ranking):
    assert set(terms.GENERATORS) == set(GENERATORS)
    assert set(content.segments) <= set(terms.SEGMENTS)
    assert set(content.lists["final list"]["all"]["@10"]) == set(terms.METRICS)
    names = [terms.feature_name(key) for key in ranking.feature_importance]
    assert [name for name in names if "_" in name] == []
    assert len(set(names)) == len(names)


def test_names_of_charts_are_explained_before_the_first_chart(content, ranking, tmp_path):
    html = html_of(page(content, ranking), tmp_path)
    before = html[: html.index('class="chart"')]
    chart = html[html.index('class="chart"') :]
    labels = re.findall(r"<th dir=\"auto\">(.*?)</th>", chart[: chart.index("</table>")])
    assert len(labels) > 4
    unexplained = [
        label for label in labels if f"<dt>{label.removesuffix(' (best single generator)')}</dt>"
        not in before
    ]  # fmt: skip
    assert unexplained == []


def test_labels_of_bars_and_intervals_stay_text(tmp_path):
    result = Page("Odd")
    result.bars({"<b>": 1.0, "$x$": 0.0}, "{:.0f}")
    result.intervals({"<i>": Interval(1.0, 1.0, 1.0)}, "{:.0f}", reference=1)
    html = html_of(result, tmp_path)
    assert "<b>" not in html and "&lt;b&gt;" in html and "&lt;i&gt;" in html and "$x$" in html
    assert "nan" not in html


@pytest.mark.parametrize(
    ("low", "high"), [(0.9, 1.9), (0.0131, 0.14), (1.0, 1.0001), (-3, 1e4), (0.5, 1.5)]
)
def test_ticks_lie_within_and_are_written_exactly(low, high):
    ticks = ticks_between(low, high)
    assert 2 <= len(ticks) <= 6
    assert all(low <= value <= high and float(text) == value for text, value in ticks)
    assert len({len(text.partition(".")[2]) for text, _ in ticks}) == 1
