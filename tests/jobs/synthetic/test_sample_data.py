"""The synthetic sample: its format, shape, dirt and determinism."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import sample_data
from jobs.contract.storage import JobError
from jobs.synthetic import input_files
from jobs.synthetic.catalog import catalog_tables, make_catalog
from jobs.synthetic.listens import TrackSampler, draw_listens
from jobs.synthetic.names import WELL_KNOWN

USERS, TRACKS, LISTENS = 1200, 2500, 60_000
FILES = ("tracks.parquet", "catalog_names.parquet", "interactions.parquet")


def make(folder: Path, *options: str, seed: int = 0) -> Path:
    sizes = ["--users", str(USERS), "--tracks", str(TRACKS), "--listens", str(LISTENS)]
    sample_data.main(["--out", str(folder), *sizes, "--seed", str(seed), *options])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def listens(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "interactions.parquet")


@pytest.fixture(scope="module")
def tracks(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "tracks.parquet").set_index("track_id")


@pytest.fixture(scope="module")
def names(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "catalog_names.parquet")


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    same, other = make(tmp_path / "same"), make(tmp_path / "other", seed=1)
    for file in FILES:
        assert (same / file).read_bytes() == (folder / file).read_bytes()
        assert (other / file).read_bytes() != (folder / file).read_bytes()


def test_the_files_have_the_real_types_and_an_index_that_repeats(
    folder: Path, listens: pd.DataFrame
) -> None:
    types = {field.name: str(field.type) for field in pq.read_schema(folder / FILES[2])}
    assert types.pop("__index_level_0__") == "int64"
    assert types == {
        "user_id": "int32", "track_id": "int32", "track_seq": "int16", "started_at": "timestamp[ns]"
    }  # fmt: skip
    assert not listens.index.is_unique
    assert list(pq.read_schema(folder / FILES[0]).names) == [
        "track_id", "albums", "artists", "genres"
    ]  # fmt: skip
    assert list(pq.read_schema(folder / FILES[1]).names) == ["id", "type", "name"]


def test_the_sizes_are_those_asked_for_and_a_pair_stands_once(
    listens: pd.DataFrame, tracks: pd.DataFrame
) -> None:
    assert (len(listens), listens.user_id.nunique(), len(tracks)) == (LISTENS, USERS, TRACKS)
    assert not listens.duplicated(["user_id", "track_id"]).any()
    assert listens.track_id.isin(tracks.index).all()
    assert tracks.index.is_unique


def test_a_users_listens_are_numbered_by_days_of_2022(listens: pd.DataFrame) -> None:
    by_user = listens.groupby("user_id")
    assert (listens.track_seq == by_user.cumcount() + 1).all()
    assert by_user.started_at.is_monotonic_increasing.all()
    assert (listens.started_at == listens.started_at.dt.normalize()).all()
    assert set(listens.started_at.dt.year) == {2022}


def test_activity_and_popularity_have_the_real_shape(listens: pd.DataFrame) -> None:
    per_user = listens.groupby("user_id").size() * (160 / (LISTENS / USERS))
    assert per_user.quantile([0.25, 0.5, 0.75]).tolist() == pytest.approx([22, 54, 149], rel=0.15)
    shares = listens.track_id.value_counts() / USERS
    assert 0.04 < shares.iloc[0] < 0.12
    assert shares.iloc[99] < shares.iloc[0] / 1.5


def test_users_keep_to_what_they_like(listens: pd.DataFrame, tracks: pd.DataFrame) -> None:
    genre = tracks.genres.map(lambda ids: ids[0] if len(ids) else -1)[listens.track_id].to_numpy()
    own = listens.assign(genre=genre).groupby("user_id").genre.agg(favourite_share)
    everyone = pd.Series(genre).value_counts(normalize=True).iloc[0]
    assert own.median() > 2 * everyone


def favourite_share(genres: pd.Series) -> float:
    return genres.value_counts(normalize=True).iloc[0]


def test_the_next_track_is_often_by_the_same_artist(
    listens: pd.DataFrame, tracks: pd.DataFrame
) -> None:
    artist = tracks.artists.map(lambda ids: ids[0] if len(ids) else -1)[listens.track_id].to_numpy()
    user = listens.user_id.to_numpy()

    def same(step: int) -> float:
        pair = user[step:] == user[:-step]
        return (artist[step:] == artist[:-step])[pair].mean()

    assert 0.15 < same(1) < 0.6
    assert same(1) > 2 * same(10)


def test_popularity_drifts_over_the_year(listens: pd.DataFrame) -> None:
    month = listens.started_at.dt.month
    tops = [set(listens[month.isin(m)].track_id.value_counts().index[:100]) for m in
            ((1, 2), (3, 4), (11, 12))]  # fmt: skip
    assert len(tops[0] & tops[2]) < len(tops[0] & tops[1])


def test_hardly_a_release_is_heard_before_its_day() -> None:
    rng = np.random.default_rng(0)
    catalog = make_catalog(rng, 20_000, 30)
    counts = np.full(500, 30)
    day, track = draw_listens(rng, TrackSampler(catalog), counts)
    assert (catalog.release[track] > day).mean() < 0.005
    assert (catalog.release[track] > 0).mean() > 0.1


def test_the_catalogue_has_the_dirt_of_a_real_one(
    tracks: pd.DataFrame, names: pd.DataFrame
) -> None:
    assert not names.duplicated(["type", "id"]).any()
    assert names.groupby("id").type.nunique().max() > 1
    assert 0.1 < names.name.duplicated().mean() < 0.7
    for column in ("albums", "artists", "genres"):
        assert 0 < (tracks[column].map(len) == 0).sum() < 0.05 * TRACKS
    named = names[names.type == "genre"].id
    unnamed = tracks.genres.explode().dropna()
    unnamed = unnamed[~unnamed.isin(named)]
    assert 0.03 < unnamed.index.nunique() / TRACKS < 0.07
    for odd in (r"^\t", "🎵", "^[^\\w]+$", "[а-я]", "[Сс]борник"):
        assert names.name.str.contains(odd).any(), odd


def test_well_known_tracks_stand_under_their_real_ids(
    listens: pd.DataFrame, tracks: pd.DataFrame, names: pd.DataFrame
) -> None:
    name = names.set_index(["type", "id"]).name
    listeners = listens.track_id.value_counts()
    for track_id, title, artist, album, genre in WELL_KNOWN:
        row = tracks.loc[track_id]
        assert name["track", track_id] == title
        assert name["artist", row.artists[0]] == artist
        assert name["album", row.albums[0]] == album
        assert name["genre", row.genres[0]] == genre
        assert listeners[track_id] > 3 * LISTENS / TRACKS / 2
    artist_ids = {tracks.loc[i].artists[0] for i in (679169, 647040, 694683)}
    assert len(artist_ids) == 1  # all by AC/DC


@pytest.mark.parametrize("n_users", [1, 2, 47, 48, 1000])
def test_user_47_is_there_and_user_16_is_not(n_users: int) -> None:
    ids = input_files.draw_user_ids(np.random.default_rng(n_users), n_users)
    assert len(set(ids)) == n_users
    assert 47 in ids
    assert 16 not in ids


@given(st.data())
def test_any_size_that_fits_is_met_exactly(data: st.DataObject) -> None:
    n_users, n_tracks = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 60))
    n_listens = data.draw(st.integers(n_users, n_users * n_tracks))
    rng = np.random.default_rng(0)
    counts = input_files.draw_counts(rng, n_users, n_tracks, n_listens)
    assert counts.sum() == n_listens
    assert counts.min() >= 1
    catalog = make_catalog(rng, n_tracks, n_listens / n_users)
    catalog_tables(rng, catalog)
    day, track = draw_listens(rng, TrackSampler(catalog), counts)
    user = np.repeat(np.arange(n_users), counts)
    assert len(track) == len(day) == n_listens
    assert len(set(zip(user, track, strict=True))) == n_listens


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--users", "0", "--users is 0"),
        ("--tracks", "-5", "--tracks is -5"),
        ("--seed", "-1", "--seed is -1"),
        ("--listens", "10", "a user has 1 to"),
        ("--listens", "99999999", "each of another track"),
    ],
)
def test_sizes_that_cannot_be_are_an_error(
    tmp_path: Path, option: str, value: str, says: str
) -> None:
    with pytest.raises(JobError, match=says):
        make(tmp_path, option, value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match="can't be written"):
        make(tmp_path / "file")
