"""Choose the blending rule to serve by replayed sessions, and say how sure the choice is.

A search over many rules also finds some that fit these sessions only by chance. So what it finds is
judged by cross-fitting: users fall into FOLDS parts, the rule that is found on the others is tried
on each part, and the results of all parts are put together. Beside it stand the same blend with
half of the weights found, which is nearer to the offline list, and the offline list itself. (With a
quarter, five events changed the first ten tracks of only one in five users on a set where little
was known, so that a listener would see no effect.)

A blend is served unless all of them are surely worse than the offline list. Of those that are not
surely worse, the one nearest to the offline list is served that is not worse than the best one by
more than a standard error of the difference (the one-standard-error rule of Breiman, Friedman,
Olshen and Stone, "Classification and Regression Trees", 1984). So the fewer plays there are to
choose by, the more the offline list counts. The numbers are then those that are found on all users.
A rule that takes tracks from both lists in turn is served only if it is surely better than the
weighted one, or if only it is not surely worse than the offline list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec.structs import asdict, replace

from jobs.contract.blending import SOURCES, Blending, Rule, Source
from jobs.contract.ids import hashes
from jobs.contract.results import BlendingChoice, JudgedBlend, Reason, TriedRule
from jobs.data.bounds import ENOUGH_USERS
from jobs.runtime.progress import progress_bar
from jobs.selection.blending_search import search, typical_scores, weighted_rule
from jobs.selection.hit_rates import AFTER_EVENTS, drawn_gains, drawn_rates, gain_of, mean_hit_rate
from jobs.selection.replay_sessions import SEED, K, Sessions
from jobs.selection.rule_scorer import RuleScorer

FOLDS = 3  # parts of the users; each user belongs to one
SHARES = (1.0, 0.5)  # of the weights found; with a smaller share the offline list counts more

Candidate = tuple[Rule, float]  # a rule, and the share of the weights of what events bring


WEIGHTED: tuple[Candidate, ...] = tuple(("weighted", share) for share in SHARES)
ALTERNATE: Candidate = ("alternate", 1.0)
OFFLINE: Candidate = ("offline", 0.0)


@dataclass(frozen=True)
class Choice:
    """The rule to serve and why; `tried` are all rules compared, the best first."""

    blending: Blending
    why: BlendingChoice
    tried: list[TriedRule]


class Judged(NamedTuple):
    """The gain of a blend over the offline list: as it is, and in each draw of users."""

    gain: float
    drawn: np.ndarray

    @property
    def surely_worse(self) -> bool:
        """Whether the interval of 95 % is below 0."""
        return gain_of(*self).high < 0


def cautious(rule: Blending, share: float) -> Blending:
    """Return the rule with this share of the weights of what events bring."""
    weights = {f"{source}_weight": getattr(rule, f"{source}_weight") for source in SOURCES}
    return replace(rule, **{name: float(f"{share * w:.4g}") for name, w in weights.items()})


def decide(judged: Mapping[Candidate, Judged]) -> tuple[Candidate, Reason]:
    """Return what to serve of the candidates, or the offline list, and why.

    In this example all are better than the offline list, and half of the weights lose .01 with a
    standard error of .012:

    >>> draws = np.array([-1.0, 0.0, 1.0])
    >>> decide({
    ...     ("weighted", 1.0): Judged(0.05, 0.05 + 0 * draws),
    ...     ("weighted", 0.5): Judged(0.04, 0.04 + 0.012 * draws),
    ...     ("alternate", 1.0): Judged(0.06, 0.06 + 0.02 * draws),
    ... })
    (('weighted', 0.5), 'cautious')
    """
    other = judged[ALTERNATE]
    possible = [each for each in WEIGHTED if not judged[each].surely_worse]
    if not other.surely_worse and (not possible or is_surely_better(other, judged[WEIGHTED[0]])):
        return ALTERNATE, "best"
    if not possible:
        return OFFLINE, "worse"
    best = max(possible, key=lambda each: judged[each].gain)
    for each in reversed(possible):
        lost = judged[best].gain - judged[each].gain
        if lost <= (judged[best].drawn - judged[each].drawn).std(ddof=1):
            return each, "best" if each == best else "cautious"
    return best, "best"


def is_surely_better(ours: Judged, theirs: Judged) -> bool:
    """Return whether the interval of the difference between two gains is above 0."""
    return gain_of(ours.gain - theirs.gain, ours.drawn - theirs.drawn).low > 0


def users_with_events(sessions: Sessions) -> int:
    """Return how many users have a play with an event before it."""
    return len(np.unique(sessions.session[sessions.at > 0]))


def alternating_rules(sources: tuple[Source, ...]) -> list[Blending]:
    """Return rules that take tracks from both lists in turn: with each source, and with all."""
    alone = [Blending(sources=(source,)) for source in sources] or [Blending()]
    return [*alone, Blending(sources=sources)] if len(sources) > 1 else alone


def best_rule(hits: Mapping[Blending, np.ndarray], part: np.ndarray, at: np.ndarray) -> Blending:
    """Return the rule with the most hits on a part of the plays."""
    return max(hits, key=lambda rule: mean_hit_rate(hits[rule][part], at[part]))


def cross_fitted(
    sessions: Sessions,
    fold: np.ndarray,
    weighted: Sequence[Blending],
    alternate: Mapping[Blending, np.ndarray],
) -> dict[Candidate, np.ndarray]:
    """Return the hits (plays,) of each candidate by rules that were found on other users.

    fold (plays,) says which part a play's user belongs to; weighted[i] was found on all parts but
    i. `alternate` are the hits of rules that have no numbers to find.
    """
    hits = {each: np.zeros(len(sessions), bool) for each in (*WEIGHTED, ALTERNATE)}
    for i, rule in enumerate(weighted):
        own = fold == i
        best = best_rule(alternate, ~own, sessions.at)
        hits[ALTERNATE][own] = alternate[best][own]
        scorer = RuleScorer.of(sessions, rule, own)
        for name, share in WEIGHTED:
            hits[name, share][scorer.plays] = scorer.hits(cautious(rule, share))
    return hits


def hits_of(sessions: Sessions, weighted: Blending) -> np.ndarray:
    """Return the hits (plays,) of a weighted rule after events; those without events are none."""
    scorer = RuleScorer.of(sessions, weighted)
    hits = np.zeros(len(sessions), bool)
    hits[scorer.plays] = scorer.hits(weighted)
    return hits


def judge(
    hits: Mapping[Candidate, np.ndarray], offline: np.ndarray, sessions: Sessions
) -> dict[Candidate, Judged]:
    """Return the gain of each candidate over the offline list, after 1, 2, and 3+ events."""
    lists = {OFFLINE: offline, **hits}
    drawn = drawn_rates(lists, sessions.at, sessions.session)
    rates = {name: mean_hit_rate(hit, sessions.at) for name, hit in lists.items()}
    return {
        name: Judged(
            rates[name] - rates[OFFLINE], drawn_gains(drawn[name], drawn[OFFLINE], AFTER_EVENTS)
        )
        for name in hits
    }


def choose_blending(sessions: Sessions) -> Choice:
    """Return the rule to serve, why, and all rules compared.

    It is the default rule if fewer than ENOUGH_USERS users have a play with an event before it.
    """
    users = users_with_events(sessions)
    if users < ENOUGH_USERS:
        return Choice(Blending(), BlendingChoice("few users", users), [])
    at, offline, typical = sessions.at, sessions.offline_place < K, typical_scores(sessions)
    fold = (hashes(sessions.user_ids, SEED) % np.uint64(FOLDS))[sessions.session]
    everybody = np.ones(len(sessions), bool)
    with progress_bar(desc="replay choose", unit=" rules") as progress:
        parts = [*(fold != i for i in range(FOLDS)), everybody]
        found = search(sessions, parts, typical, progress)
    *others, weighted = (weighted_rule(each.numbers, each.size, typical) for each in found)
    alternate = {rule: sessions.hits(rule) for rule in alternating_rules(tuple(typical))}
    hits = cross_fitted(sessions, fold, others, alternate)
    judged = judge(hits, offline, sessions)
    served, reason = decide(judged)
    blending = {
        "alternate": best_rule(alternate, everybody, at),
        "weighted": cautious(weighted, served[1]),
        "offline": replace(weighted, rule="offline"),
    }[served[0]]
    why = BlendingChoice(
        reason=reason,
        users=users,
        offline=mean_hit_rate(offline, at),
        judged=[
            JudgedBlend(*name, mean_hit_rate(hits[name], at), gain_of(*each), name == served)
            for name, each in judged.items()
        ],
        missing=[source for source in SOURCES if source not in typical],
    )
    rates = {rule: mean_hit_rate(hit, at) for rule, hit in alternate.items()}
    rates[weighted] = mean_hit_rate(hits_of(sessions, weighted), at)
    rates[Blending(rule="offline")] = mean_hit_rate(offline, at)
    tried = [TriedRule(**asdict(rule), hit_rate=rate) for rule, rate in rates.items()]
    return Choice(blending, why, sorted(tried, key=lambda rule: -rule.hit_rate))
