"""A WORK of an earlier version and its releases go on without any work by hand."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from api.service import Service
from api.settings import Settings
from jobs.contract import storage
from jobs.contract.names import COMPARISON, CURRENT, METRICS, PREVIOUS, RANKING, RELEASES, SERVING
from jobs.contract.results import Metrics, Ranking
from jobs.contract.storage import JobError
from jobs.releases.store import linked_release
from tests.support.made_before import former_release, former_results
from tests.support.workspace import copied, run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A finished folder whose JSON files and only release are of before; it has no windows."""
    work = copied(finished, tmp_path / "work")
    run("publish", work)
    former_release((work / CURRENT).resolve())
    return work


def served(work: Path) -> tuple[str, list[int]]:
    """The release that a service takes, and what it recommends to the first user."""
    service = Service(Settings(work=work))
    asyncio.run(service.releases.load())
    user = int(np.load(work / CURRENT / SERVING / "user_ids.npy")[0])
    return service.releases.current().catalog.id, json.loads(service.recommend(user, 100))


def test_a_release_made_before_is_served_compared_with_and_gone_back_to(work):
    old = linked_release(work, CURRENT)
    before = served(work)
    assert before[0] == old and len(before[1]) == 100
    summary = run("publish", work)
    new = linked_release(work, CURRENT)
    assert new != old and "not compared" not in summary
    comparison = json.loads((work / CURRENT / COMPARISON).read_text())
    assert (comparison["old"], comparison["new"], comparison["falls"]) == (old, new, [])
    assert comparison["metrics"]["ndcg"]["change"] == 0
    assert served(work) == (new, before[1])
    assert f"release {old} is current" in run("publish", work, "--rollback")
    assert (linked_release(work, CURRENT), linked_release(work, PREVIOUS)) == (old, new)
    assert served(work) == before


def test_the_list_of_releases_shows_one_made_before_with_its_figures(work, capsys):
    run("publish", work, "--list")
    line = capsys.readouterr().out.splitlines()[1]
    ndcg = storage.read_json(work / METRICS, "jobs.evaluate", Metrics).lists["final list"]
    assert "current" in line and "2022-12-31T23:59:59+00:00" in line
    assert f"{ndcg['all']['@10']['ndcg']:.4f}" in line


def test_results_of_before_are_written_anew_by_their_jobs(finished, tmp_path):
    work = shutil.copytree(finished, tmp_path / "work", symlinks=True)
    former_results(work)
    with pytest.raises(JobError, match=r"ranking.json can't be used .*run python -m jobs\.rank"):
        run("evaluate", work)
    for job in ("rank", "evaluate", "replay", "publish"):
        run(job, work)
    for name, form in ((METRICS, Metrics), (RANKING, Ranking)):
        found = storage.read_json(work / name, "the line", form)
        assert found == storage.read_json(finished / name, "the line", form)
    assert len(storage.listed(work)) == 2


def test_run_all_removes_the_windows_of_before_and_nothing_else(tmp_path):
    project, work = tmp_path / "project", tmp_path / "work"
    binaries = project / ".venv" / "bin"
    binaries.mkdir(parents=True)
    shutil.copy(ROOT / "run_all.sh", project)
    for path in ROOT.glob("requirements*.txt"):
        shutil.copy(path, project)
        shutil.copy(path, project / ".venv")
    (binaries / "activate").write_text(f'# {project}/.venv\nexport PATH="{binaries}:$PATH"\n')
    (binaries / "python").write_text("#!/bin/sh\ncat > /dev/null\n")  # the jobs themselves
    (binaries / "python").chmod(0o755)
    kept = [
        "listens.parquet", "metrics.json", "events.parquet", "state/events.db", "of/mine.txt",
        "windows/train/listens.parquet", "windows/test/settings.json", f"{RELEASES}/a/x.json",
    ]  # fmt: skip
    gone = ["windows/choose/listens.parquet", "windows/report/.done/rank.json"]
    for name in (*kept, *gone):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name)
    subprocess.run(
        ["bash", "run_all.sh", "--data", str(tmp_path), "--work", str(work)],
        cwd=project, env=os.environ | {"PYTHON": sys.executable}, check=True,
    )  # fmt: skip
    left = {str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert sorted(path.name for path in (work / "windows").iterdir()) == ["test", "train"]
