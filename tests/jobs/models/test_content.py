"""Tracks without a listen get vectors from what is known of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from jobs.models import content
from jobs.models.content import Prediction

ARTISTS, GENRES, D = 6, 4, 5


@st.composite
def catalogues(draw):
    """Vectors (items, d) with zero rows for unplayed tracks, and artists and genres of tracks."""
    seed = draw(st.integers(0, 2**32 - 1))
    n = draw(st.integers(0, 40))
    rng = np.random.default_rng(seed)
    artists = (rng.random((n, ARTISTS)) < draw(st.sampled_from([0, 0.2, 0.6]))).astype(np.float32)
    genres = (rng.random((n, GENRES)) < draw(st.sampled_from([0, 0.3, 0.9]))).astype(np.float32)
    factors = artists @ rng.normal(size=(ARTISTS, D)) + genres @ rng.normal(size=(GENRES, D))
    factors = (factors + 0.3 * rng.normal(size=(n, D))).astype(np.float32)
    factors[rng.random(n) < draw(st.sampled_from([0, 0.3, 1]))] = 0
    return factors, csr_matrix(artists), csr_matrix(genres)


def predicted(factors, artists, genres) -> Prediction:
    return content.predict(factors, factors.any(axis=1), artists, genres)


@given(catalogues())
def test_only_unplayed_tracks_of_which_something_is_known_get_a_vector(catalogue):
    factors, artists, genres = catalogue
    found = predicted(*catalogue)
    assert len(found.items) == len(found.vectors) == len(found.certainty)
    assert (np.diff(found.items) > 0).all()
    assert not factors[found.items].any()
    assert np.isfinite(found.vectors).all()
    assert ((found.certainty >= content.LEAST_CERTAINTY) & (found.certainty <= 1)).all()
    played = factors.any(axis=1)
    shared = artists @ artists[played].sum(axis=0).T + genres @ genres[played].sum(axis=0).T
    assert (np.asarray(shared).ravel()[found.items] > 0).all()


@given(catalogues(), st.randoms(use_true_random=False))
def test_the_order_of_the_tracks_does_not_matter(catalogue, random):
    factors, artists, genres = catalogue
    order = np.array(random.sample(range(len(factors)), len(factors)), np.int64)
    one, other = predicted(*catalogue), predicted(factors[order], artists[order], genres[order])
    where = np.argsort(order)  # of each track in the other order
    vectors = np.zeros_like(factors)
    vectors[other.items] = other.vectors
    assert set(where[one.items]) == set(other.items)
    np.testing.assert_allclose(vectors[where[one.items]], one.vectors, atol=2e-3)


def test_a_new_track_is_like_the_other_tracks_of_its_artist():
    rng = np.random.default_rng(1)
    taste = rng.normal(size=(10, 8)).astype(np.float32)  # of each artist
    artist = np.arange(200) % 10
    factors = taste[artist] + 0.1 * rng.normal(size=(200, 8)).astype(np.float32)
    factors[-20:] = 0
    by_artist = csr_matrix((np.ones(200), (np.arange(200), artist)), dtype=np.float32)
    found = predicted(factors, by_artist, csr_matrix((200, 1), dtype=np.float32))
    assert found.items.tolist() == list(range(180, 200))
    np.testing.assert_allclose(found.vectors, taste[artist[-20:]], atol=0.3)
    assert (found.certainty > 0.95).all()


def test_where_content_says_nothing_the_predictions_are_not_used():
    rng = np.random.default_rng(2)
    factors = rng.normal(size=(300, 16)).astype(np.float32)
    factors[-20:] = 0
    genre = csr_matrix((np.ones(300), (np.arange(300), rng.integers(3, size=300))))
    found = predicted(factors, csr_matrix((300, 1)), csr_matrix(genre, dtype=np.float32))
    assert not len(found.items) or (found.certainty < 0.2).all()


@pytest.mark.parametrize("played", [[], [0, 1, 2]])
def test_without_played_or_without_unplayed_tracks_there_is_nothing_to_predict(played):
    factors = np.zeros((3, 4), np.float32)
    factors[played] = 1
    every = csr_matrix(np.ones((3, 1), np.float32))
    assert not len(predicted(factors, every, every).items)
