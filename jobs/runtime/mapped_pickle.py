"""Save a function with the arrays that it uses, so that many processes can share the arrays.

The function is pickled by cloudpickle, which takes functions inside functions too. Each large array
goes into a file of its own that is named by its content, and `load` maps these files into memory:

    spec-5d1e.pickle   the function, and the names of the files of its arrays
    27c0f3a9.array     one array: 800 MB on disk and, mapped by four processes of a host, in memory
    81b2e4c7.array     another one

An array that an earlier function used as well is not written again. Processes may change what they
have mapped: each gets a copy of the pages that it changes, and the file stays as it is.
"""

import hashlib
import mmap
import pickle
from pathlib import Path
from typing import Any
from uuid import uuid4

SMALLEST = 1 << 16  # bytes of an array that goes into a file of its own


def save(content: Any, folder: Path) -> tuple[Path, set[Path]]:
    """Write an object into a folder; return its file, and the files of its large arrays.

    Several processes may write into one folder at the same time.
    """
    import cloudpickle  # only runs on a cluster need it

    arrays: list[Path] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        with buffer.raw() as view:
            if view.nbytes < SMALLEST:
                return True
            arrays.append(_write_array(view, folder))
        return False

    pickled = cloudpickle.dumps(content, protocol=5, buffer_callback=is_small)
    spec = folder / f"spec-{uuid4().hex}.pickle"
    write(spec, pickle.dumps((pickled, [path.name for path in arrays])))
    return spec, {*arrays}


def _write_array(view: memoryview, folder: Path) -> Path:
    """Write an array into a file that is named by its content, if it isn't there already."""
    path = folder / f"{hashlib.blake2b(view, digest_size=16).hexdigest()}.array"
    if not path.exists():
        write(path, view)
    return path


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file in one step: whoever sees it sees all of it."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def load(spec: Path) -> tuple[Any, int]:
    """Return the object that `save` wrote, and how many bytes of arrays are mapped for it."""
    pickled, names = pickle.loads(spec.read_bytes())
    maps = [_mapped(spec.with_name(name)) for name in names]
    return pickle.loads(pickled, buffers=maps), sum(map(len, maps))


def _mapped(path: Path) -> mmap.mmap:
    # implicit's solvers refuse arrays that can't be written to, so pages are copied on a write
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
