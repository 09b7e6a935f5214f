"""Numba's one home: the compiler options of our kernels, and a disk cache that notices every edit.

Numba's own cache looks at the file of the compiled function only: after an edit in a *called* function
of another file it goes on returning the old result. So our cache lives in a folder whose name holds a
hash over all our jitted sources, numba, Python and the processor. Importing this module sets that
folder, before anything of ours is compiled.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from llvmlite.binding import get_host_cpu_name
from numba import prange

__all__ = ["cache_folder", "jitted_sources", "njit", "prange", "sources_hash"]

PACKAGES = ("models", "rt", "latency", "clients")
"""Folders beside each other, in a checkout and in an installed package alike."""

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
"""`nogil`: kernels run beside Python threads. `numpy`: no path that raises on division by zero."""


def _relative_imports(path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield (folder or file without suffix, imported names) of each relative import in a source file."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1]
            names = tuple(alias.name for alias in node.names)
            yield base.joinpath(*(node.module or "").split(".")), names


def jitted_sources(root: Path) -> list[Path]:
    """Return the files below `root` that use this module, and those they import from, sorted.

    The second kind matters because numba freezes the constants that a kernel reads from elsewhere.
    """
    found: set[Path] = set()
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            if b"jit" not in path.read_bytes():
                continue
            imports = list(_relative_imports(path))
            home = root / "models" / "jit"
            if not any(target == home or "jit" in names for target, names in imports):
                continue
            found.add(path)
            for target, names in imports:
                modules = [target, *(target / name for name in names)]
                found.update(m.with_suffix(".py") for m in modules if m.with_suffix(".py").is_file())
    return sorted(found)


def sources_hash(root: Path) -> str:
    """Return a sha256 over the names and contents of all jitted sources and what compiles them."""
    digest = hashlib.sha256()
    for fact in (numba.__version__, platform.python_version(), get_host_cpu_name()):
        digest.update(fact.encode() + b"\0")
    for path in jitted_sources(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return the folder for compiled kernels, made if need be.

    Below numba's own setting (NUMBA_CACHE_DIR), else $XDG_CACHE_HOME/stemrack, else ~/.cache/stemrack;
    where that cannot be written, below the system's folder for temporary files.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = Path(numba.config.CACHE_DIR or Path(caches) / "stemrack")  # pyright: ignore[reportAttributeAccessIssue]
    name = f"kernels-{sources_hash(Path(__file__).parents[1])[:32]}"
    for parent in (base, Path(tempfile.gettempdir()) / f"stemrack-{os.getuid()}"):
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        # The cache holds pickles: never read one that another user could have put there.
        if os.access(parent / name, os.W_OK) and parent.stat().st_uid == os.getuid():
            return parent / name
    return base / name


numba.config.CACHE_DIR = str(cache_folder())  # pyright: ignore[reportAttributeAccessIssue]


def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Return the compiled form of a function; `options` add to or replace OPTIONS.

    Used bare or with options: `@njit` or `@njit(cache=False)`. Kernels take and update arrays that
    the caller owns, and allocate nothing.
    """
    merged = {**OPTIONS, **options}
    return numba.njit(**merged) if function is None else numba.njit(**merged)(function)
