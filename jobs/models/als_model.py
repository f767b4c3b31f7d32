"""Reading of als_model.npz, and the users' vectors with the latest plays weighing most."""

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
    """User (users, d) and item (items, d) factors of WORK's model, which must be of that shape."""
    users, items = _read(work, "user_factors"), _read(work, "item_factors")
    if (len(users), len(items)) != shape:
        found, expected = f"{len(users):,} users × {len(items):,}", f"{shape[0]:,} × {shape[1]:,}"
        raise JobError(
            f"{work / ALS_MODEL} is of {found} tracks, the data of {expected}: {_again(work)}"
        )
    return users, items


def _read(work: Path, name: str) -> np.ndarray:
    path = work / ALS_MODEL
    try:
        with np.load(path) as model:
            factors: np.ndarray = model[name]
    except FileNotFoundError:
        raise JobError(f"{path} is missing: {_again(work)}") from None
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise JobError(f"{path} is no whole ALS model ({error}): {_again(work)}") from None
    return factors


def item_factors(work: Path) -> np.ndarray:
    """(items, d): the item factors of WORK's model."""
    return _read(work, "item_factors")


def _again(work: Path) -> str:
    return f"run python -m jobs.train_als --work {work}"


def load_model(work: Path, chosen: Hyperparameters) -> FoldInModel:
    """WORK's model as users are folded in with it."""
    return fold_in_model(item_factors(work), chosen)


def fold_in_model(items: np.ndarray, chosen: Hyperparameters) -> FoldInModel:
    """The model of item factors (items, d) as users are folded in with it."""
    return FoldInModel(
        NormOrder.of(items),
        items.T @ items,
        chosen.als_regularization,
        chosen.als_unobserved,
        chosen.als_exponent,
        chosen.als_repeats,
        chosen.als_half_life,
    )


def recent_tastes(
    block: Listens, items: np.ndarray, gram: np.ndarray, chosen: Hyperparameters
) -> np.ndarray:
    """(users, d) vectors of a block of users, folded in with plays that fade by als_half_life.

    Without a half-life and als_recency it is the model that was trained. items (items, d) are
    the item factors, gram their own product (d, d).
    """
    return fold_in(
        block.weights(chosen.als_repeats, chosen.als_half_life),
        items,
        gram,
        chosen.als_regularization,
        chosen.als_unobserved,
        chosen.als_exponent,
    )
