"""The settings of a run: the defaults, and what jobs.tune wrote into WORK/settings.json."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from jobs.contract import storage
from jobs.contract.names import SETTINGS

Positive = Annotated[float, Meta(gt=0)]


Power = Annotated[float, Meta(ge=0, le=10)]


HalfLife = Annotated[float, Meta(gt=0)] | None


@dataclass(frozen=True)
class Hyperparameters:
    """Every choice that depends on the data; a half-life of None means that nothing fades."""

    heard: Literal["exclude", "include"] = "exclude"  # may a track already heard be recommended
    popular_half_life: HalfLife = None  # days after which a listen counts half
    als_factors: Annotated[int, Meta(ge=1, le=1024)] = 128
    als_regularization: Positive = 0.01
    als_unobserved: Positive = 0.05  # weight of a track not played, against 1 for a played one
    als_exponent: Power = 1.0  # how the penalty grows with a row's number of listens
    als_epochs: Annotated[int, Meta(ge=1, le=1000)] = 10
    als_repeats: Power = 0.0  # power of a pair's plays that is its weight: 0 counts them as one
    als_recency: HalfLife = None  # days after which a listen counts half in training
    als_half_life: HalfLife = None  # plays after which a user's listen counts half, folded in
    next_window: Annotated[int, Meta(ge=1, le=1000)] = (
        20  # plays between a track and what still counts as played next
    )
    next_decay: Annotated[float, Meta(gt=0, le=1)] = (
        0.9  # weight lost with each further play inside that window
    )
    next_recency: HalfLife = None  # days after which a listen counts half
    next_source_exponent: Power = 0.5  # division by how often the first track is played
    next_target_exponent: Power = 0.3  # division by how often the next track is played
    next_half_life: HalfLife = 8.0  # plays, as als_half_life
    similar_half_life: HalfLife = 64.0
    own_half_life: HalfLife = 64.0

    @property
    def folds_in(self) -> bool:
        """Whether users are folded in with fading plays, instead of taken as trained."""
        return self.als_half_life is not None or self.als_recency is not None


def load(work: Path) -> Hyperparameters:
    """Read the folder's settings.json; the defaults where there is none."""
    path = work / SETTINGS
    if not path.exists():
        return Hyperparameters()
    content = storage.read_json(path, made_by="jobs.tune")
    known = {field.name for field in dataclasses.fields(Hyperparameters)}
    if unknown := sorted(set(content) - known):
        raise storage.JobError(f"{path} has the unknown settings {unknown}; known: {sorted(known)}")
    try:
        return msgspec.convert(content, Hyperparameters)
    except msgspec.ValidationError as error:
        raise storage.JobError(f"{path} can't be used: {error}") from None


def save(work: Path, settings: Hyperparameters) -> None:
    """Write the folder's settings.json."""
    storage.write_json(work / SETTINGS, dataclasses.asdict(settings))
