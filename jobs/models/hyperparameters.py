"""The settings of a run: their defaults, and reading and writing WORK/settings.json."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jobs.contract import storage
from jobs.contract.names import SETTINGS

Positive = Annotated[float, Meta(gt=0)]


Power = Annotated[float, Meta(ge=0, le=10)]


HalfLife = Annotated[float, Meta(gt=0)] | None


@dataclass(frozen=True)
class Hyperparameters:
    """Every choice that depends on the data, as jobs.tune makes it.

    A half-life is the age at which a listen counts half, in days or in later plays of the same
    user; None means that a listen counts the same at any age.
    """

    heard: Literal["exclude", "include"] = "exclude"  # may heard tracks be recommended
    popular_half_life: HalfLife = None  # days, in the top list
    als_factors: Annotated[int, Meta(ge=1, le=1024)] = 128  # length of a vector
    als_regularization: Positive = 0.01  # lambda of fold_in.row_penalties
    als_unobserved: Positive = 0.05  # weight of a track not played; a played one has 1 or more
    als_exponent: Power = 1.0  # power of a row's listens by which its penalty grows
    als_epochs: Annotated[int, Meta(ge=1, le=1000)] = 10
    als_repeats: Power = 0.0  # a pair weighs its number of plays to this power; at 0 it weighs 1
    als_recency: HalfLife = None  # days, in training
    als_half_life: HalfLife = None  # plays, when a user is folded in
    # UNSET where the data has no likes, or no shares that were played: see data/kinds
    als_like_weight: Annotated[float, Meta(ge=0, le=1000)] | UnsetType = UNSET  # of a like
    als_by_share: bool | UnsetType = UNSET  # does a pair weigh less if less was played
    next_window: Annotated[int, Meta(ge=1, le=1000)] = 20  # plays after a track that follow it
    next_decay: Annotated[float, Meta(gt=0, le=1)] = 0.9  # factor for each further play in between
    next_recency: HalfLife = None  # days, when followers are counted
    next_source_exponent: Power = 0.5  # power of the first track's weight that divides a count
    next_target_exponent: Power = 0.3  # power of the next track's plays that divides a count
    next_half_life: HalfLife = 8.0  # plays, in the generator "next_played"
    similar_half_life: HalfLife = 64.0  # plays, in the generators "similar" and "artist"
    own_half_life: HalfLife = 64.0  # plays, in the generator "replayed"

    def values(self) -> dict[str, Any]:
        """Return the values by name, without those that are UNSET."""
        return {name: value for name, value in vars(self).items() if value is not UNSET}

    @property
    def folds_in(self) -> bool:
        """Return whether users are folded in from fading plays, or keep their trained vectors."""
        return self.als_half_life is not None or self.als_recency is not None


def load(work: Path) -> Hyperparameters:
    """Return the folder's settings.json, or the defaults if there is none.

    Raises JobError if the file has an unknown setting or a value that is not allowed.
    """
    path = work / SETTINGS
    if not path.exists():
        return Hyperparameters()
    content = storage.read_json(path, made_by="jobs.tune")
    known = {field.name for field in dataclasses.fields(Hyperparameters)}
    if unknown := sorted(set(content) - known):
        raise storage.JobError(
            f"{path} has the unknown settings {unknown}: remove them, or run python -m jobs.tune; "
            f"the known ones are {sorted(known)}"
        )
    try:
        return msgspec.convert(content, Hyperparameters)
    except msgspec.ValidationError as error:
        raise storage.JobError(
            f"{path} can't be used ({error}): correct the value, or run python -m jobs.tune"
        ) from None


def save(work: Path, settings: Hyperparameters) -> None:
    """Write the folder's settings.json."""
    storage.write_json(work / SETTINGS, settings.values())
