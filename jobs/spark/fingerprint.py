"""What a process computes with; two processes with equal fingerprints give the same bytes."""

import hashlib
import platform
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from jobs.runtime.processors import Processor
from jobs.runtime.up_to_date import ROOT

VECTOR_INSTRUCTIONS = ("sse", "ssse", "avx", "fma", "f16c", "bmi", "amx", "asimd", "sve")


@dataclass(frozen=True)
class Fingerprint:
    """Each field is what decides how sums are rounded, or which code computes them."""

    python: str
    code: str  # a hash of all modules of the jobs
    packages: str  # of the versions that are installed of what requirements.txt pins
    blas: str  # the BLAS libraries that are loaded, as "openblas"
    processor: Processor | None  # None in a fingerprint that fits any processor

    @classmethod
    @cache
    def own(cls) -> "Fingerprint":
        """Return the fingerprint of this process."""
        return cls(
            platform.python_version(),
            _hash_of_code(),
            _versions(),
            ", ".join(sorted({kernel.split()[0] for kernel in kernels()})),
            own_processor(),
        )

    def of_any_processor(self) -> "Fingerprint":
        """Return the same but for the processor, of which nothing is expected."""
        return replace(self, processor=None)

    def differences(self, other: "Fingerprint") -> list[str]:
        """Return what differs in another fingerprint, in words, each with both values."""
        own, others = self._texts(), other._texts()
        return [
            f"{name} ({_first_difference(own[name], others[name])})"
            for name in own
            if own[name] != others[name]
        ]

    def _texts(self) -> dict[str, str]:
        texts: dict[str, Any] = asdict(self)
        processor = texts.pop("processor")
        return texts | (processor._asdict() if processor else {})


def _first_difference(own: str, other: str) -> str:
    """Return the parts of two lists in words that are only in one of them."""
    here, there = own.split(", "), other.split(", ")
    only_here = ", ".join(part for part in here if part not in there)
    only_there = ", ".join(part for part in there if part not in here)
    return f"here {only_here or 'nothing more'}; there {only_there or 'nothing more'}"


def _hash_of_code() -> str:
    digest = hashlib.sha256()
    for path in sorted((ROOT / "jobs").glob("**/*.py")):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _versions() -> str:
    """Return what is installed of the packages that requirements.txt pins, as "numpy 2.4.6, …"."""
    found = []
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        name, pinned, _ = line.partition("==")
        if pinned:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:  # a package for another system or Python
                found.append(f"{name} is missing")
    return ", ".join(found)


@cache
def own_processor() -> Processor:
    """Return the kind of processor of this process."""
    return Processor(vector_instructions(), ", ".join(kernels()))


def vector_instructions() -> str:
    """Return the processor's vector instructions, as Linux names them; else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    names = flags.partition(":")[2].split()
    return ", ".join(sorted(name for name in names if name.startswith(VECTOR_INSTRUCTIONS)))


def kernels() -> list[str]:
    """Return the kernels of the BLAS libraries in this process, as ["openblas SkylakeX"]."""
    import implicit.cpu.als  # noqa: F401  # both load a BLAS library
    import scipy.linalg  # noqa: F401

    return sorted(
        {
            f"{library['internal_api']} {library.get('architecture', '')}".strip()
            for library in threadpool_info()
            if library["user_api"] == "blas"
        }
    )
