"""The whole line of jobs on input with skips, likes and dislikes: what no list may have."""

import shutil
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from api.release.catalog import Catalog
from api.release.recommender import Recommender
from jobs.contract import storage, tables
from jobs.contract.names import CURRENT
from jobs.contract.top_k import NOTHING
from jobs.evaluation.evaluator import Evaluator
from jobs.selection import replay_sessions
from tests.support.workspace import lists, run_line

FINAL_LISTS = (tables.PERSONAL_ALS, tables.RECOMMENDATIONS)
DISLIKES = 5  # of each user
NEWCOMERS = range(10**7, 10**7 + 20)  # users who dislike tracks long before their first listen


def with_kinds(played: pa.Table) -> pa.Table:
    """The sample's listens with shares, skips, and likes and dislikes in the second half.

    Each user dislikes some of the tracks that most people play, and takes one dislike back.
    """
    rng = np.random.default_rng(0)
    n = len(played)
    kind = np.where(rng.random(n) < 0.05, "skip", "listen")
    played = played.select(["user_id", "track_id", "started_at"])
    played = played.append_column("kind", pa.array(kind))
    played = played.append_column("played_share", pa.array(0.3 + 0.7 * rng.random(n)))
    best = played["track_id"].value_counts()
    best = pc.struct_field(best, "values").to_numpy()[
        np.argsort(-pc.struct_field(best, "counts").to_numpy())
    ][:40]
    first, last = (pc.min_max(played["started_at"])[end].as_py() for end in ("min", "max"))
    rows = []
    for user in played["user_id"].unique().to_pylist():
        tracks = rng.choice(best, DISLIKES + 1, replace=False).tolist()
        when = sorted(first + (last - first) * x for x in rng.uniform(0.5, 1, DISLIKES + 2))
        said = ["like", *["dislike"] * DISLIKES, "undislike"]
        rows += zip([user] * len(said), [*tracks, tracks[1]], when, said, strict=True)
    for user in NEWCOMERS:
        said = [("dislike", track, first + (last - first) * 0.5) for track in best[:3].tolist()]
        heard = [("listen", track, last) for track in best[5:12].tolist()]
        rows += [(user, track, when, kind) for kind, track, when in said + heard]
    shares = [1.0 if row[3] == "listen" else None for row in rows]
    columns = [*zip(*rows, strict=True), shares]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, played.schema, strict=True)]
    return pa.concat_tables([played, pa.table(arrays, schema=played.schema)])


def disliked(played: pa.Table, until: datetime) -> dict[int, set[int]]:
    """What each user dislikes at a moment, by a plain walk through the rows."""
    result: dict[int, set[int]] = {}
    for row in sorted(played.to_pylist(), key=lambda row: row["started_at"]):
        own = result.setdefault(row["user_id"], set())
        if row["started_at"] < until and row["kind"] == "dislike":
            own.add(row["track_id"])
        elif row["started_at"] < until and row["kind"] == "undislike":
            own.discard(row["track_id"])
    return result


@pytest.mark.parametrize("heard", ["exclude", "include"])
def test_no_list_and_no_answer_has_a_disliked_track(sample, tmp_path, heard):
    data = shutil.copytree(sample, tmp_path / "in")
    played = with_kinds(pq.read_table(sample / "interactions.parquet"))
    pq.write_table(played, data / "interactions.parquet")
    work = tmp_path / "work"
    tune = ["--heard", heard, "--tune", "quick" if heard == "exclude" else "off"]
    run_line(data, work, tune=tune)
    split = storage.read_json(work / "windows/test/split.json", "jobs.windows")
    cut = datetime.fromisoformat(split["cut"]).replace(tzinfo=None)
    end = played["started_at"].to_pylist()[-1] + timedelta(days=9999)
    for folder, until in ((work, end), (work / "windows/test", cut)):
        out = disliked(played, until)
        assert sum(map(len, out.values())) > 100
        for table in FINAL_LISTS:
            found = lists(table, folder)
            assert not any(out[user].intersection(tracks) for user, tracks in found.items())
    later = Evaluator.read(work / "windows/test", 10_000)
    out, newcomers = disliked(played, cut), set(later.later.user_ids[~later.warm].tolist())
    assert newcomers.issuperset(NEWCOMERS)
    track_ids = later.snapshot.data.track_ids
    for user, top in zip(later.later.user_ids, later.top, strict=True):
        assert not out[user].intersection(track_ids[top[top != NOTHING]].tolist())
    sessions = replay_sessions.read(work / "windows/test", heard, 100_000)
    assert newcomers.issubset(sessions.user_ids.tolist())
    for user, tracks in zip(sessions.user_ids, sessions.heard, strict=True):
        assert out[user].issubset(track_ids[tracks].tolist())
    listened = {tuple(row.values()) for row in pairs(played)}
    kept = {tuple(row.values()) for row in pairs(tables.read(tables.LISTENS, work))}
    assert kept == listened
    settings = storage.read_json(work / "settings.json", "jobs.tune")
    assert ("als_like_weight" in settings) == ("als_by_share" in settings) == (heard == "exclude")
    recommender = Recommender(Catalog((work / CURRENT).resolve(), {}), 5)
    top = recommender.catalog.ids(recommender.catalog.top(40))
    for user, tracks in disliked(played, end).items():
        row = recommender.catalog.row(user)
        for events in ((), (top[0],), tuple(tracks)):
            for found in (
                recommender.recommended(row, 300, events),
                recommender.online(row, 100, 100, events),
            ):
                assert not tracks.intersection(recommender.catalog.ids(found))


def pairs(played: pa.Table) -> list[dict[str, int]]:
    """Users and tracks of what was listened to."""
    if "kind" in played.column_names:
        heard = pc.and_(
            pc.equal(played["kind"], "listen"), pc.greater_equal(played["played_share"], 0.5)
        )
        played = played.filter(heard)
    return played.select(["user_id", "track_id"]).to_pylist()
