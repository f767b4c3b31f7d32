"""Compile a function by numba: in the service for each answer, in jobs where the data is large.

numba compiles a function at its first call and keeps the code in `__pycache__` beside the
function's file or, where that may not be written, in the user's own cache folder. That code is
loaded and run, so nobody else may be able to write there; the same holds for the source itself. If
neither folder may be written, each process compiles anew, which takes some seconds.

Sums keep their order, since neither fastmath nor parallel sums are used: so a compiled function
returns the same with any number of threads. Only products by BLAS (np.dot) differ between
processors, in their last bits.

numba compiles anew only if the file of the function changes. So a compiled function calls compiled
functions and reads constants of its own file only, though a few lines stand in two files for that.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Return a function compiled by numba, which runs without the GIL; sums keep their order."""
    try:
        fast: Any = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder for the cache may be written
        fast = numba.njit(nogil=True)(function)
    return cast("F", fast)
