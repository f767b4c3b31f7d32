"""The neighbours of tracks: equal directions, and catalogues too large to compare all with all."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract import storage, tables
from jobs.contract.names import ALS_MODEL, SPLIT
from jobs.contract.results import Split
from jobs.contract.top_k import NOTHING
from jobs.models import neighbours
from jobs.models.directions import TOLERANCE, Directions
from tests.support.ties import split_mix
from tests.support.workspace import lists, rows, run, save_listens

TRACKS = 3000


def save_vectors(work, vectors):
    """A folder with these track vectors (n, d), for tracks 1 … n."""
    save_listens(work, [(1, 1, 0)], tracks=range(1, len(vectors) + 1))
    users = np.ones((1, vectors.shape[1]), np.float32)
    np.savez(work / ALS_MODEL, user_factors=users, item_factors=vectors.astype(np.float32))
    return work


def unit_vectors(vectors):
    """The same directions with a length of 1, (n, d) float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(seed, n=TRACKS, d=8):
    """Vectors around 40 centres, no two of one direction."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, d))[rng.integers(0, 40, n)] + rng.normal(size=(n, d))


def tied(seed, n=TRACKS, d=8, directions=400):
    """Vectors of few directions, with lengths and roundings of their own; and the directions."""
    rng = np.random.default_rng(seed)
    of_track = np.append(np.arange(directions), rng.integers(0, directions, n - directions))
    rng.shuffle(of_track)
    exact = unit_vectors(clustered(seed, directions, d))[of_track]
    rounded = exact * (1 + rng.normal(size=exact.shape) * 1e-7)
    return rounded * rng.lognormal(size=(n, 1)), of_track


def read_scores(work):
    """{track: [(neighbour, score), …]} of similar.parquet, by rank."""
    result: dict[int, list[tuple[int, float]]] = {}
    for track, near, rank, score in rows(tables.SIMILAR, work):
        result.setdefault(track, []).append((near, score))
        assert rank == len(result[track])
    return result


def test_in_a_large_catalogue_nearly_all_neighbours_are_found_by_any_number_of_threads(
    tmp_path, monkeypatch
):
    save_vectors(tmp_path, clustered(0))
    run("similar", tmp_path)
    expected = lists(tables.SIMILAR, tmp_path)
    monkeypatch.setattr(neighbours, "MOST_COMPARED", 2000)
    monkeypatch.setattr(neighbours, "MOST_VISITED", 1.0)
    made = set()
    for threads in (1, 2):
        monkeypatch.setattr("os.cpu_count", lambda n=threads: n)
        summary = run("similar", tmp_path)
        made.add((tmp_path / tables.SIMILAR.file).read_bytes())
    assert len(made) == 1
    found = lists(tables.SIMILAR, tmp_path)
    assert {len(near) for near in found.values()} == {100}
    assert not any(track in near for track, near in found.items())
    shares = [len({*found[track]} & {*near}) / 100 for track, near in expected.items()]
    printed = float(re.search(r"recall@100 (\S+) by \d+ of 109 cells", summary)[1])
    assert np.mean(shares) == pytest.approx(printed, abs=0.01)
    assert np.mean(shares) > 0.98
    storage.write_json(tmp_path / SPLIT, Split("time", "", 0.1, 0, 0.1, ""))
    fewer = float(re.search(r"recall@100 (\S+) by", run("similar", tmp_path))[1])
    assert 0.8 < fewer < printed


def test_neighbours_found_by_cells_are_in_the_order_of_their_cosines(tmp_path, monkeypatch):
    vectors = clustered(1)
    save_vectors(tmp_path, vectors)
    monkeypatch.setattr(neighbours, "MOST_COMPARED", 2000)
    monkeypatch.setattr(neighbours, "MOST_VISITED", 1.0)
    assert "cells" in run("similar", tmp_path)
    unit = unit_vectors(vectors)
    for track, near in read_scores(tmp_path).items():
        scores = [score for _, score in near]
        assert scores == sorted(scores, reverse=True)
        cosines = unit[[other - 1 for other, _ in near]] @ unit[track - 1]
        np.testing.assert_allclose(scores, cosines, atol=1e-5)


def test_where_cells_would_cost_more_all_are_compared(tmp_path, monkeypatch):
    save_vectors(tmp_path, np.random.default_rng(0).normal(size=(TRACKS, 32)))  # no clusters
    run("similar", tmp_path)
    expected = (tmp_path / tables.SIMILAR.file).read_bytes()
    monkeypatch.setattr(neighbours, "MOST_COMPARED", 2000)
    assert run("similar", tmp_path) == "300,000 rows for 3,000 tracks, exact"
    found = read_scores(tmp_path)
    (tmp_path / tables.SIMILAR.file).write_bytes(expected)
    for track, near in read_scores(tmp_path).items():
        scores, others = ([score for _, score in some] for some in (near, found[track]))
        np.testing.assert_allclose(others, scores, atol=1e-5)


@pytest.mark.parametrize("how", ["compared", "cells"])
def test_tracks_of_one_direction_have_one_list_with_equal_scores_by_tie(how, tmp_path, monkeypatch):
    vectors, of_track = tied(2)
    save_vectors(tmp_path, vectors)
    monkeypatch.setattr(neighbours, "MOST_COMPARED", 2000 if how == "compared" else 100)
    monkeypatch.setattr(neighbours, "MOST_VISITED", 1.0)
    monkeypatch.setattr(neighbours, "ENOUGH", 0.9999)
    summary = run("similar", tmp_path)
    assert summary.endswith("of 400 directions")
    assert ("cells" in summary) == (how == "cells")
    unit = unit_vectors(vectors).astype(float)
    short = 0
    for track, near in read_scores(tmp_path).items():
        others, scores = zip(*near, strict=True)
        assert len({*others}) == 100 and track not in others
        assert list(near) == sorted(near, key=lambda pair: (-pair[1], split_mix(pair[0])))
        cosines = unit @ unit[track - 1]
        cosines[track - 1] = -2
        np.testing.assert_allclose(scores, cosines[np.array(others) - 1], atol=1e-5)
        short += not np.allclose(scores, np.sort(cosines)[::-1][:100], atol=1e-5)
        by_direction: dict[int, set[float]] = {}
        for other, score in near:
            by_direction.setdefault(int(of_track[other - 1]), set()).add(score)
        assert {len(values) for values in by_direction.values()} == {1}
    assert short <= (0 if how == "compared" else 0.01 * TRACKS)


@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 40))
def test_directions_are_those_of_the_vectors_whatever_their_lengths(seed, n, directions):
    directions = min(n, directions)
    vectors, of_track = tied(seed, n, 4, directions)
    unit = unit_vectors(vectors)
    found = Directions.of(unit)
    assert len(found) == directions
    for i, vector in enumerate(found.vectors):
        tracks = found.tracks[found.offsets[i] : found.offsets[i + 1]]
        assert tracks.tolist() == sorted(tracks) == np.flatnonzero(found.of_track == i).tolist()
        assert len({*of_track[tracks].tolist()}) == 1
        assert np.array_equal(vector, unit[tracks[0]])
        assert np.linalg.norm(unit[tracks] - vector, axis=1).max() <= TOLERANCE
    assert (np.diff(found.tracks[found.offsets[:-1]]) > 0).all()  # in the order of first tracks


def test_vectors_of_the_same_bytes_are_one_direction():
    unit = unit_vectors(np.random.default_rng(0).normal(size=(50, 16)))
    assert len(Directions.of(np.repeat(unit, 30, axis=0))) == 50


@given(st.data())
def test_a_list_of_directions_becomes_the_best_tracks_by_score_then_track(data):
    of_track = np.array(data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=30)))
    _, first = np.unique(of_track, return_index=True)
    renumbered = np.argsort(np.argsort(first))  # by first track
    of_track = renumbered[np.unique(of_track, return_inverse=True)[1]].astype(np.int32)
    m, k = len(first), data.draw(st.integers(1, 12))
    directions = Directions(
        np.zeros((m, 2), np.float32),
        of_track,
        np.argsort(of_track, kind="stable").astype(np.int32),
        np.searchsorted(np.sort(of_track), np.arange(m + 1)),
    )
    scores = np.array(data.draw(st.lists(st.integers(0, 3), min_size=m, max_size=m)), np.float32)
    best = np.lexsort((np.arange(m), -scores))[:k]
    items, values = np.full((1, k), NOTHING, np.int32), np.full((1, k), -np.inf, np.float32)
    items[0, : len(best)], values[0, : len(best)] = best, scores[best]
    tracks, found = directions.expand((items, values))
    expected = sorted(range(len(of_track)), key=lambda track: (-scores[of_track[track]], track))[:k]
    filled = [NOTHING] * (k - len(expected))
    assert tracks[0].tolist() == expected + filled
    assert found[0].tolist() == [*scores[of_track[expected]], *[-np.inf] * len(filled)]
