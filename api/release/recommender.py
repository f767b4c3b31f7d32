"""What a release answers: functions of a user's row, their events and numbers, and nothing else.

So an answer that was given before is given again without a computation, until there is another
event or another release.
"""

import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from api.release import kernels
from api.release.catalog import Catalog, Name
from api.release.explanations import reasons
from api.release.taste import Equations, vector_after
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
    fadings,
    first_of,
    fitted,
    fitting,
    near,
    offline_worth,
    together,
)
from jobs.contract.journal import Events, Id

REMEMBERED = 10_000  # answers of each call
NO_WORTH: Scores = np.empty(0, np.float64)
NO_TASTE: Scores = np.empty(0, np.float32)
NO_VECTORS = np.empty((0, 0), np.uint16)


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
        self._equations = None if catalog.model is None else Equations.of(catalog.model)
        rule = catalog.blending
        self._sources = self._sources_of(rule)
        # what the places of the offline list count after 0, 1, ... events
        self._worths = [
            offline_worth(rule, WEIGHED, n) if rule.rule == "weighted" else NO_WORTH
            for n in range(rule.events + 1)
        ]
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
        final, rule = self.catalog.final(row), self.catalog.blending
        if not events and len(final) >= k:
            return final[:k]
        played = self.catalog.positions(events)
        if not len(played) or rule.rule == "offline":
            return self._blended(row, played, NO_TRACKS, NO_TASTE, NO_WORTH, k)
        if rule.only_folds_in:
            return self._searched(row, played, k)
        taste, worth = self._taste(row, played), self._worths[min(len(played), rule.events)]
        return self._blended(row, played, played[: rule.events], taste, worth, k)

    def _blended(
        self, row: int, played: Tracks, events: Tracks, taste: Scores, worth: Scores, k: int
    ) -> Tracks:
        """Return what `blend` returns, by compiled loops, in a fraction of the time.

        The last `events` of those played bring tracks, as does the taste (d,), which may be empty.
        worth (n,) is what the first places of the offline list count. The fold-in must not be the
        only source.
        """
        catalog, alternates = self.catalog, self.catalog.blending.rule == "alternate"
        return kernels.blended(
            self._sources, self._fold_in(taste), events, catalog.final(row), catalog.all_tracks,
            worth, alternates, self._kept_out(row, played), self._exclusion.mask, catalog.ties, k,
        )  # fmt: skip

    def _sources_of(self, rule: Blending) -> kernels.Sources:
        weights, lists = rule.weights(), self.catalog.neighbours
        similar, next_played = ((*lists[name], weights.get(name, 0.0)) for name in LISTED)
        fading = fadings(rule.half_life, rule.events)
        return kernels.Sources(similar, next_played, fading, rule.neighbours, rule.score_exponent)

    def _fold_in(self, taste: Scores) -> kernels.FoldIn:
        known = self._equations
        if known is None:
            return kernels.FoldIn(NO_TRACKS, NO_VECTORS, taste, 0.0)
        weight = self.catalog.blending.fold_in_weight
        return kernels.FoldIn(known.position, known.vectors, taste, weight)

    def _compile(self) -> None:
        """Compile what answers need, or read it from the cache, before the first call needs it."""
        catalog, nothing = self.catalog, self.catalog.positions(b"")
        answer = self._blended(-1, nothing, nothing, self._taste(-1, nothing), NO_WORTH, 1)
        catalog.text(answer)
        catalog.text(catalog.final(-1))
        if catalog.model is not None and catalog.blending.only_folds_in:
            catalog.model.nearest(np.zeros((1, len(catalog.model.gram)), np.float32), 1, [nothing])

    def _searched(self, row: int, played: Tracks, k: int) -> Tracks:
        """Return the blend where the fold-in is the only source, and so searches all tracks."""
        catalog, rule = self.catalog, self.catalog.blending
        out = self._kept_out(row, played)
        with self._exclusion.of(out) as allowed:
            online, fit = self.brought(row, played, rule, out, allowed)
            offline, ties = catalog.offline(catalog.final(row)), catalog.ties
            return blend(online, offline, allowed, k, rule, len(played), ties, fit)

    def brought(
        self, row: int, played: Tracks, rule: Blending, out: Tracks, allowed: Allowed
    ) -> tuple[Near, Fit | None]:
        """Return what the events bring by the rule, and what tracks gain by fitting the taste.

        Where the fold-in is the only source, it brings the tracks nearest to the user's taste, none
        of `out`. Beside other sources it scores the tracks that compete, which takes a fraction of
        the time and does as well.
        """
        found, model = near(self.catalog.neighbours, played, rule, allowed), self.catalog.model
        taste = self._taste(row, played)
        if model is None or not taste.any():
            return found, None
        if not rule.only_folds_in:
            return found, lambda tracks: fitting(model.scores(taste, tracks), rule)
        tracks, scores = model.nearest(taste[None], rule.neighbours, [np.sort(out[out >= 0])])
        return fitted(tracks[0], scores[0], rule), None

    def _taste(self, row: int, played: Tracks) -> Scores:
        """Return the vector (d,) of a user after some events; empty where nothing is folded in."""
        if self._equations is None:
            return NO_TASTE
        return vector_after(self.catalog.history(row), played, self._equations)

    def explained(self, row: int, k: int, events: Sequence[Id]) -> tuple[bytes, list[Reason]]:
        """Return the list of `answer` and a reason for each of its tracks; takes much longer."""
        catalog = self.catalog
        tracks, competing = self.recommended(row, k, events), NO_TRACKS
        out = self._kept_out(row, catalog.positions(events))
        with self._exclusion.of(out) as allowed:
            if catalog.blending.rule == "weighted":
                competing = first_of(catalog.offline(catalog.final(row)), allowed, WEIGHED)

            def bring(events: Sequence[Id], source: str) -> Near:
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
            return catalog.text(tracks), reasons(catalog, row, tracks, tuple(events), bring, worth)

    def online(self, row: int, k: int, n: int, events: Events) -> Tracks:
        """Return the neighbours of the last k events, n of each that may be recommended, merged."""
        catalog, played = self.catalog, self.catalog.positions(events)
        sources = self._sources_of(Blending(sources=("similar",), events=k, neighbours=n))
        return kernels.blended(
            sources, self._fold_in(NO_TASTE), played[:k], catalog.final(-1), catalog.top(0),
            NO_WORTH, False, self._kept_out(row, played), self._exclusion.mask, catalog.ties, k * n,
        )  # fmt: skip

    def _kept_out(self, row: int, played: Tracks) -> Tracks:
        """Return what no answer may have: what was heard, before or just now, and is disliked."""
        if not self.catalog.excludes_heard:
            played = played[: self._recent_events]
        kept_out = self.catalog.kept_out(row)
        return np.concatenate([kept_out, played]) if len(kept_out) else played
