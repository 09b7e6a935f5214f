"""Settings of every test: one thread per library, before any of them is imported; no tokens of the user's.

The tests' networks are small; beside another process on a small machine, waiting for a second OpenMP thread
made a step that takes 0.3 s take 6.5 s.
"""

import atexit
import ctypes
import os
import shutil
import sys
import tempfile

import pytest

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

os.environ["STEMRACK_STATE"] = tempfile.mkdtemp(prefix="stemrack-state-")
atexit.register(shutil.rmtree, os.environ["STEMRACK_STATE"], ignore_errors=True)


_floating_point = ctypes.create_string_buffer(256)
_library = ctypes.CDLL("libm.so.6") if sys.platform == "linux" else None
if _library:
    _library.fegetenv(_floating_point)


@pytest.fixture(autouse=True)
def _awake(request):
    """A test against a clock hears the engine, and not how long this machine takes to wake a processor."""
    if request.node.get_closest_marker("realtime"):
        from stemrack.rt.awake import keep_awake

        keep_awake()


@pytest.fixture(autouse=True)
def _denormals():
    """Plugins leave the processor flushing denormal numbers to zero; hypothesis will not work so."""
    if _library:
        _library.fesetenv(_floating_point)
