"""The kernel cache notices an edit anywhere in our jitted sources, and only there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from stemrack.models import jit

CALLEE = """
from .jit import njit
from .plain import OFFSET

@njit
def callee(x):
    return x * 2.0 + OFFSET
"""

CALLER = """
from ..models.callee import callee
from ..models.jit import njit

@njit
def caller(x):
    return callee(x) + 1.0
"""

PROGRAM = """
from copied.rt.caller import caller
print(caller(10.0), sum(caller.stats.cache_hits.values()))
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A package of two folders with our jit.py, a kernel, and a kernel that calls it from elsewhere."""
    root = tmp_path / "copied"
    for folder in ("", "models", "rt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "__init__.py").write_text("")
    assert jit.__file__
    shutil.copy(jit.__file__, root / "models" / "jit.py")
    (root / "models" / "plain.py").write_text("OFFSET = 0.0\n")
    (root / "models" / "callee.py").write_text(CALLEE)
    (root / "rt" / "caller.py").write_text(CALLER)
    (root / "rt" / "other.py").write_text("'''Says jit and uses none.'''\n")
    return root


def run(root: Path) -> tuple[float, int]:
    """Return what the caller answers in a new process, and how often it came from the disk cache."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(root.parent), "XDG_CACHE_HOME": str(root.parent / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    value, hits = done.stdout.split()
    return float(value), int(hits)


def test_an_edited_callee_is_seen_in_a_new_process(copied: Path):
    # Four processes that import numba, one after the other: about four seconds.
    assert run(copied) == (21.0, 0)
    assert run(copied) == (21.0, 1)
    (copied / "models" / "callee.py").write_text(CALLEE.replace("2.0", "3.0"))
    assert run(copied) == (31.0, 0)
    (copied / "models" / "plain.py").write_text("OFFSET = 5.0\n")
    assert run(copied) == (36.0, 0)


def test_hash_covers_jitted_sources_and_what_they_import(copied: Path):
    found = [p.relative_to(copied).as_posix() for p in jit.jitted_sources(copied)]
    assert found == ["models/callee.py", "models/jit.py", "models/plain.py", "rt/caller.py"]
    before = jit.sources_hash(copied)
    (copied / "rt" / "other.py").write_text("'''Says jit and uses none, edited.'''\n")
    assert jit.sources_hash(copied) == before
    for name in found:
        path = copied / name
        path.write_text(path.read_text() + "\n# edited\n")
        after = jit.sources_hash(copied)
        assert after != before, name
        before = after


def test_a_moved_line_between_files_changes_the_hash(copied: Path):
    # The names and lengths are hashed too: the same bytes under other names are other sources.
    before = jit.sources_hash(copied)
    (copied / "models" / "callee.py").rename(copied / "models" / "called.py")
    assert jit.sources_hash(copied) != before


def test_our_kernels_are_found():
    assert jit.__file__
    found = {p.name for p in jit.jitted_sources(Path(jit.__file__).parents[1])}
    assert {"jit.py", "overlap_add.py", "wiener_kernels.py", "consistency_kernels.py"} <= found


def test_cache_is_set_and_writable():
    folder = Path(str(numba.config.CACHE_DIR))
    assert folder.name.startswith("kernels-")
    assert os.access(folder, os.W_OK)


def test_a_cache_that_cannot_be_written_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(jit.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = jit.cache_folder()
    assert folder.parent.parent == tmp_path
    assert folder.is_dir()


def test_options_hold_and_can_be_replaced():
    @jit.njit(cache=False)
    def inverse(x: float) -> float:
        return 1.0 / x

    assert inverse(0.0) == np.inf  # error_model 'numpy': no exception
    assert inverse.targetoptions["nogil"] is True

    @jit.njit
    def twice(x: float) -> float:
        return 2.0 * x

    assert twice(4.0) == 8.0
