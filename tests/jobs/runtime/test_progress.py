"""Progress of long work where the output is no terminal: a line now and then."""

import pytest

from jobs.runtime.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_long_work_prints_a_line_every_30_seconds(clock, capsys):
    for _ in progress_bar(range(100), "train_als epochs"):
        clock[0] += 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "train_als epochs: 30 of 100 in 30 s"


def test_short_work_prints_nothing(clock, capsys):
    with progress_bar(total=9, desc="check", unit=" rows") as bar:
        bar.update(9)
    assert capsys.readouterr() == ("", "")
