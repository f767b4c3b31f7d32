"""Which engine a run uses, and what it refuses before any job has started."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.contract.storage import JobError
from jobs.spark import session
from jobs.spark.blocks import introduce
from jobs.spark.fingerprint import Fingerprint, own_processor

ROOT = Path(__file__).parents[3]
A_JOB = b"sample_data\0--out\0%b\0--users\0005\0--tracks\0005\0--listens\00025\0\0"


def run_all(*options: str) -> subprocess.CompletedProcess:
    command = ["bash", "run_all.sh", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("option", ["--work", "--data"])
@pytest.mark.parametrize("store", ["s3://bucket/work", "s3a:/work", "hdfs://host/work"])
def test_a_store_that_is_no_file_system_is_refused_in_one_line(option, store):
    done = run_all(option, store)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{option} is {store}" in line and "mount the store" in line


@pytest.mark.parametrize("engine", ["yarn", "local[]", "spark://host", "local-cluster[2,1]", ""])
def test_an_unknown_engine_is_refused_before_any_job(engine, tmp_path):
    out = tmp_path / "sample"
    done = subprocess.run(
        [sys.executable, "-m", "jobs.run", "--line", engine, str(tmp_path)],
        cwd=ROOT, input=A_JOB % str(out).encode(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert f"--engine is {engine}: expected local, local[N]" in line
    assert not out.exists()
    assert not [*tmp_path.glob(".engine.tmp")]


def test_a_run_in_which_nothing_has_changed_starts_no_session(tmp_path):
    line = A_JOB % str(tmp_path).encode()
    for engine in ("local", "an engine that would be refused"):
        done = subprocess.run(
            [sys.executable, "-m", "jobs.run", "--line", engine, str(tmp_path)],
            cwd=ROOT, input=line, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_a_host_that_sees_other_files_is_refused(tmp_path):
    own = Fingerprint.own()
    assert "does not see the files" in introduce(str(tmp_path), "nonce", own)
    (tmp_path / "nonce").write_text("nonce")
    assert introduce(str(tmp_path), "nonce", own) == own.processor
    assert len([*tmp_path.glob("nonce-*")]) == 1  # by which the driver sees what the host writes


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("python", "3.9.1", "python (here 3.9.1; there "),
        ("code", "0123", "code (here 0123; there "),
        ("packages", "numpy 1.0", "packages (here numpy 1.0; there "),
        ("blas", "mkl", "blas (here mkl; there "),
    ],
)
def test_a_host_that_computes_otherwise_is_refused_and_says_why(field, value, named, tmp_path):
    (tmp_path / "nonce").write_text("nonce")
    expected = replace(Fingerprint.own(), **{field: value})
    answer = introduce(str(tmp_path), "nonce", expected)
    assert "can't give the same bytes" in answer and named in answer
    assert "Install the same" in answer and "--mixed-processors" not in answer
    assert not [*tmp_path.glob("nonce-*")]
    any_processor = introduce(str(tmp_path), "nonce", expected.of_any_processor())
    assert isinstance(any_processor, str) and named in any_processor  # no matter of processors


@pytest.mark.parametrize(
    ("processor", "named"),
    [
        (own_processor()._replace(vector_instructions="mmx"), "vector_instructions (here mmx; "),
        (own_processor()._replace(blas_kernel="openblas No"), "blas_kernel (here openblas No; "),
    ],
    ids=["instructions", "kernel"],
)
def test_another_processor_is_refused_unless_any_is_expected(processor, named, tmp_path):
    (tmp_path / "nonce").write_text("nonce")
    expected = replace(Fingerprint.own(), processor=processor)
    answer = introduce(str(tmp_path), "nonce", expected)
    assert "can't give the same bytes" in answer and named in answer
    assert "or pass --mixed-processors" in answer
    accepted = introduce(str(tmp_path), "nonce", expected.of_any_processor())
    assert accepted == own_processor()


def context(cores: list[int]) -> SimpleNamespace:
    """What tells how many cores a cluster has, at one look after the other."""

    def seen(_: object) -> int:
        return cores.pop(0) if len(cores) > 1 else cores[0]

    profiles = SimpleNamespace(defaultResourceProfile=lambda: None)
    java = SimpleNamespace(resourceProfileManager=lambda: profiles, maxNumConcurrentTasks=seen)
    return SimpleNamespace(_jsc=SimpleNamespace(sc=lambda: java))


@pytest.mark.parametrize(
    ("engine", "looks", "cores"),
    [
        ("local-cluster[1,1,1024]", [0, 0, 1], 1),
        ("local-cluster[2,3,1024]", [0, 3, 3, 6], 6),
        ("local[4]", [4], 4),
        ("spark://host:7077", [0, 0, 4, 20, 20, 36], 36),
        ("spark://10.0.0.1:7077", [1], 1),
    ],
)
def test_the_hosts_of_a_cluster_are_waited_for(engine, looks, cores, monkeypatch):
    monkeypatch.setattr(session, "LOOK_FOR_HOSTS", 0.01)
    monkeypatch.setattr(session, "SETTLED", 0.5)
    assert session._wait_for_cores(context(looks), engine) == cores


def test_a_cluster_without_workers_is_named_soon(monkeypatch):
    monkeypatch.setattr(session, "LONGEST_WAIT", 0.1)
    with pytest.raises(JobError, match=r"no worker of spark://host:7077 has .*: start workers"):
        session._wait_for_cores(context([0]), "spark://host:7077")
