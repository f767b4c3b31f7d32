"""jobs.prepare: other names of columns, times that are numbers, and forms of CSV by option."""

import gzip
from datetime import datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.contract.storage import JobError
from jobs.contract.tables import LISTENS
from jobs.data import raw_files
from jobs.data.raw_files import MISSING, OUT_OF_RANGE, TICKS
from tests.support.inputs import JAN, content, interactions, reasons, rows, run, save, tracks

EPOCH = datetime(1970, 1, 1)
NAMES = "interactions.user_id=uid,interactions.track_id=item,interactions.started_at=ts"


def listens(work):
    return [row[:3] for row in rows(LISTENS, work)]


def test_a_packed_csv_with_other_names_and_seconds_takes_one_command(tmp_path):
    data = save(tmp_path / "in")
    run(data, tmp_path / "expected")
    (data / "interactions.parquet").unlink()
    lines = ["uid,item,ts"]
    for user, track, _, at in zip(*interactions().to_pydict().values(), strict=True):
        lines.append(f"{user},{track},{(at - EPOCH).total_seconds():.0f}")
    (data / "interactions.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    run(data, tmp_path / "work", "--columns", NAMES, "--time-unit", "s")
    assert listens(tmp_path / "work") == listens(tmp_path / "expected")


def test_columns_that_are_named_in_several_options_add_up(tmp_path):
    data = save(tmp_path / "in", interactions=interactions().rename_columns(["u", "i", "q", "at"]))
    more = ["--columns", "interactions.user_id=u", "--columns", "interactions.track_id=i"]
    run(data, tmp_path / "work", *more, "--columns", "interactions.started_at=at")
    run(save(tmp_path / "plain"), tmp_path / "expected")
    assert [row[:3] for row in rows(LISTENS, tmp_path / "work")] == [
        row[:3] for row in rows(LISTENS, tmp_path / "expected")
    ]


def test_columns_of_any_input_may_have_other_names(tmp_path):
    data = save(tmp_path / "in")
    run(data, tmp_path / "expected")
    renamed = tracks().rename_columns({"track_id": "id", "genres": "track_id"})
    pq.write_table(renamed, data / "tracks.parquet")
    options = "tracks.track_id=id,tracks.genres=track_id,catalog_names.id=id"
    run(data, tmp_path / "work", "--columns", options)
    assert content(tmp_path / "work") == content(tmp_path / "expected")
    with pytest.raises(JobError, match=r"tracks.parquet has no column nr: found id"):
        run(data, tmp_path / "work", "--columns", "tracks.track_id=nr,tracks.genres=albums")


@given(st.data(), st.sampled_from(["s", "ms", "us"]), st.integers(-(10**10), 10**10))
@example(None, "s", 0)
def test_numbers_of_any_type_count_from_the_origin(data, unit, second):
    ticks, origin = TICKS[unit], second * 10**6
    offset = -second * ticks + (data.draw(st.integers(0, 10**9)) * ticks if data else 5)
    expected = (offset * 10**6 // ticks + origin, 0)
    forms = [
        pa.array([offset, None]),
        pa.array([str(offset), None]),
        pa.array([float(offset), None]),
        pa.array([Decimal(offset), None]),
        pa.array([offset, None]).dictionary_encode(),
        pa.array([str(offset), None]).dictionary_encode(),
    ]
    for column in forms:
        values, flaws = raw_files.times(column, unit, origin)
        assert [*zip(values.tolist(), flaws.tolist(), strict=True)] == [expected, (0, MISSING)]


def test_numbers_with_a_part_and_dates_may_stand_in_one_column_of_text():
    column = pa.array(["1.25", "2022-01-01", "-1", "1e9", "", None, "9" * 30])
    values, flaws = raw_files.times(column, "s")
    assert values.tolist()[:2] == [1_250_000, (JAN[0] - EPOCH) // timedelta(microseconds=1)]
    flaw = [raw_files.TIME_FLAWS[f - 1] if f else "" for f in flaws]
    assert flaw[2:] == [
        "is not between 1970 and 2099", "is not a date", "is not a date", "is missing",
        "is not between 1970 and 2099",
    ]  # fmt: skip
    values, flaws = raw_files.times(pa.array([1.25, float("nan"), float("inf"), 1e300]), "ms")
    assert values.tolist() == [1250, 0, 0, 0]
    assert flaws.tolist() == [0, MISSING, OUT_OF_RANGE, OUT_OF_RANGE]


def test_another_unit_than_that_of_the_times_is_noticed(tmp_path, capsys):
    seconds = [1_640_995_200 + 1000 * i for i in range(4)]
    data = save(tmp_path / "in", interactions=interactions(started_at=[s * 1000 for s in seconds]))
    with pytest.raises(JobError, match="count in another unit: pass --time-unit ms or us"):
        run(data, tmp_path, "--time-unit", "s")
    run(data, tmp_path, "--time-unit", "ms")
    assert "warning" not in capsys.readouterr().err
    data = save(tmp_path / "other", interactions=interactions(started_at=seconds))
    run(data, tmp_path, "--time-unit", "ms")
    assert "in a unit that is too small: look at --time-unit ms" in capsys.readouterr().err


def test_times_that_count_from_elsewhere_are_taken_there(tmp_path):
    table = interactions(started_at=[0, 5, 86_400, 3])
    data = save(tmp_path / "in", interactions=table)
    with pytest.raises(JobError, match="numbers are ambiguous: pass --time-unit s, ms or us"):
        run(data, tmp_path)
    run(data, tmp_path, "--time-unit", "s", "--origin", "2022-01-01")
    assert {row[2] for row in rows(LISTENS, tmp_path)} == {
        JAN[0] + timedelta(seconds=s) for s in (0, 5, 86_400, 3)
    }


def test_a_number_as_text_says_which_option_to_pass(tmp_path):
    times = ["2022-01-01", "2022-01-01", "1641038400", "2022-01-02"]
    data = save(tmp_path / "in", interactions=interactions(started_at=times))
    run(data, tmp_path, "--max-bad-share", "0.5")
    reason = "started_at is a number as text: pass --time-unit s, ms or us"
    assert reasons(tmp_path) == [("interactions.parquet", 2, reason)]


def test_a_csv_without_header_is_read_by_the_places_of_columns(tmp_path):
    data = save(tmp_path / "in")
    run(data, tmp_path / "expected")
    (data / "interactions.parquet").unlink()
    pairs = zip(*interactions().to_pydict().values(), strict=True)
    text = "".join(f"{at:%Y-%m-%d}~{track}~x~{user}\n" for user, track, _, at in pairs)
    (data / "interactions.csv").write_text(text)
    places = "interactions.user_id=4,interactions.track_id=2,interactions.started_at=1"
    for more in ([], ["--no-header"]):
        run(data, tmp_path / "work", "--columns", places, "--delimiter", "~", *more)
        assert listens(tmp_path / "work") == listens(tmp_path / "expected")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--columns", "user_id=uid"], "'user_id' is none of tracks.track_id, tracks.name"),
        (["--columns", "interactions.user=uid"], "'interactions.user' is none of"),
        (["--columns", "interactions.user_id"], "'interactions.user_id' is not INPUT.COLUMN=NAME"),
        (["--columns", NAMES + ",interactions.user_id=x"], "interactions.user_id is named twice"),
        (
            ["--columns", NAMES, "--columns", "interactions.user_id=x"],
            "interactions.user_id is named twice in --columns",
        ),
        (["--time-unit", "ns"], "--time-unit: invalid choice"),
        (["--time-unit", "s", "--origin", "soon"], "--origin: 'soon' is not a moment"),
        (["--origin", "2022-01-01"], "--origin needs --time-unit: s, ms or us"),
        (["--delimiter", "ab"], "'ab' can't stand between values: expected , ; | or tab"),
        (["--delimiter", '"'], "can't stand between values"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(tmp_path, options, words, capsys):
    with pytest.raises(SystemExit):
        run(save(tmp_path / "in"), tmp_path / "work", *options)
    assert words in capsys.readouterr().err
