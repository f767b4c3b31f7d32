"""Functions that other processes open: their arrays are files, which processes share."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.runtime import mapped_pickle

LARGE = mapped_pickle.SMALLEST // 8  # numbers of 8 bytes
ROOT = Path(__file__).parents[3]


def function_of(*arrays: np.ndarray):
    def work(first: int, last: int) -> list[np.ndarray]:
        return [array[first:last] for array in arrays]

    return work


@given(st.lists(st.integers(0, 3 * LARGE), max_size=4), st.integers(0, 100))
def test_a_function_gives_the_same_after_it_was_saved(tmp_path_factory, sizes, last):
    folder = tmp_path_factory.mktemp("functions")
    arrays = [np.arange(n) * number for number, n in enumerate(sizes)]
    spec, files = mapped_pickle.save(function_of(*arrays), folder)
    opened, mapped = mapped_pickle.load(spec)
    for found, array in zip(opened(0, last), arrays, strict=True):
        assert np.array_equal(found, array[:last])
    large = {array.tobytes() for array in arrays if len(array) >= LARGE}
    assert {path.read_bytes() for path in files} == large
    assert mapped == sum(array.nbytes for array in arrays if len(array) >= LARGE)


def test_an_array_that_two_functions_use_is_written_once(tmp_path):
    array = np.arange(LARGE)
    _, files = mapped_pickle.save(function_of(array), tmp_path)
    (file,) = files
    written = file.stat().st_mtime_ns, file.stat().st_ino
    assert mapped_pickle.save(function_of(array.copy(), array[:5]), tmp_path)[1] == files
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written


def test_who_changes_an_opened_array_changes_nobody_elses(tmp_path):
    spec, _ = mapped_pickle.save(function_of(np.zeros(LARGE)), tmp_path)
    one, _ = mapped_pickle.load(spec)
    other, _ = mapped_pickle.load(spec)
    one(0, LARGE)[0][:] = 1  # implicit's solvers need arrays that can be written to
    assert not other(0, LARGE)[0].any()
    assert not mapped_pickle.load(spec)[0](0, LARGE)[0].any()


@pytest.mark.parametrize("kind", [np.float32, np.int64, bool])
def test_another_process_opens_it(kind, tmp_path):
    spec, _ = mapped_pickle.save(function_of(np.ones(LARGE * 8, kind)), tmp_path)
    program = f"""
from pathlib import Path
from jobs.runtime import mapped_pickle
work, _ = mapped_pickle.load(Path({str(spec)!r}))
print(work(0, 7)[0].sum(), work(0, 7)[0].dtype)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(np.ones(7, kind).sum()), str(np.dtype(kind))]
