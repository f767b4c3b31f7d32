"""Read als_model.npz, and fold users in so that their latest plays weigh most."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from jobs.contract.fold_in import FoldInModel, fold_in
from jobs.contract.names import ALS_MODEL
from jobs.contract.storage import JobError
from jobs.contract.top_k import NormOrder
from jobs.data.listens import Listens
from jobs.models.hyperparameters import Hyperparameters


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


def item_factors(work: Path) -> np.ndarray:
    """Return the item factors (items, d) of WORK's model; see load for errors."""
    return _read(work, "item_factors")


def _how_to_train(work: Path) -> str:
    return f"run python -m jobs.train_als --work {work}"


def load_model(work: Path, hyperparameters: Hyperparameters) -> FoldInModel:
    """Read WORK's model in the form in which the service folds users in."""
    return fold_in_model(item_factors(work), hyperparameters)


def fold_in_model(items: np.ndarray, hyperparameters: Hyperparameters) -> FoldInModel:
    """Return item factors (items, d) in the form in which the service folds users in."""
    return FoldInModel(
        NormOrder.of(items),
        items.T @ items,
        hyperparameters.als_regularization,
        hyperparameters.als_unobserved,
        hyperparameters.als_exponent,
        hyperparameters.als_repeats,
        hyperparameters.als_half_life,
    )


def recent_tastes(
    block: Listens, items: np.ndarray, gram: np.ndarray, hyperparameters: Hyperparameters
) -> np.ndarray:
    """Return the vectors (users, d) of a block of users, from plays that fade by als_half_life.

    items (items, d) are the item factors, and gram (d, d) is items.T @ items. Without
    als_half_life and als_recency these are the vectors that training ends with, so that callers
    can take those instead (see Hyperparameters.folds_in).
    """
    return fold_in(
        block.weights(hyperparameters.als_repeats, hyperparameters.als_half_life),
        items,
        gram,
        hyperparameters.als_regularization,
        hyperparameters.als_unobserved,
        hyperparameters.als_exponent,
    )
