import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract import serving, tables
from jobs.contract.names import MAX_ID
from jobs.contract.storage import JobError
from jobs.models import hyperparameters
from jobs.releases import serving_arrays
from tests.support import releases


def lists(folder, name, ids):
    """The packed lists by the ids of their rows, in the users' own ids."""
    array = {n: np.load(folder / "serving" / f"{n}.npy") for n in serving.SERVING_ARRAYS}
    offsets, items = array[f"{name}_offsets"], array["track_ids"][array[f"{name}_items"]]
    return {
        int(row): items[offsets[i] : offsets[i + 1]].tolist() for i, row in enumerate(array[ids])
    }


@pytest.fixture
def folder(tmp_path):
    return releases.make(
        tmp_path,
        tracks=[10, 20, 30, 40],
        top=[30, 10, 20],
        final={7: [40, 10], 9: [20]},
        heard={5: [20, 10, 20], 7: [30]},
        similar={10: {20: 0.5, 40: 0.25}, 30: {10: 0.125}},
        next_played={40: [10]},
    )


def test_the_packed_lists_are_those_of_the_tables(folder):
    assert lists(folder, "recommendations", "user_ids") == {5: [], 7: [40, 10], 9: [20]}
    assert lists(folder, "history", "user_ids") == {5: [20, 10, 20], 7: [30], 9: []}
    assert lists(folder, "similar", "track_ids") == {10: [20, 40], 20: [], 30: [10], 40: []}
    assert lists(folder, "next_played", "track_ids") == {10: [], 20: [], 30: [], 40: [10]}
    assert np.load(folder / "serving/similar_scores.npy").tolist() == [0.5, 0.25, 0.125]
    assert np.load(folder / "serving/top_items.npy").tolist() == [2, 0, 1, 3]


def test_what_a_user_has_heard_is_packed_only_where_it_may_be_served(tmp_path):
    final, heard = {1: [10, 20, 30], 2: [30, 10], 3: [20]}, {1: [20, 20], 2: [10, 30]}
    packed = {}
    for rule in ("exclude", "include"):
        folder = releases.make(
            tmp_path / rule,
            tracks=[10, 20, 30], top=[10], final=final, heard=heard, heard_rule=rule,
            similar={}, next_played={},
        )  # fmt: skip
        packed[rule] = lists(folder, "recommendations", "user_ids")
    assert packed == {"exclude": {1: [10, 30], 2: [], 3: [20]}, "include": final}


def test_the_top_list_goes_on_with_unplayed_tracks_by_the_length_of_their_vectors(tmp_path):
    folder = releases.make(tmp_path, tracks=range(10, 20), top=[12], final={}, heard={}, similar={})
    with np.load(folder / "als_model.npz") as model:
        factors = model["item_factors"].copy()
    factors[[1, 2, 5]] *= 0
    np.savez(folder / "als_model.npz", user_factors=factors[:0], item_factors=factors)
    releases.pack(folder, hyperparameters.load(folder))
    lengths = np.linalg.norm(factors, axis=1)
    rest = sorted({*range(10)} - {2}, key=lambda track: (-lengths[track], track))
    assert np.load(folder / "serving/top_items.npy").tolist() == [2, *rest]


@given(st.lists(st.integers(0, MAX_ID), unique=True))
def test_texts_are_the_ids_of_a_json_list_in_pieces_of_one_size(ids):
    pieces = serving_arrays.texts(np.array(ids, np.int64)).tobytes()
    assert json.loads(b"[" + pieces[:-1] + b"]") == ids
    assert len(pieces) == len(ids) * max([len(str(i)) + 1 for i in ids], default=0)


def test_the_arrays_are_of_the_contract_and_no_others(folder):
    files = {path.stem: np.load(path).dtype for path in (folder / "serving").iterdir()}
    assert files == serving.SERVING_ARRAYS


def test_lists_cut_by_blocks_of_any_size_are_the_same(folder, monkeypatch):
    whole = {path.name: path.read_bytes() for path in (folder / "serving").iterdir()}
    batches = tables.batches
    for rows in (1, 2, 3):
        monkeypatch.setattr(tables, "batches", lambda *args, n=rows: batches(*args, n))
        releases.pack(folder, hyperparameters.load(folder))
        assert {path.name: path.read_bytes() for path in (folder / "serving").iterdir()} == whole


def test_lists_that_are_out_of_order_are_refused(folder):
    table = tables.read(tables.RECOMMENDATIONS, folder)
    tables.write(tables.RECOMMENDATIONS, folder, table.take(pa.array([1, 0, 2])))
    with pytest.raises(JobError, match=r"recommendations.parquet is not sorted by user_id, rank"):
        releases.pack(folder, hyperparameters.load(folder))


def test_a_track_that_items_lacks_is_refused(folder):
    items = tables.read(tables.ITEMS, folder)
    tables.write(tables.ITEMS, folder, items.slice(0, 3))
    with pytest.raises(JobError, match=r"has the id 40, which items.parquet lacks"):
        releases.pack(folder, hyperparameters.load(folder))


def test_names_stand_beside_their_tracks(tmp_path):
    items = pa.table(
        {
            "track_id": [10, 20, 30],
            "track_id_enc": [0, 1, 2],
            "track_name": ["Thunderstruck", None, "Кукушка"],
            **{name: [[], [], []] for name in tables.ITEMS.schema.names[3:]},
        }
    )
    tables.write(tables.ITEMS, tmp_path, items.cast(tables.ITEMS.schema))
    serving_arrays.write_names(tmp_path)
    offsets, text = (np.load(tmp_path / f"serving/names_{n}.npy") for n in ("offsets", "items"))
    names = [text[a:b].tobytes().decode() for a, b in pairwise(offsets)]
    assert names == ["Thunderstruck", "", "Кукушка"]
