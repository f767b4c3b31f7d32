"""The page with addresses that lead nowhere, spoiled stores, and answers that are none."""

import json
import re
from urllib.parse import quote

import httpx
import pytest

from tests.console.conftest import with_two_releases
from tests.console.test_page import said, titles
from tests.console.test_safety import faults_of_access
from tests.support.server import litestar_run

pytestmark = pytest.mark.browser


def main(page):
    return page.get_by_role("main")


ADDRESSES = [  # and what the page says
    ("#/nope", "This page has no view “nope”."),
    ("#/<i>ü", "This page has no view “<i>ü”."),
    ("#/release/x", "This page has no view “release/x”."),
    ("#/find/track/1?q=a", "This page has no view “find/track/1”."),
    ("#/track", "the address has nothing"),
    ("#/track/%00", "is a whole number up to 9007199254740991"),
    ("#/track/007", "the address has “007”"),
    ("#/track/679169/5", "the address has “679169/5”"),
    ("#/track/9007199254740992", "the address has “9007199254740992”"),
    ("#/track/9007199254740991", "does not know this track"),
    ("#/track/%zz", "the address has “%zz”"),
    ("#/listener/-1", "the address has “-1”"),
    ("#/listener/" + "x" * 300, "the address has “" + "x" * 60 + "”"),
    ("#/listener/9007199254740991", "The release has nothing of this listener"),
    ("#/find?q=" + quote("🎵" * 300), "at most 256 characters; this has 300."),
    ("#/find?q=zz?zqqz", "Results for “zz?zqqz”"),
    ("#/find?q=%00", "Nothing begins with these words"),
    ("#/find?q=zzqq&q=b", "Results for “zzqq”"),
    ("?user_id=1&user_id=2#/find?q=" + quote("%_*\"' \u202e"), "Nothing begins with these words"),
]


def test_every_address_says_what_is_wrong_with_it(visit, service):
    page = visit(service, "#/key")
    for address, words in ADDRESSES:
        page.goto(f"{service.url}/#/key")
        page.goto(f"{service.url}/{address}")
        main(page).get_by_text(words, exact=False).first.wait_for()
        assert main(page).get_by_role("heading", level=1).inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280, address
        if page.locator("#panel").is_visible():
            assert len(titles(page)) == 20, address


@pytest.mark.parametrize("stored", ["5", "[1]", "{", '{"new": 5}', '{"new": [null]}'])
def test_a_spoiled_store_of_plays_counts_as_none(visit, service, stored):
    page = visit(service, "#/key")
    page.evaluate("text => sessionStorage.setItem('plays', text)", stored)
    page.goto(f"{service.url}/?#/")
    assert len(titles(page)) == 20
    main(page).get_by_role("button", name=re.compile("^Play ")).first.click()
    said(page, "You played")


def test_plays_of_the_other_kind_of_ids_can_be_taken_back(visit, service):
    page = visit(service, "#/key", refusals=True)
    played = [{"track_id": "a text", "name": None, "artists": None}]
    text = json.dumps({"new": played})
    page.evaluate("text => sessionStorage.setItem('plays', text)", text)
    page.goto(f"{service.url}/?#/")
    page.get_by_text("from when the service had other ids").wait_for()
    assert faults_of_access(page) == []
    page.get_by_role("button", name="Take back all plays").click()
    assert len(titles(page)) == 20


DENIED = """Object.defineProperty(window, "sessionStorage", {
  get() { throw new DOMException("denied", "SecurityError"); }
})"""


def test_the_page_works_where_the_browser_keeps_nothing(visit, service):
    page = visit(service, "#/key")
    page.add_init_script(DENIED)
    page.goto(f"{service.url}/?#/")
    main(page).get_by_role("button", name=re.compile("^Play ")).first.click()
    said(page, "You played")
    assert page.get_by_role("list", name="Played in this tab").get_by_role("listitem").count() == 1


UNREADABLE = [
    ("text/html", "<html>Log in</html>"),
    ("application/json", '{"tracks": ['),
    ("application/json", "null"),
]


@pytest.mark.parametrize(("kind", "body"), UNREADABLE)
def test_an_answer_that_is_not_the_services_is_said_to_be_none(visit, service, kind, body):
    page = visit(service, "#/key")
    page.route("**/search?*", lambda route: route.fulfill(content_type=kind, body=body), times=1)
    page.get_by_role("link", name="Explore").click()
    main(page).get_by_role("heading", name="The answer cannot be read").wait_for()
    main(page).get_by_text("such as a proxy that wants you to log in").wait_for()
    main(page).get_by_role("button", name="Try again").click()
    main(page).get_by_role("heading", name="Most played").wait_for()


def test_a_reason_that_is_no_text_is_not_shown(visit, service):
    page = visit(service, "#/key", refusals=True)
    answer = {"status": 400, "json": {"detail": {"a": 1}}}
    page.route("**/search?*", lambda route: route.fulfill(**answer))
    page.get_by_role("link", name="Explore").click()
    main(page).get_by_text("Bad Request").wait_for()


def test_a_long_wait_is_cut_and_does_not_become_none(visit, service):
    page = visit(service, "#/key", refusals=True)
    asked = []

    def refuse(route):
        asked.append(route.request.url)
        route.fulfill(status=429, headers={"Retry-After": "9999999"}, json={"detail": "no"})

    page.route("**/search?*", refuse)
    page.get_by_role("link", name="Explore").click()
    main(page).get_by_text("tries again by itself in 60 s").wait_for()
    page.wait_for_timeout(500)
    assert len(asked) == 1


def test_a_list_that_was_asked_for_too_often_comes_by_itself(visit, service):
    page = visit(service, refusals=True)
    answer = {"status": 429, "headers": {"Retry-After": "1"}, "json": {"detail": "too many"}}
    page.route("**/recommendations?*", lambda route: route.fulfill(**answer), times=1)
    page.get_by_role("button", name="Random listener").click()
    page.get_by_text("The list is asked for again in 1 s").wait_for()
    page.get_by_role("list", name="Recommendations").get_by_role("listitem").first.wait_for()
    assert page.get_by_text("The list is asked for again").count() == 0


def test_a_page_whose_files_do_not_come_says_so(chromium, service):
    context = chromium.new_context()
    page = context.new_page()
    page.route("**/console/track.js", lambda route: route.fulfill(status=429, body="no"))
    page.goto(service.url)
    link = main(page).get_by_role("link", name="Load it again")
    link.wait_for()
    assert "not loaded whole" in main(page).inner_text()
    page.unroute("**/console/track.js")
    link.click()
    main(page).get_by_role("heading", name="Most played").wait_for()
    assert link.count() == 0
    context.close()


def test_older_listens_that_fail_are_asked_for_again_and_the_fault_goes(visit, service):
    who = listener_of_many_listens(service)
    page = visit(service, f"#/listener/{who}", refusals=True)
    more = page.get_by_role("button", name="Show older listens")
    more.wait_for()
    page.route(
        "**/user?*offset=*", lambda route: route.fulfill(status=503, json={"detail": "no"}), times=2
    )
    more.click()
    fault = main(page).get_by_role("heading", name="Nothing can be served right now")
    fault.wait_for()
    main(page).get_by_role("button", name="Try again").click()
    page.wait_for_timeout(300)
    assert fault.count() == 1
    before = page.get_by_role("tabpanel").get_by_role("listitem").count()
    main(page).get_by_role("button", name="Try again").click()
    fault.wait_for(state="detached")
    page.wait_for_timeout(300)
    assert page.get_by_role("tabpanel").get_by_role("listitem").count() > before


def listener_of_many_listens(service):
    for user in range(200):
        found = httpx.get(f"{service.url}/user", params={"user_id": user, "lists": False}).json()
        if found["next_offset"]:
            return user
    raise AssertionError("nobody of the sample has over 50 listens")


def test_a_release_that_vanishes_while_it_is_looked_at_is_said_to_be_gone(visit, forged, tmp_path):
    work = with_two_releases(forged, tmp_path / "work")
    old = work / "releases/20200101T000000.000000Z"
    with litestar_run(work) as running:
        page = visit(running, "#/release", refusals=True)
        serve = page.get_by_role("button", name=re.compile("Serve here"))
        serve.first.wait_for()
        old.rename(tmp_path / "gone")
        serve.first.click()
        page.get_by_role("button", name="Serve it here").click()
        alert = main(page).get_by_role("alert").filter(has_text=old.name)
        alert.wait_for()
        served = (work / "current").resolve()
        served.rename(tmp_path / "served")
        page.get_by_role("button", name="How good the lists are").click()
        main(page).get_by_text("This report is not in the release any more").wait_for()
        page.get_by_role("link", name="Explore").click()
        main(page).get_by_role("heading", name="Most played").wait_for()
        page.get_by_role("link", name="Release", exact=True).click()
        main(page).get_by_text("is not in the work folder any more").wait_for()
        (tmp_path / "served").rename(served)
