"""The synthetic histories of few users, in which most tracks have one listener."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import sample_data
from jobs.contract.storage import JobError
from jobs.synthetic import few_listeners
from jobs.synthetic.catalog import make_catalog

USERS, TRACKS, LISTENS = 60, 3000, 40_000


def make(folder: Path, *options: str) -> pd.DataFrame:
    sizes = ["--users", str(USERS), "--tracks", str(TRACKS), "--listens", str(LISTENS)]
    sample_data.main(["--out", str(folder), "--shape", "few-listeners", *sizes, *options])
    return pd.read_parquet(folder / "interactions.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("few")


@pytest.fixture(scope="module")
def listens(folder: Path) -> pd.DataFrame:
    return make(folder)


def test_the_sizes_are_those_asked_for_and_every_track_is_played(
    folder: Path, listens: pd.DataFrame
) -> None:
    assert (len(listens), listens.user_id.nunique()) == (LISTENS, USERS)
    tracks = pd.read_parquet(folder / "tracks.parquet").track_id
    assert len(tracks) == TRACKS
    assert set(listens.track_id) == set(tracks)


def test_most_tracks_have_one_listener_and_a_few_are_heard_by_nearly_everybody(
    listens: pd.DataFrame,
) -> None:
    listeners = listens.groupby("track_id").user_id.nunique()
    assert (listeners == 1).mean() == pytest.approx(0.61, abs=0.02)
    assert listeners.max() > USERS / 2


def test_activity_and_plays_of_a_pair_have_heavy_tails(listens: pd.DataFrame) -> None:
    plays = listens.groupby("user_id").size()
    assert plays.max() > 2 * plays.mean() > 2 * plays.median()
    plays = listens.value_counts(["user_id", "track_id"])
    assert plays.max() > 20 * plays.mean() > 20 * plays.median()


def test_a_users_plays_are_numbered_in_the_order_of_time(listens: pd.DataFrame) -> None:
    by_user = listens.groupby("user_id")
    assert listens.user_id.is_monotonic_increasing
    assert by_user.started_at.is_monotonic_increasing.all()
    assert (listens.track_seq == by_user.cumcount() + 1).all()


def test_the_same_seed_gives_the_same_bytes(
    folder: Path, listens: pd.DataFrame, tmp_path: Path
) -> None:
    make(tmp_path / "same")
    make(tmp_path / "other", "--seed", "1")
    path = folder / "interactions.parquet"
    assert (tmp_path / "same" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "other" / path.name).read_bytes() != path.read_bytes()


@given(st.integers(1, 30), st.integers(0, 1500), st.integers(0, 3))
def test_every_user_hears_a_track_and_every_track_has_its_number_of_listeners(
    users: int, more: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tracks = users + more
    user, track = few_listeners.draw_pairs(rng, make_catalog(rng, tracks, 5), users)
    assert len(set(zip(user.tolist(), track.tolist(), strict=True))) == len(user)
    assert set(user.tolist()) == set(range(users))
    found = np.sort(np.bincount(track, minlength=tracks))
    assert found.tolist() == few_listeners.listeners_of_tracks(tracks, users).tolist()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--users", "20000", "at most 10,000"),
        ("--tracks", "50", "at least as many as --users, 60"),
        ("--listens", "3000", "pairs, so give at least that many"),
    ],
)
def test_sizes_that_cannot_be_are_an_error(
    tmp_path: Path, option: str, value: str, says: str
) -> None:
    with pytest.raises(JobError, match=says):
        make(tmp_path, option, value)
    assert not list(tmp_path.iterdir())
