"""The jobs that make lists, each on a table whose answer can be seen."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from jobs.contract import storage, tables
from jobs.contract.fold_in import fold_in
from jobs.contract.names import ALS_MODEL
from jobs.contract.storage import JobError
from jobs.data import listens
from jobs.data.ids import MISSING, Encoder
from jobs.models import als_model, hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from tests.support.rankings import assert_same_ranking
from tests.support.ties import by_tie
from tests.support.workspace import lists, make_lists, rows, run, save_listens

COLOURS = 2
N = 20

# User u has played every track of its colour but track u.
CHECKERBOARD = [
    (user, track, float(track))
    for user in range(N)
    for track in range(N)
    if user % COLOURS == track % COLOURS and user != track
]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A folder with the checkerboard's lists, by the factorisation as it is."""
    work = save_listens(tmp_path_factory.mktemp("board"), CHECKERBOARD)
    hyperparameters.save(work, Hyperparameters(als_factors=8, als_half_life=None))
    make_lists(work)
    return work


def saved_model(work, users, items):
    """A model with these vectors, for listens that are there already."""
    users, items = (np.array(vectors, np.float32) for vectors in (users, items))
    np.savez(work / ALS_MODEL, user_factors=users, item_factors=items)


TASTES = [(1, 10, 0), (2, 10, 0), (3, 10, 0), (1, 20, 8), (2, 20, 10), (1, 30, 10), (1, 30, 10.0)]


def test_without_a_half_life_the_track_with_most_listeners_is_first(tmp_path):
    save_listens(tmp_path, TASTES, tracks=[5, 40])
    run("top_popular", tmp_path)
    assert rows(tables.TOP_POPULAR, tmp_path) == [
        (10, 1, 3, 3, 3),
        (20, 2, 2, 2, 2),
        (30, 3, 1, 1, 2),
    ]


def test_with_a_half_life_a_listener_halves_every_so_many_days_before_the_last(tmp_path):
    save_listens(tmp_path, TASTES, tracks=[5, 40])
    hyperparameters.save(tmp_path, Hyperparameters(popular_half_life=2.0))
    run("top_popular", tmp_path)
    assert rows(tables.TOP_POPULAR, tmp_path) == [
        (20, 1, pytest.approx(1.5), 2, 2),
        (30, 2, pytest.approx(1), 1, 2),  # one user played it twice
        (10, 3, pytest.approx(3 / 32), 3, 3),
    ]


def test_equally_popular_tracks_come_by_listeners_then_by_a_hash_of_the_id(tmp_path):
    save_listens(tmp_path, [(1, 5, 0), (1, 5, 0), (1, 20, 0), (2, 20, 0), (3, 9, 0), (4, 9, 0)])
    hyperparameters.save(tmp_path, Hyperparameters(popular_half_life=1.0))
    run("top_popular", tmp_path)
    assert [row[0] for row in rows(tables.TOP_POPULAR, tmp_path)] == [*by_tie([9, 20]), 5]


def test_implicit_loads_the_model_and_recommends_the_same(board):
    with threadpool_limits(limits=1, user_api="blas"):  # else implicit warns
        model = AlternatingLeastSquares.load(str(board / ALS_MODEL))
    pairs = listens.load(board).pairs()
    items, scores = model.recommend(np.arange(N), pairs, N=11, filter_already_liked_items=True)
    ours: dict[int, dict[int, float]] = {user: {} for user in range(N)}
    for user, item, _, score in rows(tables.PERSONAL_ALS, board):
        ours[user][item] = score
    for user in range(N):
        theirs = dict(zip(items[user].tolist(), scores[user].tolist(), strict=True))
        assert_same_ranking(ours[user], theirs, tolerance=1e-5)


def test_implicit_recalculates_a_user_as_it_is_folded_in(board):
    with threadpool_limits(limits=1, user_api="blas"):
        model = AlternatingLeastSquares.load(str(board / ALS_MODEL))
    pairs, items, s = listens.load(board).pairs(), model.item_factors, hyperparameters.load(board)
    penalty = s.als_regularization, s.als_unobserved, s.als_exponent
    ours = fold_in(pairs, items, items.T @ items, *penalty)  # every user has as many plays
    theirs = model.recalculate_user(np.arange(N), pairs)
    np.testing.assert_allclose(theirs, ours, atol=2e-3)  # penalties differ by up to 5 %


def test_training_on_all_the_data_goes_on_where_the_report_window_ended(board, tmp_path):
    save_listens(tmp_path, CHECKERBOARD)
    hyperparameters.save(tmp_path, Hyperparameters(als_factors=8))
    window = tmp_path / "windows" / "test"
    window.mkdir(parents=True)
    factors = [als_model.item_factors(board)]
    for _ in range(3):
        np.savez(window / ALS_MODEL, item_factors=factors[-1])
        run("train_als", tmp_path)
        factors.append(als_model.item_factors(tmp_path))
    moves = [np.abs(after - before).max() for before, after in pairwise(factors)]
    assert moves[2] < moves[0] < np.abs(factors[0]).max() / 8
    np.savez(window / ALS_MODEL, item_factors=factors[0][:, :4])  # other settings
    run("train_als", tmp_path)
    assert np.array_equal(als_model.item_factors(tmp_path), factors[0])


def test_a_track_without_a_listen_has_a_zero_vector(tmp_path):
    save_listens(tmp_path, CHECKERBOARD, tracks=[99, 100])
    hyperparameters.save(tmp_path, Hyperparameters(als_factors=8))
    run("train_als", tmp_path)
    users, items = als_model.load(tmp_path, (N, N + 2))
    assert users.any(axis=1).all()
    assert items.any(axis=1).tolist() == [True] * N + [False] * 2


def test_users_of_a_colour_get_the_track_of_their_colour_that_they_lack(board):
    assert {user: own[0] for user, own in lists(tables.PERSONAL_ALS, board).items()} == {
        user: user for user in range(N)
    }


def test_a_personal_list_has_100_tracks_or_as_many_as_exist_none_of_them_heard(tmp_path):
    played = [(1, 0, 0), (2, 1, 0), *((3, t, 0) for t in range(130))]
    save_listens(tmp_path, played, tracks=range(150))
    items = [[150.0 - t, 0] for t in range(140)] + [[0, 0]] * 10  # the last ten are unknown to it
    saved_model(tmp_path, [[1, 0], [0, 0], [1, 1]], items)
    run("personal_als", tmp_path)
    found = lists(tables.PERSONAL_ALS, tmp_path)
    assert found == {1: list(range(1, 101)), 3: list(range(130, 140))}  # user 2's vector is zero


def test_heard_tracks_may_come_back_where_the_settings_include_them(tmp_path):
    save_listens(tmp_path, [(1, 10, 0), (1, 30, 1), (2, 20, 0)])
    saved_model(tmp_path, [[1, 0], [0, 1]], [[3, 1], [2, 2], [1, 3]])
    for heard, expected in (
        ("exclude", {1: [20], 2: [30, 10]}),
        ("include", {1: [10, 20, 30], 2: [30, 20, 10]}),
    ):
        hyperparameters.save(tmp_path, Hyperparameters(heard=heard))
        run("personal_als", tmp_path)
        assert lists(tables.PERSONAL_ALS, tmp_path) == expected


def test_with_a_half_life_the_latest_plays_weigh_most(tmp_path):
    plays = [*((1, 10, day) for day in range(5)), (1, 20, 5)]
    save_listens(tmp_path, plays, tracks=[11, 21])
    saved_model(tmp_path, [[5, 1]], [[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    for half_life, expected in ((None, [11, 21]), (0.5, [21, 11])):
        hyperparameters.save(tmp_path, Hyperparameters(als_half_life=half_life))
        run("personal_als", tmp_path)
        assert lists(tables.PERSONAL_ALS, tmp_path) == {1: expected}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "als_model.npz is missing"),
        (b"PK not an archive", "is not a complete ALS model"),
        ([[1.0]] * 3, "has 3 users and 2 tracks, but the data has 2 users and 2"),
    ],
)
def test_a_model_that_is_not_of_this_data_is_an_error(content, says, tmp_path):
    save_listens(tmp_path, [(1, 10, 0), (2, 20, 0)])
    if isinstance(content, bytes):
        (tmp_path / ALS_MODEL).write_bytes(content)
    elif content:
        saved_model(tmp_path, content, [[1.0]] * 2)
    for job in ("personal_als", "similar"):
        with pytest.raises(JobError, match=rf"{says}.*: run python -m jobs.train_als --work"):
            run(job, tmp_path)


def test_neighbours_are_in_the_order_of_cosines_and_never_the_track_itself(tmp_path):
    save_listens(tmp_path, [(1, 10, 0)], tracks=[20, 30, 40, 50])
    # At 0, 45 and 90 degrees whatever the lengths, one unknown, one opposite to the first. The
    # lengths are powers of two, so that equal cosines are equal to the last bit.
    saved_model(tmp_path, [[1, 0]], [[1, 0], [8, 8], [0, 0.125], [0, 0], [-2, 0]])
    run("similar", tmp_path)
    half, away = pytest.approx(0.5**0.5), pytest.approx(-(0.5**0.5))
    assert rows(tables.SIMILAR, tmp_path) == [
        (10, 20, 1, half), (10, 30, 2, 0), (10, 50, 3, -1),
        (20, 10, 1, half), (20, 30, 2, half), (20, 50, 3, away),
        (30, 20, 1, half), (30, 10, 2, 0), (30, 50, 3, 0),
        (50, 30, 1, 0), (50, 20, 2, away), (50, 10, 3, -1),
    ]  # fmt: skip


def test_the_nearest_tracks_are_those_of_the_same_colour(board):
    for track, near in lists(tables.SIMILAR, board).items():
        assert len(near) == N - 1
        assert {other % COLOURS for other in near[: N // COLOURS - 1]} == {track % COLOURS}


def test_what_follows_counts_less_with_every_step_between(tmp_path):
    a, b, c = 10, 20, 30
    save_listens(tmp_path, [(1, a, 0), (1, b, 1), (1, c, 2), (2, a, 0), (2, b, 1)])
    hyperparameters.save(
        tmp_path,
        Hyperparameters(next_decay=0.5, next_source_exponent=0.0, next_target_exponent=0.0),
    )
    run("next_played", tmp_path)
    assert rows(tables.NEXT_PLAYED, tmp_path) == [(a, b, 1, 2), (a, c, 2, 0.5), (b, c, 1, 1)]


def test_counts_are_divided_by_powers_of_how_often_both_tracks_are_played(tmp_path):
    a, b, c = 10, 20, 30
    save_listens(tmp_path, [(1, a, 0), (1, b, 1), (1, c, 2), (2, a, 0), (2, b, 1)])
    hyperparameters.save(
        tmp_path,
        Hyperparameters(next_decay=0.5, next_source_exponent=1.0, next_target_exponent=3.0),
    )
    run("next_played", tmp_path)
    assert rows(tables.NEXT_PLAYED, tmp_path) == [
        (a, c, 1, pytest.approx(0.5 / 2.5)),
        (a, b, 2, pytest.approx(2 / 2.5 / 8)),
        (b, c, 1, 1),
    ]


def test_nothing_follows_itself_or_from_another_user_or_from_beyond_the_window(tmp_path):
    plays = [(1, 10, 0), (1, 10, 1), (1, 20, 2), (1, 30, 3), (1, 40, 4), (2, 50, 5)]
    save_listens(tmp_path, plays)
    hyperparameters.save(tmp_path, Hyperparameters(next_window=2))
    run("next_played", tmp_path)
    assert {track: set(after) for track, after in lists(tables.NEXT_PLAYED, tmp_path).items()} == {
        10: {20, 30},
        20: {30, 40},
        30: {40},
    }


def test_a_track_is_followed_by_at_most_100(tmp_path):
    plays = [(user, track, day) for user in range(120) for day, track in enumerate((500, user))]
    save_listens(tmp_path, plays)
    run("next_played", tmp_path)
    [(track, following)] = lists(tables.NEXT_PLAYED, tmp_path).items()
    assert track == 500
    assert len({*following}) == 100
    assert {*following} < {*range(120)}


@pytest.mark.parametrize("job", ["top_popular", "train_als", "next_played"])
def test_a_job_without_its_input_names_the_job_to_run(job, tmp_path):
    with pytest.raises(JobError, match=r"is missing: run python -m jobs.prepare --work"):
        run(job, tmp_path)
    assert not list(tmp_path.iterdir())


def test_files_of_different_runs_are_not_mixed(tmp_path):
    save_listens(tmp_path, [(1, 10, 0), (2, 20, 0)])
    users = tables.read(tables.USERS, tmp_path)
    tables.write(tables.USERS, tmp_path, users.slice(1))
    with pytest.raises(
        JobError, match=r"has a user_id that the other files in the folder do not have"
    ):
        run("top_popular", tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"als_factor": 3}, r"unknown settings \['als_factor'\]"),
        ({"als_factors": "many"}, r"Expected `int`, got `str` - at `\$.als_factors`"),
        ({"heard": "maybe"}, "Invalid enum value 'maybe'"),
    ],
)
def test_settings_that_cannot_be_used_are_an_error(content, says, tmp_path):
    save_listens(tmp_path, [(1, 10, 0)])
    storage.write_json(tmp_path / "settings.json", content)
    with pytest.raises(JobError, match=says):
        run("top_popular", tmp_path)


@given(
    st.lists(st.integers(0, 300) | st.integers(2**40, 2**53 - 1), unique=True, max_size=40),
    st.lists(st.integers(0, 300) | st.integers(2**40, 2**53 - 1), max_size=40),
)
def test_ids_are_found_where_they_stand_however_far_apart_they_are(known, others):
    known.sort()
    ids = np.array([*known, *others], np.int64)
    expected = [known.index(i) if i in known else MISSING for i in ids.tolist()]
    assert Encoder.of(np.array(known, np.int64)).positions(ids).tolist() == expected
