"""Read als_model.npz, and fold users in so that their latest plays weigh most."""

from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np
from msgspec import UNSET
from scipy.sparse import csr_matrix

from jobs.contract import compiling
from jobs.contract.fold_in import FoldInModel, fold_in, on_ladder, row_penalties
from jobs.contract.ids import Ties
from jobs.contract.names import ALS_MODEL
from jobs.contract.storage import JobError
from jobs.contract.top_k import NormOrder
from jobs.data.listens import Listens
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.sparse import arrays

CERTAINTY = "item_certainty"  # the array of the model file


def load(work: Path, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the user factors (users, d) and the item factors (items, d) of WORK's model.

    shape is (users, items) of the data. Raises JobError if the model is missing, damaged, or of
    another shape.
    """
    users, items = _read(work, "user_factors"), _read(work, "item_factors")
    if (len(users), len(items)) != shape:
        raise JobError(
            f"{work / ALS_MODEL} has {len(users):,} users and {len(items):,} tracks, but the data "
            f"has {shape[0]:,} users and {shape[1]:,} tracks: {_how_to_train(work)}"
        )
    return users, items


def _read(work: Path, name: str) -> np.ndarray:
    """Return one array of WORK's model file; JobError says what is wrong with the file."""
    path = work / ALS_MODEL
    try:
        with np.load(path) as model:
            factors: np.ndarray = model[name]
    except FileNotFoundError:
        raise JobError(f"{path} is missing: {_how_to_train(work)}") from None
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise JobError(
            f"{path} is not a complete ALS model ({error}): {_how_to_train(work)}"
        ) from None
    return factors


def certainty(work: Path) -> np.ndarray:
    """Return how much each track's vector says, (items,) float32, of WORK's model.

    It is 1 for a played track, less for a track whose vector was predicted from its content, and 0
    where the vector is zero (see models/content). Models that were made before there were
    predictions have vectors of played tracks only.
    """
    with np.load(work / ALS_MODEL) as model:
        if CERTAINTY not in model:
            return is_known(item_factors(work)).astype(np.float32)
    return _read(work, CERTAINTY)


def is_known(factors: np.ndarray) -> np.ndarray:
    """Return which rows of factors (n, d) are not zero, (n,) bool."""
    known: np.ndarray = factors.any(axis=1)  # type: ignore[assignment]
    return known


def append_certainty(file: BinaryIO, known: np.ndarray) -> None:
    """Add the certainty (items,) to a model that implicit has written into an open file."""
    with ZipFile(file, "a") as archive, archive.open(f"{CERTAINTY}.npy", "w") as entry:
        np.lib.format.write_array(entry, known)


def gram(items: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the product (d, d) of the vectors of played tracks with themselves.

    items (items, d) are the item factors, and known (items,) is their certainty. A user's vector is
    trained against played tracks only, so predicted vectors are left out.
    """
    played = known == 1
    if not played.all() and items[~played].any():
        items = items[played]
    result: np.ndarray = items.T @ items
    return result


def item_factors(work: Path) -> np.ndarray:
    """Return the item factors (items, d) of WORK's model; see load for errors."""
    return _read(work, "item_factors")


def _how_to_train(work: Path) -> str:
    return f"run python -m jobs.train_als --work {work}"


def load_model(work: Path, hyperparameters: Hyperparameters, ties: Ties) -> FoldInModel:
    """Read WORK's model in the form in which the service folds users in."""
    items = item_factors(work)
    return fold_in_model(items, gram(items, certainty(work)), hyperparameters, ties)


def fold_in_model(
    items: np.ndarray, of_played: np.ndarray, hyperparameters: Hyperparameters, ties: Ties | None
) -> FoldInModel:
    """Return item factors (items, d) in the form in which the service folds users in.

    of_played (d, d) is their gram matrix.
    """
    return FoldInModel(
        NormOrder.of(items, ties),
        of_played,
        hyperparameters.als_regularization,
        hyperparameters.als_unobserved,
        hyperparameters.als_exponent,
        hyperparameters.als_repeats,
        hyperparameters.als_half_life,
    )


def pair_weights(
    data: Listens,
    hyperparameters: Hyperparameters,
    plays: float | None = None,
    days: float | None = None,
    most: int | None = None,
) -> csr_matrix:
    """Return how much each pair of a user and a track tells, (users, items) float32.

    It is what Listens.weights returns for these plays and days, and for at most so many listens of
    a pair. With als_by_share the weight of a pair is multiplied by the mean share of the track that
    was played. A like that has not been taken back adds als_like_weight, also where the user has
    not played the track.
    """
    by_share, like = hyperparameters.als_by_share is True, hyperparameters.als_like_weight
    weights = data.weights(hyperparameters.als_repeats, plays, days, most, by_share)
    if data.liked is None or like is UNSET or not like:
        return weights
    return csr_matrix(weights + np.float32(like) * data.liked)


def recent_tastes(
    block: Listens, items: np.ndarray, gram: np.ndarray, hyperparameters: Hyperparameters
) -> np.ndarray:
    """Return the vectors (users, d) of a block of users, from plays that fade by als_half_life.

    items (items, d) are the item factors, and gram (d, d) is that of the function gram. Without
    als_half_life and als_recency these are the vectors that training ends with, so that callers
    can take those instead (see Hyperparameters.folds_in).
    """
    weights = pair_weights(block, hyperparameters, hyperparameters.als_half_life)
    regularization = hyperparameters.als_regularization
    unobserved, exponent = hyperparameters.als_unobserved, hyperparameters.als_exponent
    if not compiling.is_used():
        return fold_in(weights, items, gram, regularization, unobserved, exponent)
    from jobs.models import als_kernels

    total = np.asarray(weights.sum(axis=1)).ravel()
    penalty = row_penalties(total, weights.shape[1], regularization, unobserved, exponent)
    starts, at, values = arrays(weights)
    result = np.zeros((len(starts) - 1, len(gram)), np.float32)
    extra, penalty = values / np.float32(unobserved), on_ladder(penalty).astype(np.float32)
    als_kernels.fold_in(starts, at, extra, penalty, items, gram, result)
    return result
