"""The page where not all is well: keys, limits, no release, old releases, other prefixes."""

import re
import subprocess
import sys
import time

import httpx
import pytest

from tests.api.test_console import former
from tests.console.conftest import AXE, with_two_releases
from tests.console.test_page import SEARCH, find_and_play, listener, said, titles
from tests.support.server import ROOT, free_port, litestar_run

pytestmark = pytest.mark.browser
ADMIN, READ, CONSOLE = (f"the-key-for-{name}" for name in ("everything", "reading", "looking"))


def views(service):
    who = listener(service)["user_id"]
    return [
        "", "#/find?q=ac%20dc", "#/find?q=zzqqzzqq", "#/track/679169", "#/track/1",
        f"#/listener/{who}", "#/listener/987654321", "#/release", "#/service", "#/key", "#/track/x",
    ]  # fmt: skip


def faults_of_access(page):
    page.evaluate(AXE.read_text())
    # frames are left out: a sandboxed one runs no script, and a report has its own tests
    found = page.evaluate("axe.run(document, {iframes: false, resultTypes: ['violations']})")
    return [(one["id"], [node["target"] for node in one["nodes"]]) for one in found["violations"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_no_view_has_a_fault_of_access_or_scrolls_sideways(visit, service, scheme, width):
    look = {"color_scheme": scheme, "reduced_motion": "reduce"}
    look["viewport"] = {"width": width, "height": 780}
    for address in views(service):
        page = visit(service, address, refusals=True, **look)
        if page.get_by_role("list", name="Recommendations").is_visible():
            titles(page)
        assert (address, faults_of_access(page)) == (address, [])
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        page.close()
    page = visit(service, f"#/listener/{listener(service)['user_id']}", **look)
    for tab in ("Final list", "ALS", "Same artists"):
        page.get_by_role("tab", name=tab).click()
        page.locator("[role=tabpanel]:not([aria-busy])").wait_for()
        assert (tab, faults_of_access(page)) == (tab, [])
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
    find_and_play(page, "thunder", "Play Thunderstruck by AC/DC")
    said(page, "You played Thunderstruck")
    assert faults_of_access(page) == []
    page.get_by_role("button", name="Play as this listener").click()
    assert faults_of_access(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_policy_of_the_page_stays_on(chromium, service):
    policy = httpx.get(f"{service.url}/").headers["content-security-policy"]
    own = ("script-src", "style-src", "connect-src", "frame-src")
    assert [part for part in policy.split("; ") if part.startswith(own)] == [
        f"{name} 'self'" for name in own
    ]
    page = chromium.new_page()
    blocked = []
    page.on("console", lambda message: blocked.append(message.text))
    page.goto(service.url)
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "document.title = 'forged'";
      document.head.append(script);
    }""")
    assert page.title() == "Music recommendations"
    assert len(blocked) == 1 and "script-src 'self'" in blocked[0]
    page.close()


@pytest.fixture(scope="module")
def guarded(chromium, forged, tmp_path_factory):
    work = with_two_releases(forged, tmp_path_factory.mktemp("guarded"))
    with litestar_run(work, ADMIN_KEY=ADMIN, READ_KEY=READ, CONSOLE_KEY=CONSOLE) as running:
        yield running


def enter(page, key):
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def test_a_key_is_asked_for_checked_sent_in_a_header_and_kept_for_the_tab(visit, guarded):
    page = visit(guarded, refusals=True)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    assert page.get_by_role("heading", name="A key is needed").is_visible()
    enter(page, "short")
    page.get_by_role("alert").filter(has_text="16 to 256").wait_for()
    assert faults_of_access(page) == []
    enter(page, "ключ" * 5)
    page.get_by_role("alert").filter(has_text="16 to 256").wait_for()
    enter(page, "not-a-key-of-this-service")
    page.get_by_role("alert").filter(has_text="does not know this key").wait_for()
    enter(page, READ)
    page.get_by_role("heading", name="Most played").wait_for()
    assert len(titles(page)) == 20
    page.reload()
    page.get_by_role("heading", name="Most played").wait_for()
    assert not any(READ in url for url in asked)
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    other = page.context.new_page()
    other.goto(guarded.url)
    other.get_by_role("heading", name="A key is needed").wait_for()
    page.get_by_role("link", name="Key: read").click()
    page.get_by_role("button", name="Forget the key").click()
    page.get_by_text("None is used in this tab").wait_for()


def test_listeners_open_with_the_key_of_the_console_only(visit, guarded):
    page = visit(guarded, "#/key", refusals=True)
    enter(page, READ)
    page.get_by_role("link", name="Explore").click()
    page.get_by_text("Listeners are shown with the admin key").wait_for()
    page.get_by_role("button", name="Random listener").click()
    page.get_by_role("heading", name="This is not open to you").wait_for()
    assert faults_of_access(page) == []
    enter(page, CONSOLE)
    page.get_by_role("heading", name=re.compile(r"Listener \d+"), level=1).wait_for()
    page.get_by_role("link", name="Release", exact=True).click()
    page.get_by_text("needs the admin key").first.wait_for()
    page.get_by_role("button", name="How good the lists are").click()
    assert page.frame_locator("iframe").get_by_role("heading").first.inner_text()


def test_too_many_requests_have_a_view_that_goes_on_by_itself(visit, service, forged, tmp_path):
    work = with_two_releases(forged, tmp_path / "work")
    with litestar_run(work, RATE_LIMIT="1") as limited, httpx.Client() as client:
        answers = [client.get(f"{limited.url}/freshness") for _ in range(20)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    page = visit(service, refusals=True)
    page.route(
        "**/releases",
        lambda route: route.fulfill(
            status=429, headers=dict(refused.headers), body=refused.content
        ),
        times=1,
    )
    page.get_by_role("link", name="Release", exact=True).click()
    page.get_by_role("heading", name="Too many requests").wait_for()
    assert "tries again by itself in 1 s" in page.get_by_role("main").inner_text()
    page.get_by_role("heading", name=re.compile(r"^2\d+T"), level=1).wait_for()


def test_no_release_and_no_service_each_have_a_view(visit, forged, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with litestar_run(work) as running:
        page = visit(running, refusals=True)
        assert page.get_by_role("heading", name="Nothing can be served right now").is_visible()
        assert faults_of_access(page) == []
        assert "jobs.publish" in page.get_by_role("main").inner_text()
        with_two_releases(forged, tmp_path / "other")
        for name in ("releases", "current", "previous"):
            (tmp_path / "other" / name).rename(work / name)
        assert httpx.get(f"{running.url}/load_recommendations").status_code == 200
        page.get_by_role("main").get_by_role("button", name="Try again").click()
        page.get_by_role("heading", name="Most played").wait_for()
    page.get_by_role("link", name="Release", exact=True).click()
    page.get_by_role("heading", name="The service does not answer").wait_for()


def test_a_release_made_before_is_shown_with_what_it_lacks(visit, forged, tmp_path):
    work = tmp_path / "work"
    (work / "releases").mkdir(parents=True)
    with litestar_run(former(forged, work)) as running:
        page = visit(running)
        assert "Search by name is missing in this release" in page.get_by_role("main").inner_text()
        assert faults_of_access(page) == []
        page.get_by_role("searchbox", name=SEARCH).fill("679169")
        page.get_by_role("main").get_by_role(
            "button", name="Play Thunderstruck", exact=True
        ).click()
        said(page, "You played Thunderstruck")
        page.get_by_role("main").get_by_role("link", name="Thunderstruck", exact=True).click()
        page.get_by_text("Genres are missing in this release").wait_for()
        page.goto(f"{running.url}/#/listener/{listener(running)['user_id']}")
        page.get_by_role("tab", name="Similar", exact=True).click()
        page.get_by_text("This list cannot be shown").wait_for()
        page.get_by_role("link", name="Release", exact=True).click()
        page.get_by_text("This release has no reports").wait_for()


def test_the_page_works_under_a_prefix(visit, forged, tmp_path, monkeypatch):
    work = with_two_releases(forged, tmp_path / "work")
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "app:app", "--root-path", "/music", "--port", str(port),
    ]  # fmt: skip
    monkeypatch.setenv("RECO_WORK", str(work))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                if httpx.get(f"{url}/health/live").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        page = visit(f"{url}/music", "", proxy_prefix="/music")
        find_and_play(page, "thunder", "Play Thunderstruck by AC/DC")
        said(page, "You played Thunderstruck")
        page.get_by_role("link", name="Release", exact=True).click()
        page.get_by_role("button", name="How good the lists are").click()
        assert page.frame_locator("iframe").get_by_role("heading").first.inner_text()
    finally:
        process.terminate()
        process.wait()
