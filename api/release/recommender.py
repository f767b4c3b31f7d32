"""What a release answers: functions of a user's row, their events and numbers, and nothing else.

So an answer that was given before is given again without a computation, until there is another
event or another release.
"""

import weakref
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from api.release import kernels
from api.release.catalog import Catalog, Name
from api.release.explanations import reasons
from api.release.taste import UserVectors
from api.schemas import Reason
from jobs.contract.blending import (
    LISTED,
    NO_TRACKS,
    NOTHING_NEAR,
    WEIGHED,
    Allowed,
    Blending,
    Exclusion,
    Fit,
    Near,
    Scores,
    Tracks,
    blend,
    completed,
    fadings,
    first_of,
    fitted,
    fitting,
    near,
    offline_worth,
    together,
)
from jobs.contract.journal import Id

REMEMBERED = 10_000  # answers of each call
NO_WORTH: Scores = np.empty(0, np.float64)


Events = tuple[Id, ...]  # track ids, newest first


weights_of = lru_cache(Blending.weights)  # of a rule: to make the dictionary takes 10 µs


class Answer(NamedTuple):
    """Tracks as a JSON list, and how long the user's final list is."""

    text: bytes
    n_final: int


class Recommender:
    """The answers of one release. `recent_events` are kept out where heard tracks are included."""

    def __init__(self, catalog: Catalog, recent_events: int) -> None:
        self.catalog = catalog
        self.header = catalog.id.encode()  # of each answer
        self._recent_events = recent_events
        self._exclusion = Exclusion(catalog.n_tracks, catalog.hidden())
        self._vectors = None if catalog.model is None else UserVectors(catalog.model)
        self._compile()
        own = weakref.proxy(self)  # the remembered answers must not keep an old release alive
        self.answer = lru_cache(REMEMBERED)(partial(Recommender._answer, own))
        self.online_text = lru_cache(REMEMBERED)(partial(Recommender._online_text, own))

    def forget(self, until: Mapping[int | bytes, int], name: Name) -> None:
        """Answer as for new users to those forgotten, up to their seq; keep no old answer."""
        self.catalog.forget(until, name)
        self.answer.cache_clear()
        self.online_text.cache_clear()

    def _answer(self, row: int, k: int, events: Events) -> Answer:
        """The answer of /recommendations; a user whom the release doesn't know is row -1."""
        final = self.catalog.final(row)
        return Answer(self.catalog.text(self.recommended(row, k, events)), len(final))

    def _online_text(self, row: int, k: int, n: int, events: Events) -> bytes:
        """The answer of /get_online_u2i, as a JSON list."""
        return self.catalog.text(self.online(row, k, n, events))

    def recommended(self, row: int, k: int, events: Events) -> Tracks:
        """Return the first k tracks of the blend, or fewer where there are no more."""
        catalog, final = self.catalog, self.catalog.final(row)
        if not events and len(final) >= k:
            return final[:k]
        rule, played = catalog.blending, catalog.positions(events)
        out = self._kept_out(row, played)
        with self._exclusion.of(out) as allowed:
            if not events or rule.rule == "offline":
                return first_of(catalog.offline(final), allowed, k)
            if rule.only_folds_in:
                online, fit = self.brought(row, played, rule, out, allowed)
                offline, ties = catalog.offline(final), catalog.ties
                return blend(online, offline, allowed, k, rule, len(events), ties, fit)
            n_own = max(k, WEIGHED) if rule.rule == "weighted" else k
            own = first_of(catalog.offline(final), allowed, n_own)
            return self._blended(row, k, played, rule, own)

    def _blended(self, row: int, k: int, played: Tracks, rule: Blending, own: Tracks) -> Tracks:
        """Return what `blend` makes of the allowed offline tracks `own`, by compiled loops.

        It takes a fraction of the time. The fold-in must not be the only source.
        """
        competing = own[:WEIGHED] if rule.rule == "weighted" else NO_TRACKS
        worth = offline_worth(rule, len(competing), len(played))
        tracks, sums = self._competing(played, rule, competing, worth)
        taste = self._taste(row, played, rule)
        if taste is not None:
            self._add_fits(tracks, sums, taste, rule)
        return completed(kernels.best(tracks, sums, self.catalog.ties, k), own, k, rule)

    def _competing(
        self, played: Tracks, rule: Blending, offline: Tracks, worth: Scores
    ) -> tuple[Tracks, Scores]:
        """Return the tracks that compete for an answer, and what each gains but for its fit.

        `offline` (n,) are those of the offline list that compete, which gain worth (n,).
        """
        weights = weights_of(rule)
        similar, next_played = (
            (*self.catalog.neighbours[name], weights.get(name, 0.0)) for name in LISTED
        )
        fading = fadings(rule.half_life, rule.events)
        return kernels.competing(
            similar, next_played, played[: rule.events], fading, rule.neighbours,
            rule.score_exponent, self._exclusion.mask, offline, worth,
        )  # fmt: skip

    def _add_fits(self, tracks: Tracks, sums: Scores, taste: Scores, rule: Blending) -> None:
        """Add to the sums (n,) what the tracks (n,) gain by fitting a taste (d,)."""
        if self.catalog.model is not None:
            order, weight = self.catalog.model.order, rule.fold_in_weight
            exponent = rule.score_exponent
            kernels.add_fits(tracks, sums, order.position, order.vectors, taste, weight, exponent)

    def _compile(self) -> None:
        """Compile what answers need, or read it from the cache, before the first call needs it."""
        tracks, sums = self._competing(NO_TRACKS, Blending(), NO_TRACKS, NO_WORTH)
        if self._vectors is not None:
            self._vectors.compile()
            self._add_fits(tracks, sums, self._vectors.of(NO_TRACKS), Blending())
        kernels.best(tracks, sums, self.catalog.ties, 1)

    def brought(
        self, row: int, played: Tracks, rule: Blending, out: Tracks, allowed: Allowed
    ) -> tuple[Near, Fit | None]:
        """Return what the events bring by the rule, and what tracks gain by fitting the taste.

        Where the fold-in is the only source, it brings the tracks nearest to the user's taste, none
        of `out`. Beside other sources it scores the tracks that compete, which takes a fraction of
        the time and does as well.
        """
        found, model = near(self.catalog.neighbours, played, rule, allowed), self.catalog.model
        taste = self._taste(row, played, rule)
        if model is None or taste is None:
            return found, None
        if not rule.only_folds_in:
            return found, lambda tracks: fitting(model.scores(taste, tracks), rule)
        tracks, scores = model.nearest(taste[None], rule.neighbours, [np.sort(out[out >= 0])])
        return fitted(tracks[0], scores[0], rule), None

    def _taste(self, row: int, played: Tracks, rule: Blending) -> Scores | None:
        """Return the vector (d,) of a user after some events; None where nothing is folded in."""
        known = played[played >= 0]
        if self._vectors is None or not len(known) or "fold_in" not in weights_of(rule):
            return None
        vector = self._vectors.of(np.concatenate([self.catalog.history(row), known[::-1]]))
        return vector if vector.any() else None

    def explained(self, row: int, k: int, events: Events) -> tuple[bytes, list[Reason]]:
        """Return the list of `answer` and a reason for each of its tracks; takes much longer."""
        catalog = self.catalog
        tracks, competing = self.recommended(row, k, events), NO_TRACKS
        out = self._kept_out(row, catalog.positions(events))
        with self._exclusion.of(out) as allowed:
            if catalog.blending.rule == "weighted":
                competing = first_of(catalog.offline(catalog.final(row)), allowed, WEIGHED)

            def bring(events: Events, source: str) -> Near:
                played, rule = catalog.positions(events), catalog.blending
                if source in LISTED:
                    only = replace(rule, sources=(source,))
                    return near(catalog.neighbours, played, only, allowed)
                found, fit = self.brought(row, played, rule, out, allowed)
                if fit is None:
                    return NOTHING_NEAR if source and not rule.only_folds_in else found
                candidates = np.union1d(found.tracks, competing)
                gains = fit(candidates)
                fits = Near(candidates[gains > 0], gains[gains > 0])
                return fits if source else together([found, fits])

            places = offline_worth(catalog.blending, len(competing), len(events))
            worth = dict(zip(competing.tolist(), places.tolist(), strict=True))
            return catalog.text(tracks), reasons(catalog, row, tracks, events, bring, worth)

    def online(self, row: int, k: int, n: int, events: Events) -> Tracks:
        """Return the neighbours of the last k events, n of each that may be recommended, merged."""
        played = self.catalog.positions(events)
        rule = Blending(sources=("similar",), events=k, neighbours=n)
        with self._exclusion.of(self._kept_out(row, played)):
            tracks, sums = self._competing(played, rule, NO_TRACKS, NO_WORTH)
        return kernels.best(tracks, sums, self.catalog.ties, len(tracks))

    def _kept_out(self, row: int, played: Tracks) -> Tracks:
        """Return what no answer may have: what was heard, before or just now, and is disliked."""
        if not self.catalog.excludes_heard:
            played = played[: self._recent_events]
        kept_out = self.catalog.kept_out(row)
        return np.concatenate([kept_out, played]) if len(kept_out) else played
