"""The floating-point kernels of this process: those of each OpenBLAS, and numpy's own.

The rounding of a sum depends on its order, so kernels for different processors differ in the last
bits. The suite must pass with all of them. OPENBLAS_CORETYPE and NPY_DISABLE_CPU_FEATURES choose
the kernels; as OpenBLAS ignores a name that it does not know, a run has to check what it got.
"""

import os

# A library without kernels for Zen uses those for Haswell: that of numpy and that of scipy do.
ACCEPTED = {"zen": {"zen", "haswell"}}


def check_kernels() -> None:
    """Raise RuntimeError where the environment asks for kernels that this process does not use."""
    wanted = os.environ.get("OPENBLAS_CORETYPE", "").lower()
    if wanted:
        kernels = openblas_kernels()
        accepted = ACCEPTED.get(wanted, {wanted})
        if not kernels or not {kernel.lower() for kernel in kernels.values()} <= accepted:
            raise RuntimeError(f"OPENBLAS_CORETYPE is {wanted}, but the kernels are {kernels}")
    disabled = os.environ.get("NPY_DISABLE_CPU_FEATURES", "").replace(",", " ").split()
    enabled = {name for name in disabled if numpy_features().get(name)}
    if enabled:
        raise RuntimeError(f"NPY_DISABLE_CPU_FEATURES has no effect on {sorted(enabled)}")


def openblas_kernels() -> dict[str, str]:
    """Return the kernel of every OpenBLAS that jobs and service load, by the library's file."""
    import faiss  # noqa: F401 - each of the three packages brings a library of its own
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    return {
        library["filepath"].rsplit("/", 1)[-1]: library["architecture"]
        for library in threadpool_info()
        if library["internal_api"] == "openblas"
    }


def numpy_features() -> dict[str, bool]:
    """Return which features of the processor numpy's own loops use."""
    from numpy._core._multiarray_umath import __cpu_features__

    return __cpu_features__
