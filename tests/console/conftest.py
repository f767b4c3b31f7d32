"""What the tests in a browser share: Chromium, a service on a sample, a watch over each page."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs.contract.names import CURRENT, MANIFEST, PREVIOUS, RELEASES
from tests.support.server import Running, litestar_run
from tests.support.workspace import run_line

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
REFUSED = "Failed to load resource: the server responded with a status of"
SECONDS = 15  # the longest wait for something on a page

# Names as nobody would want them in a page, for the tracks that are listed first.
FORGED = [
    "<script>document.title = 'forged'</script><img src=x onerror=alert(1)>",
    "مرحبا بالعالم \u202e 123",
    "x" * 300,
    None,
    "🎵👩‍👩‍👧‍👦 \"quoted\" 'and' & more",
]
FORGED_ARTIST = '"><b onmouseover=alert(1)>An artist</b>'


def chromium_path() -> str | None:
    """Return where Chromium is installed; None if it is not."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def missing() -> list[str]:
    """Return the commands that install what these tests lack."""
    wanted = {
        "apt-get install chromium": chromium_path() is not None,
        "pip install -r requirements-dev.txt": find_spec("playwright") is not None,
        "npm ci --prefix tests/console": AXE.exists(),
    }
    return [command for command, there in wanted.items() if not there]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser. Without one the tests are skipped, or fail where BROWSER_TESTS is `required`."""
    if lacks := missing():
        message = f"tests in a browser need: {'; '.join(lacks)}"
        pytest.fail(message) if os.environ.get("BROWSER_TESTS") == "required" else pytest.skip(
            message
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        yield browser
        browser.close()


Visit = Callable[..., "Page"]


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """Return a function that opens an address in a context of its own, as a new visitor would.

    At the end of the test, no page may have written an error to the console, asked another host
    for anything, or opened a box of `alert`. Refused calls are errors too, unless `refusals`
    allows them.
    """
    faults: list[str] = []
    contexts = []

    def watch_console(refusals: bool, message: ConsoleMessage) -> None:
        allowed = refusals and message.text.startswith(("Failed to load resource", REFUSED))
        if message.type in ("error", "warning") and not allowed:
            faults.append(f"{message.type}: {message.text}")

    def watch_requests(host: str, request: Request) -> None:
        if not request.url.startswith((f"{host}/", "data:")):
            faults.append(f"a request to {request.url}")

    def open_page(
        service: Running | str,
        address: str = "",
        refusals: bool = False,
        proxy_prefix: str = "",
        **options: Any,
    ) -> Page:
        base = service if isinstance(service, str) else service.url
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", functools.partial(watch_console, refusals))
        page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
        page.on("dialog", lambda box: faults.append(f"a box says {box.message}"))
        page.on("request", functools.partial(watch_requests, base.removesuffix(proxy_prefix)))
        if proxy_prefix:  # as a proxy does that removes the prefix
            page.route(
                f"{base}/**",
                lambda route: route.fulfill(
                    response=route.fetch(url=route.request.url.replace(proxy_prefix, "", 1))
                ),
            )
        page.goto(f"{base}/{address}")
        page.get_by_role("heading", level=1).wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="session")
def forged(shared: Callable[..., Path], sample: Path) -> Path:
    """A finished folder whose most played tracks have names that were made to do harm."""

    def fill(folder: Path) -> None:
        given = shutil.copytree(sample, folder / "in")
        forge_names(given)
        run_line(given, folder)

    return shared("forged", fill)


def forge_names(folder: Path) -> None:
    """Give the most played tracks of three input files, and an artist of theirs, other names."""
    plays = pq.read_table(folder / "interactions.parquet")["track_id"].to_pandas().value_counts()
    names = pq.read_table(folder / "catalog_names.parquet").to_pandas()
    is_track = names["type"] == "track"
    known = names[is_track & names["name"].isin(["Thunderstruck", "Back in Black"])]["id"]
    chosen = [track for track in plays.index if track not in set(known)][: len(FORGED)]
    for track, name in zip(chosen, FORGED, strict=True):
        names.loc[is_track & (names["id"] == track), "name"] = name
    tracks = pq.read_table(folder / "tracks.parquet")
    of_first = tracks.filter(pc.field("track_id") == chosen[0])["artists"][0].as_py()
    names.loc[(names["type"] == "artist") & names["id"].isin(of_first[:1]), "name"] = FORGED_ARTIST
    names = names.dropna(subset=["name"])
    pq.write_table(
        pa.Table.from_pandas(names, preserve_index=False), folder / "catalog_names.parquet"
    )


def with_two_releases(finished: Path, work: Path) -> Path:
    """A folder to serve: the release of a finished folder, and the same one as a former release."""
    release = (finished / CURRENT).resolve()
    (work / RELEASES).mkdir(parents=True)
    for name in ("20200101T000000.000000Z", release.name):
        copy = shutil.copytree(release, work / RELEASES / name)
        manifest = json.loads((copy / MANIFEST).read_text()) | {"id": name}
        (copy / MANIFEST).write_text(json.dumps(manifest))
    (work / CURRENT).symlink_to(Path(RELEASES) / release.name)
    (work / PREVIOUS).symlink_to(Path(RELEASES) / "20200101T000000.000000Z")
    return work


@pytest.fixture(scope="session")
def service(
    chromium: Browser, forged: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A running service without keys."""
    work = with_two_releases(forged, tmp_path_factory.mktemp("served"))
    with litestar_run(work) as running:
        yield running
