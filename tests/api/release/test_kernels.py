"""The compiled loops against the plain functions of jobs.contract.blending."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from api.release import kernels, taste
from jobs.contract.blending import (
    LISTED,
    WEIGHED,
    Blending,
    Near,
    Neighbours,
    blend,
    fadings,
    fitting,
    merge_neighbours,
    near,
    offline_worth,
)

ROOT = Path(__file__).parents[3]
N_TRACKS = 12
TRACK = st.integers(0, N_TRACKS - 1)
# eighths, so that sums are exact and equal ones are equal in any order of adding
SCORE = st.integers(-8, 40).map(lambda eighths: eighths / 8)


@st.composite
def neighbours(draw):
    rows = [draw(st.lists(TRACK, unique=True, max_size=6)) for _ in range(N_TRACKS)]
    items = [track for row in rows for track in row]
    scores = draw(st.lists(SCORE, min_size=len(items), max_size=len(items)))
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Neighbours(offsets, np.array(items, np.int32), np.array(scores, np.float32))


LISTS = st.fixed_dictionaries({name: neighbours() for name in LISTED})
EVENTS = st.lists(st.integers(-1, N_TRACKS - 1), max_size=8).map(lambda e: np.array(e, np.int32))
OFFLINE = st.lists(TRACK, unique=True).map(lambda tracks: np.array(tracks, np.int32))
MASKS = st.lists(st.booleans(), min_size=N_TRACKS, max_size=N_TRACKS).map(
    lambda allowed: np.array([*allowed, True])
)
RULES = st.builds(
    Blending,
    rule=st.just("weighted"),
    sources=st.sampled_from([("similar",), ("next_played",), LISTED]),
    events=st.integers(1, 6),
    neighbours=st.integers(1, 5),
    half_life=st.sampled_from([None, 1.0]),
    similar_weight=st.sampled_from([0.0, 1.0, 2.0]),
    next_played_weight=st.sampled_from([0.5, 1.0]),
    offline_half_place=st.sampled_from([1.0]),
)
EXPONENTS = st.sampled_from([0.5, 0.75, 2.0])


def competing(lists, events, rule, mask, offline, worth):
    weights = rule.weights()
    sources = [(*lists[name], weights.get(name, 0.0)) for name in LISTED]
    fading = fadings(rule.half_life, rule.events)
    return kernels.competing(
        *sources, events[: rule.events], fading, rule.neighbours, rule.score_exponent, mask,
        offline, worth,
    )  # fmt: skip


def plain(lists, events, rule, mask, offline, worth):
    online = near(lists, events, rule, mask.take)
    gains = np.concatenate([online.gains, worth])
    return Near(np.concatenate([online.tracks, offline]), gains)


TIES = st.permutations(range(N_TRACKS)).map(lambda places: np.array([*places, -1], np.int32))


@given(LISTS, EVENTS, RULES, MASKS, OFFLINE, TIES, st.integers(1, 15))
def test_the_compiled_loops_give_the_lists_of_the_plain_functions(
    lists, events, rule, mask, offline, ties, most
):
    offline = offline[mask[offline]]
    worth = np.exp2(-np.arange(len(offline)))  # exact in sums
    found = kernels.best(*competing(lists, events, rule, mask, offline, worth), ties, most)
    expected = merge_neighbours(*plain(lists, events, rule, mask, offline, worth), ties, most)
    assert found.tolist() == expected.tolist()
    assert mask[found].all()


@given(LISTS, EVENTS, RULES, MASKS, OFFLINE, EXPONENTS)
def test_sums_are_near_those_of_the_plain_functions(lists, events, rule, mask, offline, exponent):
    rule = Blending(**{name: getattr(rule, name) for name in rule.__struct_fields__})
    rule = Blending(sources=rule.sources, events=rule.events, score_exponent=exponent)
    worth = offline_worth(rule, len(offline), len(events))
    tracks, sums = competing(lists, events, rule, mask, offline, worth)
    expected = np.zeros(N_TRACKS)
    near_tracks, gains = plain(lists, events, rule, mask, offline, worth)
    np.add.at(expected, near_tracks, np.maximum(gains, 0))
    assert sorted(tracks) == sorted({*near_tracks.tolist()})
    assert sums == pytest.approx(expected[tracks], rel=1e-6)


ALTERNATE = RULES.map(lambda rule: replace(rule, rule="alternate"))
VECTORS = np.eye(N_TRACKS, dtype=np.float16)  # of each track; a taste is what each fits by


@given(
    LISTS, EVENTS, RULES | ALTERNATE, MASKS, EVENTS, OFFLINE, OFFLINE, TIES,
    st.none() | st.lists(SCORE, min_size=N_TRACKS, max_size=N_TRACKS), st.integers(1, 15),
)  # fmt: skip
def test_a_blend_is_that_of_the_plain_functions(
    lists, events, rule, mask, out, final, top, ties, taste, k
):
    weights = rule.weights()
    brought = [(*lists[name], weights.get(name, 0.0)) for name in LISTED]
    fading = fadings(rule.half_life, rule.events)
    sources = kernels.Sources(*brought, fading, rule.neighbours, rule.score_exponent)
    fits = np.array(taste or [], np.float32)
    fold_in = kernels.FoldIn(
        np.arange(N_TRACKS, dtype=np.int32), VECTORS.view(np.uint16), fits, 1.0
    )
    worth = offline_worth(rule, WEIGHED, len(events))
    worth = worth if rule.rule == "weighted" else worth[:0]
    out, before = out[mask[out]], mask.copy()
    found = kernels.blended(
        sources, fold_in, events[: rule.events], final, top, worth, rule.rule == "alternate", out,
        mask, ties, k,
    )  # fmt: skip
    assert (mask == before).all()

    mask[out] = False
    online = near(lists, events, rule, mask.take)
    fit = (lambda tracks: np.maximum(fits[tracks], 0)) if taste else None
    expected = blend(online, [final, top], mask.take, k, rule, len(events), ties, fit)
    assert found.tolist() == expected.tolist()


@given(st.integers(1, 40), st.integers(0, 2**32 - 1), EXPONENTS)
def test_fits_are_those_of_the_plain_functions(d, seed, exponent):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((N_TRACKS - 2, d)).astype(np.float16)
    taste = rng.standard_normal(d).astype(np.float32)
    position = rng.permutation(N_TRACKS).clip(0, len(vectors)).astype(np.int32)
    tracks = rng.permutation(N_TRACKS).astype(np.int32)
    sums = np.ones(N_TRACKS)
    kernels.add_fits(tracks, sums, position, vectors.view(np.uint16), taste, 2.5, exponent)
    known = position[tracks] < len(vectors)
    scores = np.zeros(N_TRACKS, np.float32)
    scores[known] = vectors[position[tracks[known]]] @ taste
    rule = Blending(fold_in_weight=2.5, score_exponent=exponent)
    assert sums == pytest.approx(1 + fitting(scores, rule), rel=1e-3, abs=1e-3)


def test_every_finite_half_is_read_as_numpy_reads_it():
    bits = np.arange(2**16, dtype=np.uint16).reshape(-1, 1)
    bits = bits[np.isfinite(bits.view(np.float16)).ravel()]
    found = np.empty((len(bits), 1), np.float32)
    kernels.gather(bits, np.arange(len(bits), dtype=np.int32), found)
    assert (found == bits.view(np.float16)).all()
    assert (np.signbit(found) == np.signbit(bits.view(np.float16))).all()
    again = np.empty_like(found)
    taste.gather(bits, np.arange(len(bits), dtype=np.int32), again)
    assert (again == found).all()


@given(st.lists(st.tuples(st.integers(0, 99), SCORE), unique_by=lambda one: one[0]))
def test_the_best_are_the_first_of_all_sorted(pairs):
    tracks = np.array([track for track, _ in pairs], np.int32)
    sums = np.array([score for _, score in pairs], np.float64)
    ordered = [track for track, _ in sorted(pairs, key=lambda one: (-one[1], -one[0]))]
    ties = -np.arange(100, dtype=np.int32)
    for most in (0, 1, 3, len(pairs), len(pairs) + 1):
        assert kernels.best(tracks, sums, ties, most).tolist() == ordered[:most]


@pytest.mark.parametrize("before", [True, False])
@given(st.lists(st.text("ab7", max_size=9).map(lambda id: f'"{id}",')), st.data())
def test_a_list_has_the_texts_of_its_tracks_without_what_fills_them_up(before, pieces, data):
    filling, width = (" ", "\0")[not before], max(map(len, pieces), default=1)
    fill = str.rjust if before else str.ljust
    texts = np.frombuffer("".join(fill(p, width, filling) for p in pieces).encode(), np.uint8)
    places = st.integers(0, len(pieces) - 1) if pieces else st.nothing()
    drawn = data.draw(st.lists(places) if pieces else st.just([]))
    found = kernels.json_list(np.array(drawn, np.int32), texts, width, ord(filling))
    assert found.tobytes().decode() == f"[{''.join(pieces[place] for place in drawn)[:-1]}]"


BEST_OF_TWO = """
import numpy as np
from api.release import kernels, taste
tracks, ties = np.array([3, 5], np.int32), np.arange(6, dtype=np.int32)
print(kernels.best(tracks, np.array([1.0, 2.0]), ties, 1))
"""
NO_FOLDER_FOR_THE_CACHE = """
from numba.core.caching import CacheImpl
CacheImpl._locator_classes = []
"""


@pytest.mark.parametrize(
    ("script", "variables"),
    [
        (NO_FOLDER_FOR_THE_CACHE + BEST_OF_TWO, {}),
        (BEST_OF_TWO, {"NUMBA_DISABLE_JIT": "1"}),
    ],
)
def test_the_loops_work_without_a_cache_and_without_a_compiler(script, variables):
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=os.environ | variables, capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == b"[5]\n", done.stderr.decode()
