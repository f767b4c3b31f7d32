"""Reading of als_model.npz, and the users' vectors with the latest plays weighing most."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from jobs import contract
from jobs.contract import JobError
from jobs.listens import Listens
from jobs.retrieval import fold_in
from jobs.settings import Settings


def load(work: Path, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """User (users, d) and item (items, d) factors of WORK's model, which must be of that shape."""
    path = work / contract.ALS_MODEL
    again = f"run python -m jobs.train_als --work {work}"
    try:
        with np.load(path) as model:
            users, items = model["user_factors"], model["item_factors"]
    except FileNotFoundError:
        raise JobError(f"{path} is missing: {again}") from None
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise JobError(f"{path} is no whole ALS model ({error}): {again}") from None
    if (len(users), len(items)) != shape:
        found, expected = f"{len(users):,} users × {len(items):,}", f"{shape[0]:,} × {shape[1]:,}"
        raise JobError(f"{path} is of {found} tracks, the data of {expected}: {again}")
    return users, items


def recent_tastes(
    block: Listens, items: np.ndarray, gram: np.ndarray, chosen: Settings
) -> np.ndarray:
    """(users, d) vectors of a block of users, folded in with plays that fade by als_half_life.

    Without a half-life and als_recency it is the model that was trained.

    items (items, d) are the item factors, gram their own product (d, d).
    """
    return fold_in(
        block.weights(chosen.als_repeats, chosen.als_half_life),
        items,
        gram,
        chosen.als_regularization,
        chosen.als_unobserved,
        chosen.als_exponent,
    )
