"""HTML pages with tables and plots that open without a network.

    page = Page("Title")
    page.text("What this is.")
    page.figure(figure, "what the plot shows")
    page.table(frame, "what the table lists")
    page.write(folder / "page.html")

Whatever the texts contain is shown as it is, in plots too: no HTML, no mathtext. The same content
gives the same bytes.
"""

import io
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogFormatter, NullFormatter

from jobs.contract import storage

TEMPLATE = Path(__file__).with_name("page.html")


class Page:
    """A page, made from top to bottom."""

    def __init__(self, title: str) -> None:
        matplotlib.use("agg")  # plots go to files, no window is wanted
        self.title = title
        self.parts: list[dict[str, Any]] = []

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._add("heading", text=text)

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._add("text", text=text)

    def facts(self, facts: dict[str, Any]) -> None:
        """Add a row of named values, large."""
        self._add("facts", facts=[(name, shown(value)) for name, value in facts.items()])

    def table(self, frame: pd.DataFrame, caption: str = "") -> None:
        """Add the columns of a table, without its index."""
        numbers = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
        rows = frame.itertuples(index=False, name=None)
        self._add(
            "table",
            caption=caption,
            columns=list(zip(frame.columns, numbers, strict=True)),
            rows=[list(zip(map(shown, row), numbers, strict=True)) for row in rows],
        )

    def figure(self, figure: Figure, caption: str = "") -> None:
        """Add a plot and close it."""
        number = sum(part["kind"] == "figure" for part in self.parts)
        self._add("figure", caption=caption, svg=Markup(svg(figure, f"figure {number}")))
        plt.close(figure)

    def write(self, path: Path) -> None:
        """Write the page, atomically."""
        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        html = environment.from_string(TEMPLATE.read_text()).render(
            title=self.title, parts=self.parts
        )
        with storage.atomic(path) as temporary:
            temporary.write_text(html, encoding="utf-8")

    def _add(self, kind: str, **content: Any) -> None:
        self.parts.append({"kind": kind, **content})


def shown(value: Any) -> str:
    """A value as the page shows it: numbers with thousands and four digits, nothing as a dash."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return "–"
    if isinstance(value, str) or hasattr(value, "strftime"):
        return str(value).removesuffix(" 00:00:00")
    if not pd.api.types.is_number(value) or pd.api.types.is_bool(value):
        return str(value)
    if pd.api.types.is_integer(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def bars(names: Iterable[str], values: np.ndarray, form: str) -> Figure:
    """A horizontal bar for each name, the first on top, with its value as `form` writes it."""
    labels = [shortened(name, 40) for name in names]
    figure, axis = plt.subplots(figsize=(9, 0.6 + 0.27 * len(labels)), layout="constrained")
    place = np.arange(len(labels))
    drawn = axis.barh(place, values, height=0.75)
    axis.bar_label(drawn, [form.format(value) for value in values], padding=4)
    axis.set_yticks(place, labels)
    axis.set_xlim(0, max(values.max(), 1e-9) * 1.12)
    axis.invert_yaxis()
    axis.spines["bottom"].set_visible(False)
    axis.set_xticks([])
    axis.tick_params(length=0)
    return figure


def dots(
    names: list[str], values: list[float], bounds: list[list[float]], colors: list[str], form: str
) -> Figure:
    """A dot for each name at its value, the first on top, on a line from bound to bound."""
    figure, axis = plt.subplots(figsize=(9, 0.8 + 0.3 * len(names)), layout="constrained")
    place = np.arange(len(names))
    low, high = np.array(bounds, float).reshape(-1, 2).T
    axis.hlines(place, low, high, colors=colors, linewidth=3, alpha=0.45)
    axis.scatter(values, place, c=colors, s=42, zorder=3)
    for i, value in enumerate(values):
        axis.annotate(
            form.format(value), (high[i], i), (8, 0), textcoords="offset points", va="center"
        )
    axis.set_yticks(place, names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.margins(x=0.12)
    axis.grid(axis="x", alpha=0.25)
    axis.tick_params(length=0)
    axis.spines["left"].set_visible(False)
    return figure


def shortened(text: str | None, length: int) -> str:
    """A text in one line of at most so many letters."""
    line = " ".join((text or "").split()) or repr(text)
    return line if len(line) <= length else line[: length - 1] + "…"


def svg(figure: Figure, salt: str) -> str:
    """A plot as an SVG element in the page's colours; `salt` keeps its ids from other plots'."""
    for axes in figure.axes:
        _dress(axes)
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    figure.patch.set_visible(False)
    out = io.StringIO()
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt, "text.parse_math": False}
    with warnings.catch_warnings(), matplotlib.rc_context(style):
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has the letters
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    element = out.getvalue()[out.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'<g id="[^"]*">', "<g>", element)
    return element.replace("stroke: #000000", "stroke: currentColor")


def _dress(axes: Axes) -> None:
    """Give axes the page's look: no box, no ground, plain numbers where they are logarithmic."""
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if legend := axes.get_legend():
        legend.get_frame().set_alpha(0)
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_formatter(), LogFormatter):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_formatter(NullFormatter())
