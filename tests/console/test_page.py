"""The page as a person uses it, by roles and names, as someone with a screen reader would."""

import re

import httpx
import pytest

from jobs.contract import tables
from tests.console.conftest import FORGED, FORGED_ARTIST
from tests.support.workspace import rows

pytestmark = pytest.mark.browser
SEARCH = "Find a track, an artist or a listener"
HUGE = 9007199254740991


def titles(page):
    """The titles of the recommendations, in order."""
    items = page.get_by_role("list", name="Recommendations").get_by_role("listitem")
    items.first.wait_for()
    return [item.get_by_role("link").first.inner_text() for item in items.all()]


def said(page, text):
    page.get_by_role("status").filter(has_text=text).wait_for()


def find_and_play(page, text, button):
    page.get_by_role("searchbox", name=SEARCH).fill(text)
    page.get_by_role("main").get_by_role("button", name=button, exact=True).first.click()


def listener(service):
    """Someone with two pages of history, who has not heard nearly everything."""
    searches = (f"{service.url}/search?q={digit}&kind=user&limit=50" for digit in range(1, 10))
    found = [user for search in searches for user in httpx.get(search).json()["users"]]
    return min(found, key=lambda user: (abs(user["listens"] - 60), user["user_id"]))


def test_thunderstruck_is_found_and_played_and_the_list_answers_with_the_reason(visit, service):
    page = visit(service)
    before = titles(page)
    find_and_play(page, "thunder", "Play Thunderstruck by AC/DC")  # two actions
    said(page, re.compile(r"You played Thunderstruck: .*\d+ (new|rose)"))
    after = titles(page)
    assert after != before and "Thunderstruck" not in after
    items = page.get_by_role("list", name="Recommendations").get_by_role("listitem")
    assert items.filter(has_text="because you played Thunderstruck").count() > 5
    assert items.filter(has_text=re.compile(r"new|up \d+")).count() > 0
    page.get_by_role("button", name="Undo the last").click()
    said(page, "You took back Thunderstruck")
    assert titles(page) == before


def test_plays_are_asked_about_and_never_stored(visit, service):
    page = visit(service)
    calls = []
    page.on("request", lambda request: calls.append((request.method, request.url)))
    for text, button in (
        ("thunder", "Play Thunderstruck by AC/DC"),
        ("back in", "Play Back in Black by AC/DC"),
    ):
        find_and_play(page, text, button)
        said(page, "You played")
    page.reload()
    played = page.get_by_role("list", name="Played in this tab").get_by_role("listitem")
    assert played.all_inner_texts() == ["Back in Black", "Thunderstruck"]
    assert {
        url.partition("?")[0].rpartition("/")[2] for method, url in calls if method == "POST"
    } == {"recommendations"}
    metrics = httpx.get(f"{service.url}/get_statistics").json()
    assert metrics == {"request_personal_count": 0, "request_default_count": 0}


def test_playing_as_a_listener_is_stored_only_once_it_is_confirmed(visit, service):
    who = listener(service)["user_id"]
    page = visit(service, f"#/listener/{who}")
    find_and_play(page, "thunder", "Play Thunderstruck by AC/DC")
    said(page, "You played Thunderstruck")
    stored = lambda: httpx.get(f"{service.url}/get_user_events?user_id={who}").json()["events"]  # noqa: E731
    page.get_by_role("button", name="Play as this listener").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert stored() == []
    page.get_by_role("button", name="Play as this listener").click()
    page.get_by_role("dialog").get_by_role("button", name="Store the plays").click()
    said(page, f"Stored 1 play of listener {who}")
    assert stored() == [679169]
    reasons = page.get_by_role("list", name="Recommendations")
    assert reasons.get_by_text("because they played Thunderstruck").count() > 0
    page.goto(f"{service.url}/#/listener/{who}")
    page.get_by_role("tab", name="Live events 1").click()
    assert page.get_by_role("tabpanel").get_by_role("link", name="Thunderstruck").count() == 1


def test_a_new_listener_and_a_random_one_are_a_click_away(visit, service):
    page = visit(service)
    someone_new = titles(page)
    page.get_by_role("button", name="Random listener").click()
    page.get_by_role("heading", name=re.compile(r"Listener \d+"), level=1).wait_for()
    page.get_by_text(re.compile(r"For listener \d+, from")).wait_for()
    page.get_by_role("button", name="Someone new").click()
    page.get_by_text("For someone new, from the top list").wait_for()
    assert titles(page) == someone_new


def test_a_listener_has_pages_of_history_and_tabs_that_arrow_keys_move_through(visit, service):
    who = listener(service)
    page = visit(service, f"#/listener/{who['user_id']}")
    items = page.get_by_role("tabpanel").get_by_role("listitem")
    assert items.count() == min(who["listens"], 50)
    assert re.search(r"\d{4}-\d\d-\d\d", items.first.inner_text())
    while page.get_by_role("button", name="Show older listens").is_visible():
        count = items.count()
        page.get_by_role("button", name="Show older listens").click()
        items.nth(count).wait_for()
    assert items.count() == who["listens"]
    page.get_by_role("tab", name="History").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", selected=True).inner_text().startswith("Final list")
    page.get_by_text(re.compile(r"^(ALS|Top list|Next played) \d+$")).first.wait_for()
    page.get_by_role("tab", name="ALS").click()
    page.get_by_text(re.compile(r"\d+ of \d+ are in the final list")).wait_for()
    assert page.get_by_role("tabpanel").get_by_text(re.compile(r"^final \d+$")).count() > 0


def test_of_someone_without_a_final_list_no_share_of_it_is_told(visit, service):
    page = visit(service, f"#/listener/{HUGE}")
    panel = page.get_by_role("tabpanel")
    panel.get_by_text("Many people play these tracks.", exact=True).wait_for()


def test_a_track_has_its_numbers_its_trend_and_what_is_near_it(visit, service):
    page = visit(service)
    page.get_by_role("searchbox", name=SEARCH).fill("thunderstruck")
    page.get_by_role("main").get_by_role("link", name="Thunderstruck", exact=True).click()
    page.get_by_role("heading", name="Thunderstruck", level=1).wait_for()
    track = httpx.get(f"{service.url}/tracks?ids=679169&near=20").json()["tracks"][0]
    main = page.get_by_role("main")
    facts = (
        main.get_by_role("term").all_inner_texts(),
        main.get_by_role("definition").all_inner_texts(),
    )
    assert dict(zip(*facts, strict=True)) == {
        "Listeners": str(track["listeners"]), "Plays": str(track["plays"]),
        "Place in the top list": str(track["top_rank"]), "Genres": ", ".join(track["genres"]),
        "Id": "679169",
    }  # fmt: skip
    trend = ", ".join(map(str, track["trend"]))
    assert main.get_by_role("img", name=trend).is_visible()
    assert main.get_by_role("listitem").count() == len(track["similar"]) + len(track["next_played"])
    main.get_by_role("link", name="AC/DC").first.click()
    page.get_by_role("heading", name="Results for “AC/DC”").wait_for()


def test_the_release_has_metrics_beside_the_former_ones_and_reports_without_scripts(visit, service):
    page = visit(service, "#/release")
    table = page.get_by_role("region", name="Metrics")
    assert table.get_by_role("columnheader").all_inner_texts()[:4] == [
        "Metric of the first 10", "Final list", "Previous", "Change",
    ]  # fmt: skip
    cells = table.get_by_role("row", name="NDCG").get_by_role("cell").all_inner_texts()
    assert cells[0] == cells[1] and cells[2] == "0" and 0 < float(cells[0]) < 1
    page.get_by_role("button", name="How good the lists are").click()
    frame = page.locator("iframe")
    assert frame.get_attribute("sandbox") == ""
    assert page.frame_locator("iframe").get_by_role("heading").first.inner_text()
    page.get_by_text("Command that makes it current").click()
    former = page.get_by_role("listitem").filter(has_text="Serve here").get_by_role("code")
    assert "--activate 20200101T000000.000000Z" in former.inner_text()


def test_a_long_command_scrolls_in_its_line_and_not_the_page(visit, service):
    page = visit(service, "#/release", viewport={"width": 360, "height": 720})
    page.get_by_text("Command that makes it current").click()
    page.get_by_role("button", name="Copy").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_in_the_dark_a_report_does_not_flash_white_before_it_is_painted(visit, service):
    page = visit(service, "#/release", color_scheme="dark")
    page.get_by_role("button", name="How good the lists are").click()
    ground = "frame => getComputedStyle(frame).backgroundColor"
    red, green, blue = re.findall(r"\d+", page.locator("iframe").evaluate(ground))
    assert max(int(red), int(green), int(blue)) < 64


def test_another_release_is_served_once_that_is_confirmed(visit, service):
    former = "20200101T000000.000000Z"
    page = visit(service, "#/release")
    served = page.get_by_role("heading", level=1).inner_text()
    page.get_by_role("button", name=f"Serve here …: {former}").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert httpx.get(f"{service.url}/health/ready").json()["release"] == served
    page.get_by_role("button", name=f"Serve here …: {former}").click()
    page.get_by_role("dialog").get_by_role("button", name="Serve it here").click()
    page.get_by_role("heading", name=former, level=1).wait_for()
    page.get_by_role("button", name=f"Serve here …: {served}").click()
    page.get_by_role("dialog").get_by_role("button", name="Serve it here").click()
    page.get_by_role("heading", name=served, level=1).wait_for()


def test_the_service_view_shows_what_was_called_between_two_looks(visit, service):
    page = visit(service, "#/service")
    page.get_by_text("the next look gives rates").first.wait_for()
    for _ in range(40):
        httpx.get(f"{service.url}/get_online_u2i?user_id=1")
    row = page.get_by_role("region", name="Calls").get_by_role("row", name="/get_online_u2i")
    row.wait_for()
    assert re.search(r"\d+\.\d\s+[\d.]+ [µm]s\s+[\d.]+ [µm]s", row.inner_text())
    page.get_by_role("button", name="Pause").click()
    assert page.get_by_text("This process").is_visible()


@pytest.mark.parametrize("width", [360, 1280])
def test_names_that_were_made_to_do_harm_are_shown_as_text(visit, service, forged, width):
    ids = dict(rows(tables.ITEMS, forged, "track_name", "track_id"))
    page = visit(service)
    page.set_viewport_size({"width": width, "height": 780})
    main = page.get_by_role("main")
    for name in FORGED:
        title = name or f"Track {ids[None]}"
        page.get_by_role("searchbox", name=SEARCH).fill(str(ids[name]))
        link = page.locator(f'main a[href="#/track/{ids[name]}"]').first
        link.wait_for()
        assert link.text_content() == title
        button = main.locator(f"li[data-track='{ids[name]}']").get_by_role("button").first
        assert button.get_attribute("aria-label").startswith(f"Play {name or f'track {ids[None]}'}")
        button.click()
        page.get_by_role("status").filter(has_text="You played").wait_for()
        link.click()
        page.get_by_text("Place in the top list").wait_for()
        assert main.get_by_role("heading", level=1).text_content() == title
        assert page.title() == f"{title} · Music recommendations"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("searchbox", name=SEARCH).fill("onmouseover")
    main.get_by_text(FORGED_ARTIST, exact=True).first.wait_for()
    assert page.locator("main script, main img, main b").count() == 0


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("#/track/abc", "whole number"),
        ("#/track/", "whole number"),
        ("#/listener/-1", "whole number"),
        (f"#/listener/{HUGE + 1}", "whole number"),
        ("#/track/1", "does not know this track"),
        (f"#/listener/{HUGE}", "nothing of this listener"),
        ("#/nothing/here", "no view “nothing/here”"),
        ("#/find?q=zzqqzzqq", "Nothing begins with these words"),
        ("#/find?q=" + "a" * 257, "256"),
        ("#/find?q=%E0%A4%A", ""),
        ("#/find?q=%00%22AND", ""),
    ],
)
def test_a_bad_address_gets_a_clear_message_and_never_a_blank_page(
    visit, service, address, message
):
    page = visit(service, address, refusals=True)
    assert message in page.get_by_role("main").inner_text()
    assert page.get_by_role("heading", level=1).inner_text().strip()
    assert len(titles(page)) == 20


def test_all_of_it_works_by_keyboard(visit, service):
    page = visit(service)
    page.keyboard.type("thunder")
    page.get_by_role("heading", name="Results for “thunder”").wait_for()
    page.get_by_role("main").get_by_role("link", name="Thunderstruck", exact=True).wait_for()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Thunderstruck"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    said(page, "You played Thunderstruck")
    page.goto(f"{service.url}/#/listener/{listener(service)['user_id']}")
    page.get_by_role("tablist").wait_for()
    page.keyboard.press("Tab")
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_play_in_the_list_keeps_the_focus_in_the_list(visit, service):
    page = visit(service)
    titles(page)
    items = page.get_by_role("list", name="Recommendations").get_by_role("listitem")
    items.nth(2).get_by_role("button").focus()
    page.keyboard.press("Enter")
    said(page, "You played")
    inside = "document.activeElement.closest('#recommendations') !== null"
    assert page.evaluate(inside)
