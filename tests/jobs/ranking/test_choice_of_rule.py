"""Which rule orders the final lists, and what the evaluation page says of that choice."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract.results import Ranking
from jobs.metrics.bootstrap import ratio
from jobs.ranking import ranker as rankers
from jobs.ranking.ranker import TrainingExamples, choose_rule, choose_trees
from jobs.reporting.evaluation_text import choice_of_rule

values = st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0]), min_size=60, max_size=60).map(np.array)


@settings(max_examples=100, deadline=None)
@given(values, values, values)
def test_another_rule_than_the_ranker_is_taken_only_when_it_is_surely_better(ranker, fusion, als):
    ndcg = {"als": als, "fusion": fusion, "ranker": ranker}
    choice = choose_rule(ndcg)
    assert choice.rule != choice.runner_up
    if choice.rule == "ranker":
        best = max((als, fusion), key=lambda of: of.mean())
        assert ndcg[choice.runner_up].mean() == best.mean()
    else:
        assert choice.runner_up == "ranker"
        assert ndcg[choice.rule].mean() > ranker.mean()
        low = ratio(ndcg[choice.rule], ranker).low
        assert low is None or low > 1


def test_noise_of_few_users_does_not_replace_the_ranker():
    rng = np.random.default_rng(0)
    for _ in range(20):
        chance = rng.random(264) < 0.2
        ranker = chance * 1.0
        fusion = np.where(rng.random(264) < 0.05, rng.random(264) < 0.25, ranker)
        assert choose_rule({"fusion": fusion, "ranker": ranker}).rule == "ranker"


@settings(max_examples=100, deadline=None)
@given(values, values, st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_page_says_of_the_choice_what_its_figures_say(ranker, fusion, on_test, of_other):
    choice = choose_rule({"fusion": fusion, "ranker": ranker})
    ranking = Ranking(
        rule=choice.rule,
        ndcg_on_validation={},
        fusion_weights={},
        feature_importance={},
        runner_up=choice.runner_up,
        over_runner_up=choice.over_runner_up,
        ndcg_on_test={choice.rule: on_test, choice.runner_up: of_other},
    )
    text = choice_of_rule(ranking)
    over = choice.over_runner_up
    if over.known is None:
        assert "interval" not in text
        return
    found = re.search(r"has ([\d.]+) times .* interval ([\d.]+) to ([\d.]+)", text)
    assert found and [float(n) for n in found.groups()] == [round(n, 3) for n in over.known]
    value, low, high = over.known
    assert ("the choice is sure" in text) == (low > 1)
    assert ("may be chance" in text) == (low <= 1 <= high)
    assert ("disagree" in text) == ((on_test > of_other) != (value > 1))


def test_the_page_says_nothing_where_no_rule_was_chosen():
    assert choice_of_rule(Ranking("fusion", {}, {}, {}, too_few=True)) == ""


@settings(max_examples=100, deadline=None)
@given(values, values, values)
def test_more_trees_are_taken_only_when_they_are_surely_better(ranker, longer, als):
    trees, ndcg = choose_trees({"als": als, "ranker": ranker, "longer ranker": longer})
    assert ndcg.keys() == {"als", "ranker"}
    low = ratio(longer, ranker).low
    surely = low is not None and low > 1 and longer.mean() > ranker.mean()
    assert trees == (rankers.MORE_TREES if surely else rankers.TREES)
    assert (ndcg["ranker"] == (longer if surely else ranker)).all()


def test_the_first_trees_are_those_of_a_ranker_without_more():
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(60), 30)
    features = rng.random((len(user), 5), np.float32)
    played = features[:, 0] + rng.random(len(user)) > 1.5
    examples = [[TrainingExamples(features, played, user)]]
    names = [f"feature {i}" for i in range(5)]
    short, longer = (rankers.fit_ranker(examples, names, n) for n in (20, 30))
    of_short = short.predict(features)
    assert (longer.predict(features, ntree_end=20) == of_short).all()
    assert (longer.predict(features) != of_short).any()
