"""The description of the prepared data, counted on tables whose answer can be seen."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import explore
from jobs.contract import storage, tables
from jobs.contract.results import KindsOfRows
from jobs.contract.storage import JobError
from jobs.contract.tables import ITEMS, LISTENS, QUARANTINE, USERS
from jobs.data import statistics
from jobs.reporting import data_page
from jobs.reporting.page import Page, shown

DAY = 86_400_000_000
ODD = (
    "夜に駆ける",
    "🔥",
    "$x_{",
    "a$b$c",
    "<script>alert(1)</script>",
    "&amp;",
    "\t",
    "a\nb",
    "\\",
    "{}",
)


def write(
    work: Path,
    listens: list[tuple[int, int, float]],
    tracks: dict[int, tuple[str | None, list[str], list[str]]],
    bad: Sequence[tuple[str, int, str, str]] = (),
) -> None:
    """The contract's tables: listens are (user, track, day), tracks (name, artists, genres)."""
    frame = pd.DataFrame(sorted(listens), columns=["user_id", "track_id", "day"])
    frame = frame.sort_values(["user_id", "day"], kind="stable")
    at = pa.array((frame["day"] * DAY).astype("int64")).cast(tables.TIME)
    user_id, track_id = (frame[c].astype("int64").to_numpy() for c in ("user_id", "track_id"))
    seq = frame.groupby("user_id").cumcount() + 1
    tables.write(LISTENS, work, pa.table([user_id, track_id, at, seq], names=LISTENS.schema.names))
    last = pd.Series(at.to_pandas().to_numpy()).groupby(user_id).agg(["size", "max"])
    users = [last.index, np.arange(len(last)), last["size"], pa.array(last["max"])]
    tables.write(USERS, work, pa.table(users, names=USERS.schema.names))
    rows = [
        (key, i, name, list(range(len(artists))), artists, list(range(len(genres))), genres)
        for i, (key, (name, artists, genres)) in enumerate(sorted(tracks.items()))
    ]
    columns = [
        pa.array(column, field.type)
        for column, field in zip(zip(*rows, strict=True), ITEMS.schema, strict=True)
    ]
    tables.write(ITEMS, work, pa.table(columns, schema=ITEMS.schema))
    left_out = pa.Table.from_pylist(
        [dict(zip(QUARANTINE.schema.names, values, strict=True)) for values in bad],
        schema=QUARANTINE.schema,
    )
    tables.write(QUARANTINE, work, left_out)


def run(work: Path) -> str:
    explore.main(["--work", str(work)])
    return (work / "report" / "explore.html").read_text()


class Cells(HTMLParser):
    """Rows of all tables and the tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.cell: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.cell = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "td" and self.cell is not None:
            self.rows[-1].append(self.cell)
            self.cell = None

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell += data


def row(html: str, *start: str) -> list[str]:
    """The first row of a table that begins with these cells."""
    return next(row for row in Cells(html).rows if row[: len(start)] == list(start))


LISTENED = [(1, 10, 0), (1, 10, 0), (1, 20, 3), (2, 10, 3), (2, 30, 40), (5, 10, 40)]
CATALOG = {
    10: ("Ten", ["Anna"], ["rock"]),
    20: ("Twenty", ["Anna", "Bert"], ["pop", "rock"]),
    30: (None, [], []),
    40: ("Forty", ["Bert"], ["pop"]),
}


def test_a_small_history_is_counted_right(tmp_path: Path) -> None:
    bad = [("interactions.parquet", i, "user_id is negative", f"[-{i}, 7]") for i in (4, 9)]
    write(tmp_path, LISTENED, CATALOG, bad)
    html = run(tmp_path)
    assert row(html, "Ten") == ["Ten", "Anna", "rock", "10", "3", "100.00%", "4"]
    assert row(html, "–")[3:] == ["30", "1", "33.33%", "1"]
    assert row(html, "50%") == ["50%", "2", "1"]
    assert row(html, "once") == ["once", "4", "80.00%"]
    assert row(html, "twice") == ["twice", "1", "20.00%"]
    assert "16.7% of the listens repeat" in html
    assert "38 of 41 days have no listen; the longest gap of 36 days begins on 1970-01-05" in html
    assert row(html, "users") == ["users", "1", "5", "3", "2"]
    assert row(html, "a name")[1:] == ["1", "25.00%", "1"]
    assert row(html, "a listen")[1:] == ["1", "25.00%", "0"]
    assert row(html, "interactions.parquet")[1:] == ["user_id is negative", "2", "[-4, 7]"]
    names = data_page.by_name(tables.read(ITEMS, tmp_path)["artist_names"], np.array([4, 1, 1, 0]))
    assert names.to_numpy().tolist() == [["Anna", 5], ["Bert", 1]]


@pytest.mark.parametrize("listens", [[(7, 10, 12)], [(1, 10, 5), (2, 20, 5), (3, 10, 5.5)]])
def test_one_row_or_one_day_is_enough(tmp_path: Path, listens: list) -> None:
    write(tmp_path, listens, {10: (None, [], []), 20: (None, [], [])})
    html = run(tmp_path)
    assert "All listens are from one day, 1970-01-" in html
    assert "No track that was played has a named genre." in html
    assert "No row of the input was left out." in html


def test_no_listens_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, [(1, 10, 0)], {10: ("Ten", [], [])})
    tables.write(LISTENS, tmp_path, LISTENS.schema.empty_table())
    with pytest.raises(JobError, match="holds no listens"):
        run(tmp_path)


@given(
    listens=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 9)), min_size=1
    ),
    rows=st.integers(1, 7),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_blocks_of_any_size_count_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: list, rows: int
) -> None:
    write(tmp_path, listens, {i: (None, [], []) for i in range(6)})
    read = tables.batches
    with monkeypatch.context() as patch:
        patch.setattr(tables, "batches", lambda *args: read(*args, rows=rows))
        found = statistics.count(tmp_path, np.arange(6))
    frame = pd.DataFrame(listens, columns=["user", "track", "day"])
    by_track = frame.groupby("track").user.agg(["size", "nunique"]).reindex(range(6), fill_value=0)
    assert found.plays.tolist() == by_track["size"].tolist()
    assert found.listeners.tolist() == by_track["nunique"].tolist()
    assert found.pairs == len(frame.drop_duplicates(["user", "track"]))
    assert found.users_on == frame.groupby("day").user.nunique().to_dict()
    assert found.listens_on == frame.day.value_counts().to_dict()
    assert found.gaps.sum() == len(frame) - frame.user.nunique()
    first = frame.groupby("user").day.min() * DAY
    assert np.concatenate(found.first_at).tolist() == first.tolist()


@pytest.mark.parametrize(
    ("days", "name"),
    [
        (0, "at the same time"),
        (29 / 60 / 24, "less than 30 minutes"),
        (0.5, "30 minutes to 1 day"),
        (1, "1 to 7 days"),  # the least gap of listens that have dates alone
        (1.5, "1 to 7 days"),
        (7, "7 to 30 days"),
        (30, "30 days or more"),
    ],
)
def test_a_gap_is_counted_where_its_name_says(tmp_path: Path, days: float, name: str) -> None:
    write(tmp_path, [(1, 10, 3), (1, 20, 3 + days)], {10: (None, [], []), 20: (None, [], [])})
    gaps = statistics.count(tmp_path, np.array([10, 20])).gaps
    assert dict(zip(statistics.GAPS, gaps.tolist(), strict=True)) == {
        other: int(other == name) for other in statistics.GAPS
    }


def test_names_may_hold_any_character_and_stay_text(tmp_path: Path) -> None:
    tracks = {i: (name, [name], [name]) for i, name in enumerate(ODD)}
    write(tmp_path, [(1, i, i) for i in tracks], tracks)
    html = run(tmp_path)
    assert "script" not in Cells(html).tags
    assert "<script" not in html
    titles = [cells[0] for cells in Cells(html).rows if len(cells) == 7]
    assert sorted(titles) == sorted(ODD)


def test_the_page_needs_no_network_and_comes_out_the_same(tmp_path: Path) -> None:
    write(tmp_path, LISTENED, CATALOG)
    html = run(tmp_path)
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html)
    assert not re.findall(r"@import|url\((?!#)", html)
    assert Cells(html).tags.isdisjoint({"script", "link", "img", "iframe"})
    assert run(tmp_path) == html
    assert not plt.get_fignums()


def test_a_page_shows_any_plot_as_it_stands(tmp_path: Path) -> None:
    page = Page("<b>")
    figure, axes = plt.subplots(layout="constrained")
    axes.barh(ODD, range(1, len(ODD) + 1), label="$l$")
    axes.set_xscale("log")
    axes.set_title("$x_{")
    axes.legend()
    page.figure(figure, "<i>")
    page.write(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert Cells(html).tags.isdisjoint({"b", "i", "script"})
    for text in (">$x_{<", ">a$b$c<", ">夜に駆ける<", ">10<"):
        assert text in html


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"), (np.int64(3), "3"), (0.123456, "0.1235"), (12345.6, "12,346"),
        (float("nan"), "–"), (None, "–"), (pd.NaT, "–"), (True, "True"), ("<b>", "<b>"),
        (pd.Timestamp("2022-01-02"), "2022-01-02"),
    ],
)  # fmt: skip
def test_values_are_written_for_people(value: object, text: str) -> None:
    assert shown(value) == text


def test_the_page_counts_the_kinds_of_rows_where_the_input_has_them(tmp_path):
    write(tmp_path, [(1, 10, 0)], {10: ("a", [], [])})
    assert "Kinds of rows" not in run(tmp_path)
    counts = {"listen": 1, "skip": 7, "like": 2, "unlike": 0, "dislike": 0, "undislike": 0}
    storage.write_json(tmp_path / "kinds.json", KindsOfRows(counts, 0.5, 3, 1))
    cells = Cells(run(tmp_path)).rows
    assert ["skip", "7", "70.00%"] in cells
    assert ["like", "2", "20.00%"] in cells
