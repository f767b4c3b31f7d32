"""The whole line of jobs on a cluster makes the same bytes as threads do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import compare_engines, sample_data
from jobs.contract.names import CURRENT, MANIFEST
from jobs.runtime.up_to_date import DONE
from jobs.spark.fingerprint import kernels, own_processor
from tests.spark.conftest import ENGINE

ROOT = Path(__file__).parents[2]
OPTIONS = ("--tune", "off")
KERNELS = ("Haswell", "Sandybridge", "Nehalem", "ARMV8", "NEOVERSEN1")  # of OpenBLAS
SHOW_KERNELS = (
    "from jobs.spark.fingerprint import own_processor; print(own_processor().blas_kernel)"
)


@pytest.fixture(scope="module")
def compared(installed: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which both engines have worked on an input, and what the comparison says."""
    folder = tmp_path_factory.mktemp("compared")
    sizes = ["--users", "1100", "--tracks", "1100", "--listens", "60000"]
    sample_data.main(["--out", str(folder / "in"), *sizes])
    given = ["--data", str(folder / "in"), "--out", str(folder), "--engine", ENGINE]
    return folder, compare_engines.main([*given, "--kill", "rank", "--", *OPTIONS])


def test_every_file_has_the_same_bytes_although_an_executor_is_killed(compared):
    _, summary = compared
    assert "have the same bytes, although an executor was killed in rank" in summary


@pytest.fixture
def other_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another kernel of OpenBLAS than ours, which spark-defaults.conf sets on all executors."""
    for name in KERNELS:
        done = subprocess.run(
            [sys.executable, "-c", SHOW_KERNELS],
            cwd=ROOT, env={**os.environ, "OPENBLAS_CORETYPE": name}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        kernel = done.stdout.strip()
        if done.returncode == 0 and kernel not in ("", *kernels()):
            setting = f"spark.executorEnv.OPENBLAS_CORETYPE {name}\n"
            (tmp_path / "spark-defaults.conf").write_text(setting)
            monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
            return kernel
    pytest.skip("OpenBLAS has no other kernel that this processor can run")


def test_a_mix_of_processors_is_refused_or_accepted_and_named_in_the_manifest(
    compared, other_kernel
):
    folder, _ = compared
    work = folder / "cluster"

    def run_all(*options: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "run_all.sh", "--data", str(folder / "in"), "--work", str(work)]
        command += ["--now", compare_engines.NOW, "--engine", ENGINE, *OPTIONS, *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def manifest() -> dict[str, Any]:
        return json.loads((work / CURRENT / MANIFEST).read_text())

    assert "mixed_processors" not in manifest()
    for job in ("similar", "publish"):  # as if they had not run
        (work / DONE / f"{job}.json").unlink()

    refused = run_all()
    assert refused.returncode == 1
    assert f"blas_kernel (here {kernels()[0]}; there {other_kernel})" in refused.stderr
    assert "or pass --mixed-processors" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (work / DONE / "similar.json").exists()

    accepted = run_all("--mixed-processors")
    assert accepted.returncode == 0, accepted.stderr
    (of_session,) = (line for line in accepted.stdout.splitlines() if line.startswith("engine: "))
    assert "with a mix of processors: " in of_session and other_kernel in of_session
    assert ", made by a mix of 2 kinds of processors" in accepted.stdout.splitlines()[-1]
    found = {kind["blas_kernel"] for kind in manifest()["mixed_processors"]}
    assert found == {other_kernel, own_processor().blas_kernel}
