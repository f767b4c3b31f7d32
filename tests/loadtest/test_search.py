"""The load test of the search needs names to search for."""

import random

import pytest

from loadtest import search


class Nameless:
    """A client of a service whose tracks have no names: they are found by their ids only."""

    def __init__(self, tracks):
        self.answer = {"tracks": tracks}

    def get(self, _path):
        return self.answer


@pytest.mark.parametrize("tracks", [[], [{"track_id": 1, "name": None, "artists": []}]])
def test_a_release_without_names_ends_the_test_with_one_line(tracks):
    with pytest.raises(SystemExit, match="found no track with a name: pass as --work"):
        list(search.texts(Nameless(tracks), random.Random(1), 100))
