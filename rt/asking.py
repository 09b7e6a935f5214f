"""Asking PortAudio from a process of its own: it may hang, and its list is frozen by its first use."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from .errors import DeviceError

TIME_LIMIT_S = 15.0


def ask_devices() -> dict[str, Any]:
    """Return all devices as plain values: `devices`, a list as `device.DeviceInfo` has it, and `default`.

    Raises: DeviceError if PortAudio cannot be loaded, fails or hangs.
    """
    command = [sys.executable, "-m", f"{__package__}.device"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        reason = f"did not answer in {TIME_LIMIT_S:g} s: is a sound server hanging?"
        raise DeviceError("PortAudio", reason) from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise DeviceError("PortAudio", f"cannot be used, saying: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])
