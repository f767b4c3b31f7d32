"""HTML pages with tables and charts that open without a network.

    page = Page("Title")
    page.text("What this is.")
    page.bars({"first": 0.5, "second": 0.25}, "{:.0%}", "what the bars show")
    page.table(frame, "what the table lists")
    page.write(folder / "page.html")

All texts are shown as they are, in plots too: HTML and mathtext in them are not interpreted. The
same content gives the same bytes. Bars and intervals are drawn by HTML and CSS, so that their
labels stay readable at any width; figures are matplotlib's, as SVG.
"""

import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator, NullFormatter

from jobs.contract import storage

TEMPLATE = Path(__file__).with_name("page.html")
WIDTH = 6.5  # inches of a figure, whose letters must be readable on a narrow screen too
MOST_LETTERS = 48  # of a label
LONG_CELL = 28  # letters from which a cell may break into several lines
NUMBER = re.compile(r"[−–-]|[+−–-]?[\d,.]+ ?[%×]?")  # a text that is aligned as a number


class Interval(NamedTuple):
    """A value with its interval, to be drawn in the colour `kind`: "main", "other" or "plain"."""

    value: float
    low: float
    high: float
    kind: str = "main"


class Page:
    """A page, made from top to bottom."""

    def __init__(self, title: str) -> None:
        matplotlib.use("agg")  # figures are written to files; no window is opened
        self.title = title
        self.parts: list[dict[str, Any]] = []

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._add("heading", text=text)

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._add("text", text=text)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Add a row of cards, each with a name and a value."""
        self._add("facts", facts=[(name, shown(value)) for name, value in facts.items()])

    def terms(self, meanings: Mapping[str, str], title: str) -> None:
        """Add explanations of the names that follow."""
        self._add("terms", title=title, terms=list(meanings.items()))

    def table(
        self,
        frame: pd.DataFrame,
        caption: str = "",
        page: Literal["both", "with users", "without users"] = "both",
    ) -> None:
        """Add the columns of a table, without its index.

        One that names users must not be on the page that `write` makes without users.
        """
        columns = [[shown(value) for value in frame[name]] for name in frame]
        kinds = [_kind(column, first=i == 0) for i, column in enumerate(columns)]
        self._add(
            "table",
            caption=caption,
            columns=list(zip(frame.columns, kinds, strict=True)),
            rows=[list(zip(row, kinds, strict=True)) for row in zip(*columns, strict=True)],
            page=page,
        )

    def bars(self, values: Mapping[str, float], form: str, caption: str = "") -> None:
        """Add a horizontal bar for each name, with its value as the format `form` writes it."""
        most = max([*values.values(), 1e-9])
        rows = [
            (shortened(name, MOST_LETTERS), form.format(value), f"{100 * value / most:.2f}")
            for name, value in values.items()
        ]
        self._add("bars", caption=caption, rows=rows)

    def intervals(
        self,
        values: Mapping[str, Interval],
        form: str,
        caption: str = "",
        reference: float | None = None,
    ) -> None:
        """Add a dot on a line from bound to bound for each name, and a dashed line at a value."""
        bounds = [bound for each in values.values() for bound in (each.low, each.high)]
        bounds += [] if reference is None else [reference]
        low, high = min(bounds), max(bounds)
        margin = 0.04 * (high - low) or 0.5
        low, high = low - margin, high + margin

        def place(value: float) -> float:
            return 100 * (value - low) / (high - low)

        rows = [
            {
                "name": shortened(name, MOST_LETTERS),
                "kind": each.kind,
                "text": form.format(each.value),
                "left": f"{place(each.low):.2f}",
                "width": f"{place(each.high) - place(each.low):.2f}",
                "dot": f"{place(each.value):.2f}",
            }
            for name, each in values.items()
        ]
        ticks = [(text, f"{place(tick):.2f}") for text, tick in ticks_between(low, high)]
        line = None if reference is None else f"{place(reference):.2f}"
        self._add("intervals", caption=caption, rows=rows, ticks=ticks, line=line)

    def figure(self, figure: Figure, caption: str = "") -> None:
        """Add a matplotlib figure and close it."""
        number = sum(part["kind"] == "figure" for part in self.parts)
        self._add("figure", caption=caption, svg=Markup(svg(figure, f"figure {number}")))
        plt.close(figure)

    def write(self, path: Path, users: bool = True) -> None:
        """Write the page, atomically; without `users` it has no table that names any."""
        other = "without users" if users else "with users"
        parts = [part for part in self.parts if part.get("page") != other]
        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        html = environment.from_string(TEMPLATE.read_text()).render(title=self.title, parts=parts)
        with storage.atomic(path) as temporary:
            temporary.write_text(html, encoding="utf-8")

    def _add(self, kind: str, **content: Any) -> None:
        self.parts.append({"kind": kind, **content})


def _kind(cells: list[str], first: bool) -> str:
    """Return how a column of a table is set: "number", "long" (may break into lines) or ""."""
    if not first and all(map(NUMBER.fullmatch, cells)):
        return "number"
    return "long" if max(map(len, cells), default=0) > LONG_CELL else ""


def shown(value: Any) -> str:
    """Return a value as a page shows it: 1,234 or 0.1235; a missing value is a dash."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return "–"
    if isinstance(value, str) or hasattr(value, "strftime"):
        return str(value).removesuffix(" 00:00:00")
    if not pd.api.types.is_number(value) or pd.api.types.is_bool(value):
        return str(value)
    if pd.api.types.is_integer(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def ticks_between(low: float, high: float) -> list[tuple[str, float]]:
    """Return some round numbers from low to high, each with its text, all of the same decimals.

    >>> ticks_between(0.96, 1.54)
    [('1.0', 1.0), ('1.2', 1.2), ('1.4', 1.4)]
    """
    ticks = MaxNLocator(nbins=4, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    numbers = [round(float(tick), 10) for tick in ticks if low <= tick <= high]
    decimals = max(len(f"{number:.10g}".partition(".")[2]) for number in numbers)
    return [(f"{number:.{decimals}f}", number) for number in numbers]


def shortened(text: str | None, length: int) -> str:
    """Return a text in one line of at most `length` letters."""
    line = " ".join((text or "").split()) or repr(text)
    return line if len(line) <= length else line[: length - 1] + "…"


def svg(figure: Figure, salt: str) -> str:
    """Return a figure as an SVG element in the page's colours.

    `salt` makes its ids differ from those of the page's other figures.
    """
    for axes in figure.axes:
        _style(axes)
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    figure.patch.set_visible(False)
    out = io.StringIO()
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt, "text.parse_math": False}
    with warnings.catch_warnings(), matplotlib.rc_context(style):
        # Glyphs that matplotlib's font lacks are drawn by the browser, which has other fonts.
        warnings.filterwarnings("ignore", message="Glyph")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    element = out.getvalue()[out.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'<g id="[^"]*">', "<g>", element)
    return element.replace("stroke: #000000", "stroke: currentColor")


def _style(axes: Axes) -> None:
    """Remove the box and the background, and write plain numbers on logarithmic axes."""
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if legend := axes.get_legend():
        legend.get_frame().set_alpha(0)
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_formatter(), LogFormatter):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_formatter(NullFormatter())
