"""Numbers that stand for text ids, and the translation of tables."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract import ids, tables, text_ids
from jobs.contract.ids import assigned, flaw_of, number_of, place_of
from jobs.contract.storage import JobError
from jobs.contract.text_ids import FolderIds, Kinds, TextIds

TEXTS = st.lists(st.text(min_size=1, max_size=8).filter(lambda t: flaw_of(t) is None), unique=True)


@pytest.mark.parametrize("bits", [16, 12, 53])
def test_each_text_has_a_number_of_its_own_and_is_found_by_its_text(monkeypatch, bits):
    monkeypatch.setattr(ids, "BITS", bits)
    texts = sorted(f"user {i}".encode() for i in range(3000))
    numbers = assigned(texts)
    assert len({*numbers.tolist()}) == len(texts) and numbers.min() >= 0
    assert numbers.max() < 1 << bits
    equal = len(texts) - len({*map(number_of, texts)})
    assert (equal > 0) == (bits < 53)
    order = numbers.argsort()
    at = [texts[place] for place in order]
    for place, text in enumerate(at):
        assert place_of(text, numbers[order], lambda p, t: at[p] == t) == place
    for i in range(3000):
        assert place_of(f"nobody {i}".encode(), numbers[order], lambda p, t: at[p] == t) == -1


@given(TEXTS)
def test_numbers_do_not_depend_on_the_order_and_are_read_back_as_the_texts(texts):
    known, again = (
        TextIds.of(pa.array(texts, pa.string())),
        TextIds.of(pa.array(texts[::-1], pa.string())),
    )
    assert known.numbers.tolist() == again.numbers.tolist()
    assert known.texts.equals(again.texts)
    numbers = known.read(pa.array(texts, pa.string()))
    assert known.written(numbers).to_pylist() == texts
    assert known.read(pa.array(["\t", *texts], pa.string())).to_pylist()[0] == ids.MISSING
    some = ["\t", *texts[::3], *texts[::3]]
    assert known.written(known.read(pa.array(some))[1:]).to_pylist() == some[1:]


@given(TEXTS.filter(len), st.data())
def test_tables_have_texts_in_files_and_numbers_in_jobs(tmp_path_factory, texts, data):
    folder = tmp_path_factory.mktemp("work")
    users, tracks = TextIds.of(pa.array(texts)), TextIds.of(pa.array([f"{t}!" for t in texts]))
    text_ids.write(folder, FolderIds(users, tracks))
    place = st.integers(0, len(texts) - 1)
    rows = data.draw(st.lists(st.tuples(place, place), min_size=1, max_size=20).map(sorted))
    ranked = pa.table(
        {
            "user_id": users.numbers[[user for user, _ in rows]],
            "track_id": tracks.numbers[[track for _, track in rows]],
            "rank": range(len(rows)),
            "score": [0.5] * len(rows),
        }
    )
    tables.write(tables.RECOMMENDATIONS, folder, ranked)
    stored = pq.read_table(folder / tables.RECOMMENDATIONS.file)
    assert stored.schema.types[:2] == [pa.string(), pa.string()]
    assert stored["user_id"].to_pylist() == [users.texts[user].as_py() for user, _ in rows]
    read = tables.read(tables.RECOMMENDATIONS, folder)
    assert read["track_id"].to_pylist() == ranked["track_id"].to_pylist()
    batches = tables.batches(tables.RECOMMENDATIONS, folder, ["user_id"], rows=3)
    found = [number for batch in batches for number in batch["user_id"].to_pylist()]
    assert found == ranked["user_id"].to_pylist()
    metadata = pq.read_metadata(folder / tables.RECOMMENDATIONS.file)
    assert tables.bounds_of_groups(metadata) == [[found[0], found[-1]]]


def test_batches_have_the_numbers_of_their_own_row_group(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_A_GROUP", 4)
    known = TextIds.of(pa.array([f"t{i}" for i in range(9)]))
    text_ids.write(tmp_path, FolderIds(None, known))
    tracks = known.numbers[[0, 1, 0, 1, 2, 1, 2, 1, 8, 7, 8, 7, 7, 8, 7, 8]]
    tables.write(tables.SONGS, tmp_path, pa.table({"track_id": tracks, "song_id": tracks[::-1]}))
    for rows in (1, 3, 4, 100):
        batches = [*tables.batches(tables.SONGS, tmp_path, ["song_id", "track_id"], rows)]
        for name, expected in (("track_id", tracks), ("song_id", tracks[::-1])):
            found = [number for batch in batches for number in batch[name].to_pylist()]
            assert found == expected.tolist()


def test_ids_of_another_run_are_named(tmp_path):
    known = TextIds.of(pa.array(["a", "b"]))
    text_ids.write(tmp_path, FolderIds(None, known))
    rows = {"track_id": known.numbers, "song_id": known.numbers}
    tables.write(tables.SONGS, tmp_path, pa.table(rows))
    text_ids.write(tmp_path, FolderIds(None, TextIds.of(pa.array(["a", "c"]))))
    with pytest.raises(
        JobError, match=r"songs\.parquet has a track_id .* come from different runs"
    ):
        tables.read(tables.SONGS, tmp_path)
    text_ids.write(tmp_path, FolderIds())
    with pytest.raises(JobError, match="has the columns track_id string"):
        tables.read(tables.SONGS, tmp_path)
    assert text_ids.kinds_of(tmp_path) == Kinds()
