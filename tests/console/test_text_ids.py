"""The page of a service with text ids: whatever they are, they stand in addresses and are found."""

from urllib.parse import quote

import pytest

from tests.support import releases
from tests.support.releases import TEXTS, named
from tests.support.server import litestar_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def text_service(tmp_path_factory):
    work = tmp_path_factory.mktemp("text")
    releases.make(work, text=TEXTS)
    with litestar_run(work) as running:
        yield running


def test_a_listener_and_their_tracks_have_addresses(text_service, visit):
    page = visit(text_service, f"#/listener/{quote(named(47), safe='')}")
    assert page.get_by_role("heading", level=1).inner_text() == f"Listener {named(47)}"
    assert (
        page.locator("#panel-who").inner_text() == f"For listener {named(47)}, from the final list"
    )
    page.locator("main .track a.name").first.click()
    page.get_by_role("heading", level=1, name="track 3").wait_for()
    assert page.url.endswith(f"#/track/{quote(named(3), safe='')}")
    page.get_by_role("button", name="Play track 3").first.click()
    page.get_by_text("You played track 3").first.wait_for()


def test_what_can_be_no_id_is_refused(text_service, visit):
    page = visit(text_service, f"#/track/{'x' * 257}")
    page.get_by_text("is text of up to 256 bytes").wait_for()
