"""Predict the vectors of tracks that nobody has played, from their artists and genres.

ALS knows a track only by who played it, so a track without a listen gets a zero vector from it and
could never be recommended. What is known of such a track is its content. The vectors of the played
tracks tell what content means: the prediction for a track is what its genres add up to, by a ridge
regression of the played tracks' vectors, plus what is special to its artists:

    genre Rock: (1, 0)    genre Live: (0, 1)          by the regression
    artist A: played tracks Rock (1.5, 0), Rock (1.7, 0), so (0.6, 0) on average above Rock
    a new track by A, Rock and Live: (1, 0) + (0, 1) + 2 / (2 + k) * (0.6, 0)

An artist with few played tracks tells little, so their part is shrunk by n / (n + k), as in
empirical Bayes estimates; k is the step of a ladder that predicts played tracks best, each from the
other tracks of its artists.

To map attributes to factors is the idea of Gantner, Drumond, Freudenthaler, Rendle and
Schmidt-Thieme, "Learning Attribute-to-Feature Mappings for Cold-Start Recommendations" (2010), who
do it by nearest neighbours and by gradient descent.

A prediction is an average, and averages lie nearer to every track than tracks lie to each other.
`certainty` corrects for this where cosines are compared: it is the mean cosine of predictions for
played tracks with their real vectors, by which a new track's cosines are multiplied.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags_array, hstack

MOST_GENRES = 1_000  # the most frequent ones are used; the regression solves for so many unknowns
RIDGE = 10.0  # tracks that a genre must have for its part to be trusted by half
SHRINKAGE = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # values of k that are tried
SAMPLE = 20_000  # played tracks on which k and the certainties are measured
LEAST_CERTAINTY = 0.05  # predictions that say less than this are not used
SEED = 20


@dataclass(frozen=True)
class Prediction:
    """Vectors of unplayed tracks, and how near such predictions are to real vectors.

    items (m,) int32, ascending; vectors (m, d) float32; certainty (m,) float32, 0 to 1.
    """

    items: np.ndarray
    vectors: np.ndarray
    certainty: np.ndarray


def predict(
    factors: np.ndarray, played: np.ndarray, artists: csr_matrix, genres: csr_matrix
) -> Prediction:
    """Return predictions for the unplayed tracks that have a played artist or a genre.

    factors (items, d) are the vectors of ALS, zero where `played` (items,) is False. artists
    (items, artists) and genres (items, genres) are 1 where the track has the artist or the genre.

    >>> factors = np.array([[1, 0], [1.2, 0], [0, 2], [0, 0], [0, 0]], np.float32)
    >>> artists = csr_matrix(np.array([[1, 0], [1, 0], [0, 1], [1, 0], [0, 0]], np.float32))
    >>> found = predict(factors, factors.any(axis=1), artists, csr_matrix((5, 1)))
    >>> found.items.tolist()  # track 4 has neither an artist nor a genre
    [3]
    """
    known = np.flatnonzero(played)
    unknown = np.flatnonzero(~played)
    nothing = Prediction(
        np.empty(0, np.int32),
        np.empty((0, factors.shape[1]), np.float32),
        np.empty(0, np.float32),
    )
    if not len(known) or not len(unknown):
        return nothing
    traits = _traits(genres, known)
    weights = _regression(traits[known], factors[known])
    artists = _averaging(artists)
    by_artist = csr_matrix(diags_array(played.astype(np.float32)) @ artists).T.tocsr()
    count = np.asarray((by_artist > 0).sum(axis=1)).ravel()  # played tracks of each artist
    special = by_artist @ factors - (by_artist @ traits) @ weights
    size = np.asarray(by_artist.sum(axis=1)).ravel()  # the same, where a shared track counts less
    k, with_artist, without = _measure(
        factors, traits, weights, artists, special, size, count, known
    )
    own = artists[unknown]
    has_artist = np.asarray(own @ (count > 0).astype(np.float32)).ravel() > 0
    has_genre = traits[unknown].getnnz(axis=1) > 1  # beside the constant
    by_genre = np.where(has_genre, without, 0)
    certainty = np.where(has_artist, with_artist, by_genre).astype(np.float32)
    kept = certainty >= LEAST_CERTAINTY
    rows = unknown[kept]
    effect = special / (size + k)[:, None]
    vectors = traits[rows] @ weights + artists[rows] @ effect
    return Prediction(rows.astype(np.int32), vectors.astype(np.float32), certainty[kept])


def _traits(genres: csr_matrix, known: np.ndarray) -> csr_matrix:
    """Return the genres that played tracks have most often, and a constant, (items, g + 1)."""
    often = np.asarray(genres[known].sum(axis=0)).ravel()
    used = np.sort(np.argsort(-often, kind="stable")[:MOST_GENRES])
    used = used[often[used] > 0]
    constant = csr_matrix(np.ones((genres.shape[0], 1), np.float32))
    return csr_matrix(hstack([genres[:, used], constant], format="csr", dtype=np.float32))


def _regression(traits: csr_matrix, vectors: np.ndarray) -> np.ndarray:
    """Return what each trait adds to a vector, (traits, d) float32, by ridge regression.

    The constant, which is the last trait, is not shrunk.
    """
    gram = (traits.T @ traits).toarray().astype(np.float64)
    gram[np.arange(len(gram) - 1), np.arange(len(gram) - 1)] += RIDGE
    weights: np.ndarray = np.linalg.solve(gram, (traits.T @ vectors).astype(np.float64))
    return weights.astype(np.float32)


def _averaging(artists: csr_matrix) -> csr_matrix:
    """Return (items, artists) float32 that gives each artist of a track an equal share of 1."""
    share = 1 / np.maximum(np.diff(artists.indptr), 1)
    return csr_matrix(diags_array(share.astype(np.float32)) @ artists)


def _measure(
    factors: np.ndarray,
    traits: csr_matrix,
    weights: np.ndarray,
    artists: csr_matrix,
    special: np.ndarray,
    size: np.ndarray,
    count: np.ndarray,
    known: np.ndarray,
) -> tuple[float, float, float]:
    """Return the best k, and the certainty with and without an artist who has played tracks.

    They are measured on a sample of the played tracks. Each is predicted from the other tracks of
    its artists, that is, from the sums without its own part.
    """
    rows = known
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(SEED).permutation(known)[:SAMPLE])
    real, by_genres, share = factors[rows], traits[rows] @ weights, artists[rows]
    without = _mean_cosine(by_genres, real) if traits.shape[1] > 1 else 0.0
    others = np.asarray(share @ (count > 1).astype(np.float32)).ravel() > 0
    if not others.any():
        return SHRINKAGE[0], without, without
    real, by_genres, share = real[others], by_genres[others], share[others]
    row = np.repeat(np.arange(len(real)), np.diff(share.indptr))
    artist, part = share.indices, share.data[:, None]
    residual = (real - by_genres)[row] * part
    rest, rest_size = special[artist] - residual, size[artist] - share.data
    results = []
    for k in SHRINKAGE:
        effects = part * rest / (rest_size + k)[:, None]
        predicted = (
            by_genres
            + csr_matrix((np.ones(len(row), np.float32), np.arange(len(row)), share.indptr))
            @ effects
        )
        results.append((float(np.square(real - predicted).sum()), k, _mean_cosine(predicted, real)))
    _, k, certainty = min(results)
    return k, certainty, without


def _mean_cosine(left: np.ndarray, right: np.ndarray) -> float:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.einsum("nd,nd->n", left, right) / np.maximum(lengths, 1e-12)
    return float(np.clip(cosines.mean(), 0, 1)) if len(cosines) else 0.0
