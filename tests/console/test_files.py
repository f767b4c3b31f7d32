"""The files of the page, without a browser."""

import re

from api.http.console import ASSETS
from jobs.ranking.candidates import GENERATORS

LARGEST = 150_000  # bytes of the whole page


def test_the_page_is_small_and_names_no_other_host():
    files = [path for path in ASSETS.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    for path in files:
        hosts = set(re.findall(r"https?://[\w.]+", path.read_text()))
        assert hosts <= {"http://www.w3.org"}, path.name  # the name of SVG, which nobody asks for


def test_the_page_uses_relative_addresses_and_all_its_files():
    page = (ASSETS / "index.html").read_text()
    addresses = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert not [one for one in addresses if one.startswith(("/", "http"))]
    named = {one.removeprefix("console/") for one in addresses if one.startswith("console/")}
    assert named == {path.name for path in ASSETS.iterdir()} - {"index.html"}


def test_the_page_names_every_generator():
    script = (ASSETS / "listener.js").read_text()
    named = re.findall(r"^  (\w+): \[", script, re.MULTILINE)
    assert sorted(named) == sorted(GENERATORS)
