"""jobs.evaluate and what it is made of: segments, intervals, generators, peers, ablation."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit.cpu.als import AlternatingLeastSquares
from implicit.nearest_neighbours import TFIDFRecommender
from implicit.utils import ParameterWarning
from msgspec import structs
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from jobs.contract import storage, tables
from jobs.contract.names import CURRENT, LIST_LENGTH, METRICS
from jobs.contract.results import GeneratorRecall, Ratio
from jobs.contract.storage import JobError
from jobs.contract.top_k import NOTHING
from jobs.data.holdout import COLD, Holdout
from jobs.data.listens import Listens
from jobs.evaluation import ablation, baselines
from jobs.evaluation.baselines import Baseline
from jobs.evaluation.evaluator import Evaluator
from jobs.evaluation.generator_lists import candidate_recall, continued, own_lists
from jobs.evaluation.segments import segments, thirds_of_plays
from jobs.metrics import bootstrap
from jobs.ranking import features, ranker
from jobs.ranking.generators import GENERATORS
from tests.support.rankings import assert_same_ranking
from tests.support.workspace import run


def listens_of(history: dict[int, list[int]], tracks: int) -> Listens:
    """The plays of each user (0, 1, …), in order."""
    assert list(history) == list(range(len(history)))
    starts = np.cumsum([0, *map(len, history.values())])
    item = np.array([track for own in history.values() for track in own])
    at = np.arange(len(item))
    return Listens(starts, item, at, np.arange(len(history)), np.arange(tracks))


def labels_of(later: list[list[int]], tracks: int) -> csr_matrix:
    return csr_matrix([[i in own for i in range(tracks)] for own in later], dtype=np.float32)


def test_an_interval_of_a_ratio_is_paired_and_the_same_every_time():
    rng = np.random.default_rng(0)
    hard = rng.random(400)  # how hard a user is for every list
    ours, theirs = hard * 1.1, hard
    found = bootstrap.ratio(ours, theirs)
    assert structs.astuple(found) == pytest.approx((1.1, 1.1, 1.1))
    noisy = bootstrap.ratio(ours + rng.normal(0, 0.3, 400), theirs)
    assert noisy.low < noisy.ratio < noisy.high
    assert bootstrap.ratio(ours, theirs) == found


def test_intervals_hold_the_true_mean_in_95_of_100_samples():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        values = rng.exponential(1.0, 150)
        low, high = np.quantile(bootstrap.drawn_means(values[:, None], 300), (0.025, 0.975))
        held += low <= 1 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_a_ratio_to_nothing_is_none():
    none = Ratio(None, None, None)
    assert bootstrap.ratio(np.ones(5), np.zeros(5)) == none
    rare = np.array([1.0, 0, 0, 0, 0])  # a draw may miss the only user with a hit
    assert bootstrap.ratio(np.ones(5), rare).low is None


def test_segments_part_users_by_their_plays_and_labels_by_those_of_the_track():
    history = {u: [u % 3] * (u + 1) for u in range(6)}  # tracks 0, 1, 2 have 5, 7 and 9 plays
    past = listens_of(history, tracks=5)
    later = Holdout(np.arange(7), np.array([COLD, *range(6)]), labels_of([[0, 2, 4]] * 7, tracks=5))
    found = {part.name: part for part in segments(past, later, "exclude")}
    assert {name: part.users.tolist() for name, part in found.items()} == {
        "all": [*range(7)],
        "cold": [0],
        "few plays": [1, 2],
        "medium plays": [3, 4],
        "many plays": [5, 6],
        "head tracks": [*range(7)],
        "tail tracks": [*range(7)],  # nobody played track 1, the only one between
        "new tracks": [*range(7)],
    }
    labels = [np.unique(part.labels.indices).tolist() for part in found.values()]
    assert labels == [[0, 2, 4]] * 5 + [[2], [0, 4], [4]]
    assert found["few plays"].what == "1 to 2 plays before the cut"
    assert found["tail tracks"].what.startswith("3 tracks: the rest of the catalogue, 2 of them")


def test_heavy_repeaters_are_the_third_whose_plays_are_repeats_most():
    past = listens_of({0: [0, 1, 2], 1: [0, 0, 1], 2: [0, 0, 0]}, tracks=3)
    later = Holdout(np.arange(3), np.arange(3), labels_of([[0]] * 3, tracks=3))
    found = segments(past, later, "include")[-1]
    assert (found.name, found.users.tolist()) == ("heavy repeaters", [2])
    assert "heavy repeaters" not in {part.name for part in segments(past, later, "exclude")}


def test_tracks_are_parted_where_the_plays_before_them_reach_a_third_and_two():
    assert thirds_of_plays(np.array([0, 10, 20, 30]), np.arange(4)).tolist() == [2, 2, 1, 0]
    ties = np.array([2, 0, 1, 3])
    assert thirds_of_plays(np.array([1, 1, 1, 0]), ties).tolist() == [2, 0, 1, 2]


few = st.lists(st.integers(0, 8), unique=True, max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(few, few), min_size=1, max_size=5))
def test_a_list_goes_on_with_the_top_list_and_has_no_track_twice(users):
    def filled(own: list[int]) -> list[int]:
        return own + [NOTHING] * (5 - len(own))

    own, top = (np.array([filled(of) for of in side]) for side in zip(*users, strict=True))
    expected = [filled([*dict.fromkeys([*first, *then])][:5]) for first, then in users]
    assert continued(own, top).tolist() == expected


def test_candidate_recall_by_hand():
    labels = labels_of([[0, 1, 2], [3]], tracks=6)
    found = candidate_recall(
        {"als": np.array([[0, 5], [4, NOTHING]]), "ease": np.array([[1, 0], [3, 4]])}, labels
    )
    assert (found.labels, found.union) == (4, 3 / 4)
    assert found.generators["als"] == GeneratorRecall(users=2, recall=1 / 4, alone=0)
    assert found.generators["ease"] == GeneratorRecall(users=2, recall=3 / 4, alone=2 / 4)


@pytest.fixture(scope="module")
def report(finished: Path) -> Evaluator:
    return Evaluator.read(finished / "windows" / "test", 10**6)


def test_a_generator_alone_is_what_the_ranker_judged_it_by(report):
    users, top = report.later.row[report.warm], report.top[report.warm]
    models, lists = ranker.FittedRankers(None, np.zeros(0)), own_lists(report.snapshot, users)
    for length in (None, LIST_LENGTH):  # as it is judged and as it is served
        pool = features.featured_candidates(report.snapshot, users, length)
        for name, own in lists.items():
            judged, _ = ranker.best_lists(pool, models.scores(pool, name), len(users))
            first = slice(length or GENERATORS[name].candidates)
            assert np.array_equal(continued(own, top)[:, first], judged[:, first]), name


def test_without_a_generator_neither_its_candidates_nor_its_features_are_left(report):
    pool = features.featured_candidates(report.snapshot, report.later.row[report.warm])
    names = set(pool.features)
    for name in GENERATORS:
        left = ablation.without(pool, name)
        others = [of for other, of in pool.places.items() if other != name]
        kept = ~np.isnan(others).all(axis=0)
        assert np.array_equal(left.item, pool.item[kept])
        assert {len(of) for of in (*left.features.values(), *left.places.values())} == {kept.sum()}
        gone = names - set(left.features)
        assert f"{name}_rank" in gone and all(own.startswith(f"{name}_") for own in gone)
        agreeing = (~np.isnan(others)).sum(axis=0)[kept]
        assert np.array_equal(left.features["generators"], agreeing)
    assert "artist_affinity_all" in ablation.without(pool, "artist").features


PLAYS = listens_of(
    {u: np.random.default_rng(u).permutation(30)[: 5 + u % 7].tolist() for u in range(20)}, 40
)


ROWS = np.arange(3, 20)


def of_peer(fit, heard: str = "exclude", **setting) -> np.ndarray:
    return baselines.lists_of(
        Baseline("", fit, []), {"weights": "plays"} | setting, PLAYS, ROWS, heard
    )


def test_implicit_as_a_peer_recommends_what_implicit_recommends():
    with threadpool_limits(limits=1, user_api="blas"):
        plays = PLAYS.profiles(None)
        model = AlternatingLeastSquares(factors=8, random_state=baselines.SEED)
        model.fit(plays, show_progress=False)
        scores = model.user_factors @ model.item_factors.T  # those of an equal second fit
        ids, _ = model.recommend(ROWS, plays[ROWS], N=10)
        for row, ours, theirs in zip(
            ROWS, of_peer(baselines.implicit_als, factors=8), ids, strict=True
        ):
            own_scores = {item: scores[row, item] for item in ours[:10].tolist()}
            their_scores = {item: scores[row, item] for item in theirs.tolist()}
            assert_same_ranking(own_scores, their_scores, tolerance=1e-5)
        knn = TFIDFRecommender(K=10)
        with pytest.warns(ParameterWarning):  # of a matrix that it made itself
            knn.fit(plays.astype(float), show_progress=False)
        found = of_peer(baselines.item_knn, similarity="tfidf", neighbours=10)
        for row, own in zip(ROWS, found, strict=True):
            ids, scores = knn.recommend(row, plays[row].astype(float), N=5)
            near = (plays[row] @ knn.similarity).toarray().ravel()
            assert near[own[:5]] == pytest.approx(scores)
            assert not set(own) & set(plays[row].indices)


def test_ease_is_the_closed_form_however_it_is_made():
    x = PLAYS.pairs().toarray()
    p = np.linalg.inv(x.T @ x + 5 * np.eye(40))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    scores = x[ROWS] @ b
    for heard in ("exclude", "include"):
        allowed = np.where(x[ROWS] > 0, 0, scores) if heard == "exclude" else scores
        found = of_peer(baselines.ease, heard, penalty=5.0)
        best = -np.sort(-allowed, axis=1)[:, :5]
        np.testing.assert_allclose(np.take_along_axis(allowed, found[:, :5], axis=1), best)
    by_items, by_users = (
        make(PLAYS.pairs(), 5.0) for make in (baselines._by_items, baselines._by_users)
    )
    rows = PLAYS.pairs()[ROWS]
    np.testing.assert_allclose(by_items[0](rows), by_users[0](rows), atol=1e-6)
    np.testing.assert_allclose(by_items[1], by_users[1], atol=1e-6)


def measured(work: Path) -> dict:
    """metrics.json, which must be JSON as everyone reads it."""
    return json.loads((work / METRICS).read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def few_settings() -> Iterator[None]:
    """Peers that have less to choose from, for the time that it takes."""
    known = baselines.baselines
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            baselines,
            "baselines",
            lambda past: [replace(peer, settings=peer.settings[-3:]) for peer in known(past)],
        )
        yield


@pytest.fixture(scope="module")
def everything(
    finished: Path, few_settings: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished folder, evaluated with every option."""
    work = tmp_path_factory.mktemp("everything") / "work"
    ignore = shutil.ignore_patterns("releases", CURRENT)
    shutil.copytree(finished, work, ignore=ignore)
    run("evaluate", work, "--peers", "--ablation")
    return work


def test_peers_and_ablation_change_nothing_of_the_rest(finished, everything):
    before, after = measured(finished), measured(everything)
    for name in ("window", "lists", "generators", "candidates"):
        assert after[name] == before[name]
    assert after["comparisons"].items() >= before["comparisons"].items()
    assert set(after) - set(before) == {"peers", "peer_settings", "ablation"}
    assert set(after["peers"]) == set(after["peer_settings"])
    assert len(after["peers"]) == 4


def test_the_best_single_generator_is_that_of_the_window_validation(finished):
    judged = storage.read_json(finished / "ranking.json", "jobs.rank")["ndcg@10_on_validation"]
    of_generators = {name: judged[name] for name in GENERATORS}
    found = measured(finished)
    over = found["comparisons"]["best single generator"]
    assert over["list"] == max(of_generators, key=lambda name: of_generators[name])
    ours, theirs = (
        found[kind][name]["all"]["@10"]["ndcg"]
        for kind, name in (("lists", "final list"), ("generators", over["list"]))
    )
    assert over["ratio"] == pytest.approx(ours / theirs)


def test_the_curve_of_als_passes_through_the_model_that_serves(everything):
    found = measured(everything)
    curve = found["ablation"]["als_by_epoch"]
    assert len(curve) == 2 * found["window"]["als_epochs"]
    served = found["lists"]["personal ALS"]["warm"]["@10"]["ndcg"]
    assert curve[found["window"]["als_epochs"] - 1] == pytest.approx(served, rel=1e-3)


def test_no_peer_is_chosen_by_what_the_report_window_holds_back(everything, tmp_path):
    work = shutil.copytree(everything, tmp_path / "work")
    window = work / "windows" / "test"
    held = tables.read(tables.HOLDOUT, window)
    tables.write(tables.HOLDOUT, window, held.slice(0, len(held) // 3))
    run("evaluate", work, "--peers")
    assert measured(work)["peer_settings"] == measured(everything)["peer_settings"]
    assert measured(work)["peers"] != measured(everything)["peers"]


def test_the_page_says_first_who_won_and_is_the_same_every_time(everything, tmp_path):
    page = (everything / "report" / "evaluation.html").read_text()
    text = page[page.index("<p>") : page.index("</p>")]
    for part in ("final list", "best single generator", "other models", "95 % interval"):
        assert part in text
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "nan" not in page.lower().replace("nance", "")
    work = shutil.copytree(everything, tmp_path / "work")
    run("evaluate", work, "--peers", "--ablation")
    assert (work / "report" / "evaluation.html").read_text() == page
    assert measured(work) == measured(everything)


def test_users_can_be_sampled_but_not_away(finished, tmp_path):
    work = shutil.copytree(finished, tmp_path / "work", ignore=shutil.ignore_patterns("releases"))
    run("evaluate", work, "--users", 20)
    assert measured(work)["window"]["users"] == 20
    with pytest.raises(JobError, match="--users is 0"):
        run("evaluate", work, "--users", 0)


def test_a_report_on_few_users_says_first_that_it_proves_nothing(finished, tmp_path):
    work = shutil.copytree(finished, tmp_path / "work", ignore=shutil.ignore_patterns("releases"))
    summary = run("evaluate", work, "--users", 49)
    assert summary.startswith("WARNING: Only 49 users have a label, fewer than 50: the figures")
    page = (work / "report" / "evaluation.html").read_text()
    assert page.index("prove nothing") < page.index("NDCG@10 of")
    assert run("evaluate", work, "--users", 50).startswith("NDCG@10 of 50 users")
    assert "prove nothing" not in (work / "report" / "evaluation.html").read_text()
