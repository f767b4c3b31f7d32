"""Take the pictures of docs/console.md from a running service, and say how long things take.

    python -m tests.console.pictures http://127.0.0.1:8000 [FOLDER]

Writes four pictures into FOLDER, by default docs/, if the service has the sample of run_all.sh, to
which Thunderstruck belongs. Then it prints, for any release and a service on the same machine: the
bytes of the page, the time to the first paint, and for each action the time from the
input to the frame that shows its answer (the median and the longest of ten).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.console.conftest import ARGUMENTS, chromium_path, missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
WIDE, NARROW = {"width": 1280, "height": 832}, {"width": 360, "height": 720}
ROUNDS = 10
THE_SAMPLES = "thunderstruck"  # a track that the sample has, as people type it
# Starts a clock at the next input, and stops it in the frame in which an expression holds.
CLOCK = """([kind, test]) => { window.time = new Promise((resolve) => {
  addEventListener(kind, (event) => {
    const start = event.timeStamp;
    const end = () => resolve(performance.now() - start);
    const look = () => requestAnimationFrame(tests[test]() ? end : look);
    requestAnimationFrame(look);
  }, {once: true, capture: true});
}); }"""
TESTS = """window.tests = {
  status: () => document.getElementById("status").textContent,
  found: () => document.querySelector("main h1")?.textContent.includes(window.sought)
    && document.querySelector("main .track"),
  played: () => tests.status().startsWith("You played"),
  undone: () => tests.status().startsWith("You took back"),
  track: () => document.querySelector("main dl") && document.querySelector(".two"),
  listener: () => document.querySelector("main [role=tablist]"),
  release: () => document.querySelector("main table"),
};"""


def find_and_play(page: Page) -> None:
    """Find Thunderstruck and play it."""
    page.get_by_role("searchbox").fill("thunder")
    page.locator("main").get_by_role("button", name="Play Thunderstruck by AC/DC").click()
    page.get_by_role("status").filter(has_text="You played").wait_for()
    page.wait_for_timeout(900)  # until the rows have moved


def listener_of(url: str) -> int:
    """Return a listener of about a hundred listens, the same one at each run."""
    found = [
        one
        for first in range(1, 10)
        for one in httpx.get(f"{url}/search?q={first}&kind=user&limit=50").json()["users"]
    ]
    return min(found, key=lambda one: (abs(one["listens"] - 100), one["user_id"]))["user_id"]


def take_pictures(browser: Browser, url: str, folder: Path) -> None:
    """Write the four pictures."""

    def picture(name: str, address: str, act: Callable[[Page], object], **options: object) -> None:
        page = browser.new_page(**options)  # type: ignore[arg-type]
        page.goto(f"{url}/{address}")
        page.locator("#recommendations li").first.wait_for(state="attached")
        act(page)
        page.mouse.move(0, 0)
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}.png")
        page.close()

    def narrow(page: Page) -> None:
        find_and_play(page)
        page.locator("#jump").click()
        page.wait_for_timeout(300)

    def final(page: Page) -> None:
        page.get_by_role("tab", name="Final list").click()
        page.locator("[role=tabpanel] .badge").first.wait_for()
        page.wait_for_timeout(300)

    picture("console", "", find_and_play, viewport=WIDE)
    picture("console-listener", f"#/listener/{listener_of(url)}", final, viewport=WIDE)
    picture(
        "console-release", "#/release", lambda page: page.locator("table").wait_for(), viewport=WIDE
    )
    picture(
        "console-phone", "", narrow, viewport=NARROW, color_scheme="dark", device_scale_factor=2
    )


def measure(browser: Browser, url: str, sought: str) -> None:
    """Print what the page weighs and how long it takes, also to find a track by its name."""
    files = [path for path in (ROOT / "api/console").iterdir() if path.is_file()]
    print(
        f"bytes of the page: {sum(path.stat().st_size for path in files):,} in {len(files)} files"
    )
    paints, times = [], {}
    who = listener_of(url)
    for _ in range(ROUNDS):
        page = browser.new_page(viewport=WIDE, reduced_motion="reduce")
        page.goto(url)
        page.locator("#recommendations li").first.wait_for(state="attached")
        page.locator("main .track").first.wait_for()
        paints.append(
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
        page.evaluate(f"window.sought = {json.dumps(sought)}; {TESTS}")

        def timed(
            name: str, kind: str, test: str, act: Callable[[], object], page: Page = page
        ) -> None:
            page.evaluate(CLOCK, [kind, test])
            act()
            times.setdefault(name, []).append(page.evaluate("window.time"))

        play = page.locator("main .play").first
        undo, release = (
            page.get_by_text("Undo the last"),
            page.get_by_role("link", name="Release", exact=True),
        )
        timed(
            "find",
            "input",
            "found",
            lambda page=page: page.get_by_role("searchbox").fill(sought),
        )
        timed("play", "click", "played", play.click)
        timed("undo", "click", "undone", undo.click)
        timed("open a track", "click", "track", page.locator("main .track a").first.click)
        page.evaluate(f"location.hash = '#/find?q={who}'")
        link = page.get_by_role("link", name=f"Listener {who}", exact=True)
        timed("open a listener", "click", "listener", link.click)
        if sought == THE_SAMPLES:  # a release of random lists has no metrics to be shown
            timed("open the release", "click", "release", release.click)
        page.close()
    print(f"first paint: median {statistics.median(paints):.0f} ms, longest {max(paints):.0f} ms")
    for name, taken in times.items():
        print(f"{name}: median {statistics.median(taken):.0f} ms, longest {max(taken):.0f} ms")


def main() -> None:
    """Take the pictures, if the release is that of the sample, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", type=lambda text: text.rstrip("/"), help="of a running service")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=ROOT / "docs", help="for the pictures (docs)"
    )
    arguments = parser.parse_args()
    url, folder = arguments.url, arguments.folder
    if not folder.is_dir():
        parser.error(f"{folder} is not a folder; make it first")
    # npm installs axe-core, which only the tests use
    if lacking := [command for command in missing() if not command.startswith("npm")]:
        parser.error(f"a program is missing; install it by: {', '.join(lacking)}")
    try:
        httpx.get(f"{url}/health/live")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        parser.error(f"no service answers at {url} ({error}); start one by litestar run")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        tracks = f"{url}/search?kind=track&limit=1"
        if httpx.get(f"{tracks}&q={THE_SAMPLES}").json()["tracks"]:
            take_pictures(browser, url, folder)
            measure(browser, url, THE_SAMPLES)
        else:
            measure(browser, url, httpx.get(f"{tracks}&q=a").json()["tracks"][0]["name"])
        browser.close()


if __name__ == "__main__":
    main()
