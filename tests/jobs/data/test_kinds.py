"""Rows of the interactions that are skips, likes or dislikes, and how much was played."""

import json
from datetime import timedelta
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.contract import storage, tables
from jobs.contract.storage import JobError
from jobs.data import feedback, holdout, listens
from jobs.data.feedback import KINDS
from jobs.data.listens import Listens
from jobs.models.als_training import training_weights
from jobs.models.hyperparameters import Hyperparameters
from tests.support.inputs import JAN, content, interactions, names, reasons, rows, run, save, tracks
from tests.support.markdown import Page, table
from tests.support.workspace import NOW, START
from tests.support.workspace import run as run_job

DOCS = Page.read(Path(__file__).parents[3] / "docs/your-data.md")
USER, TRACK = 1, 99
WEIGHING = Hyperparameters(als_like_weight=3.0, als_by_share=True)
Row = tuple[int, int, float, str | None, float | None]  # user, track, days, kind, share


def others() -> list[Row]:
    """Listens of ten users, a day of each for 100 days, none of them of TRACK."""
    return [(1 + day % 10, day % 7, day, None, None) for day in range(100)]


def prepared(work: Path, played: list[Row], **more) -> Listens:
    user, track, day, kind, share = zip(*played, strict=True)
    columns = {
        "user_id": user, "track_id": track, "kind": pa.array(kind, pa.string()),
        "started_at": [START + timedelta(days=float(d)) for d in day],
        "played_share": pa.array(share, pa.float64()),
    }  # fmt: skip
    known = pa.table({"track_id": [*range(7), TRACK], "artists": [[]] * 8, "genres": [[]] * 8})
    names = pa.table({"id": [0], "type": ["track"], "name": ["0"]})
    tables_ = {"tracks": known, "catalog_names": names} | more
    save(work / "in", interactions=pa.table(columns), **tables_)
    run_job("prepare", work, "--data", work / "in", "--now", NOW)
    return listens.load(work)


# kind and share of one row: counts as heard, trains, is a label, is kept out
TABLE = {
    ("listen", None): (True, True, True, False),
    (None, 0.5): (True, True, True, False),
    ("listen", 0.499): (False, False, False, False),
    ("skip", 1.0): (False, False, False, False),
    ("like", None): (False, True, False, False),
    ("unlike", None): (False, False, False, False),
    ("dislike", None): (False, False, False, True),
    ("undislike", None): (False, False, False, False),
}


@pytest.mark.parametrize(("row", "facts"), TABLE.items())
def test_a_row_counts_as_the_table_of_the_docs_says(tmp_path, row, facts):
    # somebody else plays the track, since a like weighs only if anybody has played it
    played = [*others(), (2, TRACK, 0.5, None, None)]
    in_past, in_holdout = (
        prepared(tmp_path / str(day), [*played, (USER, TRACK, day, *row)]) for day in (1.5, 95.5)
    )
    place = 0, in_past.shape[1] - 1
    assert in_past.shape == in_holdout.shape
    run_job("windows", tmp_path / "95.5", "--split", "time")
    window = tmp_path / "95.5/windows/test"
    later = holdout.read(window, listens.load(window), "exclude")
    labels = {
        (int(later.user_ids[user]), int(in_past.track_ids[item]))
        for user, item in zip(*later.labels.nonzero(), strict=True)
    }
    found = (
        in_past.pairs()[place] > 0,
        training_weights(in_past, WEIGHING)[place] > 0,
        (USER, TRACK) in labels,
        in_past.kept_out("include")[place] > 0,
    )
    assert found == facts
    kind, share = row
    name = "skip" if kind == "skip" or (share or 1) < 0.5 else kind or "listen"
    in_docs = table(DOCS.section("Skips, likes and dislikes"))[name]
    assert tuple(cell.startswith("yes") for cell in in_docs[:4]) == facts


@pytest.mark.parametrize("opposite", [True, False])
@pytest.mark.parametrize("kind", ["like", "dislike"])
def test_the_last_of_a_pair_counts_whatever_the_order_of_the_rows(tmp_path, kind, opposite):
    said = [(USER, TRACK, 3.5, kind, None), (USER, TRACK, 2.5, f"un{kind}", None)]
    if opposite:
        said = [(*row[:2], 6 - row[2], *row[3:]) for row in said]
    found = prepared(tmp_path, [*others(), (2, TRACK, 1, None, None), *said])
    matrix = found.liked if kind == "like" else found.disliked
    assert matrix is not None
    assert (matrix[0, found.shape[1] - 1] > 0) == (not opposite)


def test_a_like_takes_no_dislike_back_and_a_listen_stays_heard(tmp_path):
    said = [(USER, TRACK, d, kind, None) for d, kind in ((1, None), (2, "dislike"), (3, "like"))]
    found = prepared(tmp_path, [*others(), *said])
    place = 0, found.shape[1] - 1
    assert found.disliked is not None and found.liked is not None
    assert (found.disliked[place], found.liked[place], found.pairs()[place]) == (1, 0, 1)


def test_equal_times_are_in_the_order_of_the_rows(tmp_path):
    said = [(USER, TRACK, 1, kind, None) for kind in ("dislike", "undislike", "dislike")]
    found = prepared(tmp_path, [*others(), *said])
    assert found.disliked is not None and found.disliked.nnz == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(KINDS[2:]))))
def test_what_stands_is_what_a_plain_walk_through_the_rows_finds(said):
    likes, dislikes = set[tuple[int, int]](), set[tuple[int, int]]()
    for user, track, kind in said:
        pairs = likes if kind.endswith("like") and "dis" not in kind else dislikes
        (pairs.discard if kind.startswith("un") else pairs.add)((user, track))
    order = sorted(range(len(said)), key=lambda i: said[i][:2])
    user, track, code = (
        np.array([column(said[at]) for at in order], int)
        for column in (itemgetter(0), itemgetter(1), lambda row: KINDS.index(row[2]))
    )
    found_in = feedback.Feedback(user, track, np.array(order, int), code)
    for code, pairs in ((feedback.LIKE, likes), (feedback.DISLIKE, dislikes)):
        found = found_in.standing(code, (3, 3), None)
        assert {*zip(*(axis.tolist() for axis in found.nonzero()), strict=True)} == pairs


def test_a_dislike_of_one_id_of_a_song_holds_for_all(tmp_path):
    same = tracks(artists=[[1], [1], [2]])
    titles = names(id=[10, 20, 30, 1, 2], type=["track"] * 3 + ["artist"] * 2,
                   name=["Zombie", "Zombie (Remastered)", "Other", "A", "B"])  # fmt: skip
    table = interactions(kind=["listen", "listen", "dislike", "listen"])  # 3 dislikes 10
    run(save(tmp_path / "in", tracks=same, catalog_names=titles, interactions=table), tmp_path)
    found = listens.load(tmp_path)
    assert found.disliked is not None
    shown = {int(found.track_ids[item]) for item in found.item}
    disliked = {int(found.track_ids[item]) for item in found.disliked.indices}
    assert len(shown) == 1 and disliked == shown


def test_milliseconds_are_a_share_of_the_duration(tmp_path):
    table = interactions(played_ms=["499", "500", "9e9", ""])
    data = save(tmp_path / "in", interactions=table, tracks=tracks(duration_ms=[500, 1000, None]))
    run(data, tmp_path)
    assert [row[:2] for row in rows(tables.LISTENS, tmp_path)] == [(1, 10), (1, 20), (3, 10)]
    shares = [share for (share,) in rows(tables.SHARES, tmp_path)]
    assert shares == [1.0, pytest.approx(np.nan, nan_ok=True), 1.0]
    found = json.loads((tmp_path / "kinds.json").read_text())
    assert (found["rows"]["skip"], found["skips_by_share"], found["shares"]) == (1, 1, 2)


def test_skip_under_says_which_listen_is_a_skip(tmp_path):
    data = save(tmp_path / "in", interactions=interactions(played_share=[0.2, 0.4, 0.6, None]))
    for under, kept in (("0", 4), ("0.3", 3), ("0.5", 2), ("1", 1)):
        summary = run(data, tmp_path, "--skip-under", under)
        assert f": {kept} listens of" in summary
    with pytest.raises(SystemExit):
        run(data, tmp_path, "--skip-under", "50")


def test_bad_kinds_and_shares_are_quarantined_with_their_reason(tmp_path):
    table = interactions(
        kind=["Listen", "heard", None, "listen"],
        played_share=["1", "1", "1.01", ""],
        played_ms=[-1.0, None, None, None],
    )
    data = save(tmp_path / "in", interactions=table, tracks=tracks(duration_ms=["0", "x", "7"]))
    run(data, tmp_path, "--max-bad-share", "1")
    name = "interactions.parquet"
    assert reasons(tmp_path) == [
        (name, 0, "played_ms is not a number from 0 on"),
        (name, 1, "kind is none of listen, skip, like, unlike, dislike, undislike"),
        (name, 2, "played_share is not a number from 0 to 1"),
        ("tracks.parquet", 0, "duration_ms is not a number above 0, and was left out"),
        ("tracks.parquet", 1, "duration_ms is not a number above 0, and was left out"),
    ]


def test_without_a_listen_among_the_rows_the_job_says_what_there_is(tmp_path):
    data = save(tmp_path / "in", interactions=interactions(kind=["skip", "like", "skip", "skip"]))
    with pytest.raises(JobError, match="holds no listen, only 3 skips, 1 likes: add listens"):
        run(data, tmp_path)
    assert [*tmp_path.iterdir()] == [data]


def test_rows_that_are_all_listens_give_the_same_files_as_rows_without_a_kind(tmp_path):
    plain = save(tmp_path / "plain", interactions=interactions())
    said = save(tmp_path / "said", interactions=interactions(kind=["listen", None, "", "Listen"]))
    run(plain, tmp_path / "a")
    run(said, tmp_path / "b")
    kinds = content(tmp_path / "b").pop("kinds.json")
    assert json.loads(kinds)["rows"]["listen"] == 4
    assert content(tmp_path / "a") | {"kinds.json": kinds} == content(tmp_path / "b")


def test_files_of_an_earlier_run_with_kinds_go_when_the_columns_go(tmp_path):
    table = interactions(kind=["listen", "listen", "dislike", "listen"], played_share=[1.0] * 4)
    run(save(tmp_path / "in", interactions=table), tmp_path / "work")
    made = {"feedback.parquet", "shares.parquet", "kinds.json"}
    assert made <= content(tmp_path / "work").keys()
    run(save(tmp_path / "in"), tmp_path / "work")
    assert not made & content(tmp_path / "work").keys()


def test_users_whose_ids_are_text_may_be_known_by_a_dislike_only(tmp_path):
    ids = {"user_id": ["a", "b", "b", "c"], "track_id": ["x", "x", "y", "y"]}
    table = interactions(**ids, kind=["listen", "skip", "dislike", "skip"])
    run(
        save(tmp_path / "in", interactions=table, tracks=tracks(track_id=["x", "y", "z"])), tmp_path
    )
    said = pq.read_table(tmp_path / "feedback.parquet").to_pylist()
    assert said == [{"user_id": "b", "track_id": "y", "at": JAN[0], "kind": "dislike"}]
    ids = pq.read_table(tmp_path / "user_ids.parquet")["id"].to_pylist()
    assert sorted(ids) == ["a", "b"]


@pytest.mark.parametrize("split", ["time", "user"])
def test_a_window_knows_what_was_said_up_to_its_cut_only(tmp_path, split):
    told = [
        *((u, 3, 20.25 + u / 50, "dislike", None) for u in range(1, 4)),
        *((u, 4, 20.25 + u / 50, "like", None) for u in range(1, 6)),
        (1, 5, 97.25, "dislike", None),
    ]
    shares = [(*row[:4], 0.5 + row[2] / 300) for row in others()]
    prepared(tmp_path / "a", [*shares, *told])
    # another future: what is told after the last cut is gone, and other things are told
    late = [(2, 6, 97.25, "dislike", None), (3, 3, 98.25, "undislike", None)]
    changed = [(*row[:4], row[4] if row[2] < 80 else 0.9) for row in shares]
    prepared(tmp_path / "b", [*changed, *told[:-1], *late])
    for work in ("a", "b"):
        run_job("windows", tmp_path / work, "--split", split)
    for window in ("train", "validation", "test"):
        a, b = (content(tmp_path / work / "windows" / window) for work in ("a", "b"))
        last = max(at for _, _, at, _ in rows(tables.LISTENS, tmp_path / "a/windows" / window))
        told_until = [at for _, _, at, _ in rows(tables.FEEDBACK, tmp_path / "a/windows" / window)]
        assert len(told_until) == 8 and max(told_until) < last
        assert a["feedback.parquet"] == b["feedback.parquet"]
        if split == "time" and last < START + timedelta(days=80):
            assert a["shares.parquet"] == b["shares.parquet"]
            training = [
                training_weights(listens.load(tmp_path / work / "windows" / window), WEIGHING)
                for work in ("a", "b")
            ]
            assert (training[0] != training[1]).nnz == 0


def test_a_track_that_is_disliked_by_the_end_of_the_holdout_is_not_held_out(tmp_path):
    held = [(1, TRACK, 92, None, None), (2, TRACK, 93, None, None), (3, TRACK, 94, None, None)]
    said = [
        (1, TRACK, 92.5, "dislike", None),
        (2, TRACK, 50, "dislike", None),
        (2, TRACK, 92.5, "undislike", None),
    ]
    prepared(tmp_path, [*others(), *held, *said])
    run_job("windows", tmp_path, "--split", "time")
    window = tmp_path / "windows/test"
    assert [user for user, track, _, _ in rows(tables.HOLDOUT, window) if track == TRACK] == [2, 3]
    past = listens.load(window)
    assert past.disliked is not None
    assert past.disliked.nonzero()[0].tolist() == [1]  # user 2, at the time of the cut


def test_shares_and_listens_of_different_runs_are_refused(tmp_path):
    table = interactions(played_share=[1.0] * 4)
    run(save(tmp_path / "in", interactions=table), tmp_path)
    tables.write(tables.SHARES, tmp_path, pa.table({"played_share": [1.0]}))
    with pytest.raises(JobError, match=r"shares\.parquet has 1 rows, but listens\.parquet has 4"):
        listens.load(tmp_path)


def test_a_pair_weighs_by_its_mean_share_and_by_a_like(tmp_path):
    played = [(USER, 5, 1.0, None, 1.0), (USER, 5, 2.0, None, 0.5), (USER, 6, 3.0, None, None)]
    said = [(USER, 6, 4.0, "like", None), (USER, TRACK, 4.0, "like", None)]
    found = prepared(tmp_path, [*played, *said])
    plain = training_weights(found, Hyperparameters()).toarray()[0, 5:]
    assert plain.tolist() == [1, 1, 0]
    weighed = training_weights(found, WEIGHING).toarray()[0, 5:]
    assert weighed.tolist() == [0.75, 4, 0]  # nobody has played the last one


def test_settings_without_likes_or_shares_have_the_keys_of_before(tmp_path):
    from jobs.models import hyperparameters

    hyperparameters.save(tmp_path, Hyperparameters())
    keys = storage.read_json(tmp_path / "settings.json", "jobs.tune").keys()
    assert not {"als_like_weight", "als_by_share"} & keys
    assert hyperparameters.load(tmp_path) == Hyperparameters()
    hyperparameters.save(tmp_path, WEIGHING)
    assert hyperparameters.load(tmp_path) == WEIGHING
