"""A third party's plugin opened in a process of its own, which it may crash or hang: probed, or edited.

Started by `plugin_scan` as `python -m stemrack.rt.plugin_probe REQUEST`; each thing found out is a line of
JSON in the request's file, so that what came before a crash is known.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import json
import math
import signal
import statistics
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .effect_host import SURVEY_S, latency_of, names_in, opened, set_values
from .effect_table import Effect, EffectParameter
from .errors import EffectError
from .plugin_registry import Measured

RATES_HZ = (44_100, 48_000)
BLOCK = 512
NOISE_S = 0.2
IMPULSE_S = 0.5
"""Sound after which the answer to an impulse is over, if it has begun."""
PATIENCE_S = 1.0
"""How long each of the two may take of a plugin that is slow."""
MOST_CHOICES = 64
"""Texts of a parameter beyond this are no choices but numbers that pedalboard cannot read."""
RESERVED = frozenset({"effect", "state", "bypass", "dry_wet", "current_program"})
"""What an insert calls its own things, and a choice behind whose back all other parameters change."""
LONGEST_NAME = 60
"""With the names of stem and insert it must fit into a path of the protocol."""
ALARM_S = 5
"""After its limit the process ends by itself, should whoever started it be gone."""


class Refusal(Exception):
    """The plugin cannot be used; the text says why."""


# -- probing -------------------------------------------------------------------------------------------------


class Report:
    """The lines of a request's file.  A stage is told before it begins."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def tell(self, **facts: Any) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")


def probe(path: str, name: str, limit_s: float, report: Report) -> None:
    """Tell all that the registry wants to know about a plugin; its names only, if the file has several.

    Raises: Refusal.
    """
    report.tell(stage="loading")
    if not name:
        names = names_in(path)
        report.tell(names=names)
        if len(names) != 1:
            if not names:
                raise Refusal("holds no plugin")
            return
        name = names[0]
    started = time.perf_counter()
    plugin = opened(path, name, limit_s)
    load_ms = (time.perf_counter() - started) * 1e3
    if plugin.is_instrument:
        raise Refusal("is an instrument, not an effect")
    facts: dict[str, Any] = {
        "name": str(plugin.name),
        "inner_name": name,
        "maker": str(plugin.manufacturer_name or ""),
        "version": str(plugin.version or ""),
        "load_ms": round(load_ms, 1),
    }
    report.tell(stage="reading its parameters")
    facts["parameters"] = parameters_of(plugin)
    facts["measured"] = []
    for rate_hz in RATES_HZ:
        report.tell(stage=f"processing at {rate_hz} Hz")
        facts["measured"].append(asdict(measured(plugin, rate_hz)))
    report.tell(stage="being reset")
    facts["resets_anywhere"] = _resets_on_a_thread(plugin)
    report.tell(plugin=facts)


def measured(plugin: Any, rate_hz: int) -> Measured:
    """Return what a plugin does at one rate.  Raises: Refusal for samples that are not finite or not two."""
    plugin.process(np.zeros((2, BLOCK), np.float32), rate_hz, BLOCK, reset=False)  # it is prepared by this
    plugin.reset()
    x = np.zeros((2, round(SURVEY_S * rate_hz)), np.float32)
    x[:, 0] = 0.5
    answer, _ = _fed(plugin, x, rate_hz, least_s=IMPULSE_S)
    plugin.reset()
    noise = np.random.default_rng(0).standard_normal((2, round(NOISE_S * rate_hz)))
    _, times_us = _fed(plugin, (0.1 * noise).astype(np.float32), rate_hz)
    plugin.reset()
    return Measured(
        rate_hz=rate_hz,
        reported_samples=int(plugin.reported_latency_samples),
        latency_samples=latency_of(answer, BLOCK).samples,
        block_us=round(statistics.median(times_us), 1),
        worst_us=round(max(times_us), 1),
    )


def _fed(
    plugin: Any, x: np.ndarray, rate_hz: int, least_s: float = math.inf
) -> tuple[list[np.ndarray], list[float]]:
    """Return what comes out of each block, and the time of each.

    After `least_s` it ends as soon as anything was heard.
    """
    out: list[np.ndarray] = []
    times_us: list[float] = []
    heard = False
    until_s = time.perf_counter() + PATIENCE_S
    for start in range(0, x.shape[1] - BLOCK + 1, BLOCK):
        block = np.ascontiguousarray(x[:, start : start + BLOCK])
        before_s = time.perf_counter()
        y = plugin.process(block, rate_hz, BLOCK, reset=False)
        after_s = time.perf_counter()
        times_us.append((after_s - before_s) * 1e6)
        if y.ndim != 2 or y.shape[0] != 2:
            raise Refusal(f"gives {y.shape[0] if y.ndim == 2 else 1} channels for 2")
        if not np.isfinite(y).all():
            raise Refusal(f"gives samples that are not finite, from block {len(times_us)} on")
        out.append(y)
        heard = heard or bool(y.any())
        if after_s > until_s or (heard and start + BLOCK >= least_s * rate_hz):
            break
    return out, times_us


def _resets_on_a_thread(plugin: Any) -> bool:
    went: list[bool] = []

    def reset() -> None:
        try:
            plugin.reset()
        except RuntimeError:
            return
        went.append(True)

    thread = threading.Thread(target=reset)
    thread.start()
    thread.join()
    return bool(went)


def parameters_of(plugin: Any) -> list[dict[str, Any]]:
    """Return the plain values of what can be set; not of what is only shown, nor under an insert's words."""
    found = []
    for name, parameter in plugin.parameters.items():
        is_sayable = name.isascii() and len(name) <= LONGEST_NAME
        if name in RESERVED or not is_sayable or not parameter.is_automatable:
            continue
        found.append({"name": name, "doc": parameter.name, **_range_of(plugin, name, parameter)})
    return found


def _range_of(plugin: Any, name: str, parameter: Any) -> dict[str, Any]:
    values = list(parameter.valid_values)
    if parameter.type is bool:
        return {"kind": "switch", "default": bool(getattr(plugin, name))}
    if parameter.type is float:
        limits = [v for v in values if isinstance(v, float) and math.isfinite(v)]
        lowest, highest = min(limits, default=0.0), max(limits, default=0.0)
        if lowest < highest:
            here = _plain(float(getattr(plugin, name)), highest - lowest)
            facts = {"kind": "number", "unit": parameter.label or "", "lowest": lowest, "highest": highest}
            if parameter.step_size:
                facts["step"] = float(parameter.step_size)
            return facts | {"default": min(max(here, lowest), highest)}
    texts = [str(v) for v in values]
    if 1 <= len(texts) <= MOST_CHOICES and str(parameter.string_value) in texts:
        return {"kind": "choice", "choices": texts, "default": str(parameter.string_value)}
    default = min(max(float(parameter.raw_value), 0.0), 1.0)
    return {"kind": "number", "unit": "", "lowest": 0.0, "highest": 1.0, "default": default}


def _plain(value: float, span: float) -> float:
    """Return a value without the dust of its way through a fraction of the range.

    >>> _plain(-1e-06, 72.0), _plain(440.00003, 20000.0)
    (0.0, 440.0)
    """
    return round(value, 5 - math.floor(math.log10(span))) + 0.0


# -- editing -------------------------------------------------------------------------------------------------


def edit(request: Mapping[str, Any], report: Report) -> None:
    """Show a plugin's window until it is closed, or this process is asked to end; tell its state then.

    Raises: EffectError, ConfigError.
    """
    report.tell(stage="loading")
    plugin = opened(request["path"], request["name"], request["limit_s"])
    if request["state"]:
        plugin.raw_state = base64.b64decode(request["state"], validate=True)
    parameters = tuple(EffectParameter(**facts) for facts in parameters_of(plugin))
    effect = Effect(key=request["name"], title="", doc="", parameters=parameters)
    here = effect.defaults  # what equals it is in the state, and exact there
    set_values(plugin, effect, {n: v for n, v in request["values"].items() if here.get(n) != v})
    if hasattr(signal, "alarm"):
        signal.alarm(0)
    closed = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: closed.set())
    report.tell(stage="showing its window")
    kept = _x_errors_ignored()
    plugin.show_editor(closed)
    del kept
    values = {p["name"]: p["default"] for p in parameters_of(plugin)}  # where they stand now
    report.tell(state=base64.b64encode(plugin.raw_state).decode("ascii"), values=values)


def _x_errors_ignored() -> object:
    """Make X11's complaints harmless as long as the answer is kept.

    Where no desktop gives XSETTINGS, JUCE asks for a property of no window; Xlib ends the process for that.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libX11.so.6")
    except OSError:  # then no window is shown either
        return None
    ignore = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda display, event: 0)
    library.XSetErrorHandler.restype = ctypes.c_void_p
    library.XSetErrorHandler(ignore)
    return ignore


def main(arguments: list[str]) -> int:
    """Carry one request out."""
    request: Mapping[str, Any] = json.loads(arguments[0])
    report = Report(request["report"])
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(request["limit_s"]) + ALARM_S)
    try:
        if request["do"] == "edit":
            edit(request, report)
        else:
            probe(request["path"], request["name"], request["limit_s"], report)
    except (Refusal, EffectError, ImportError, ValueError, RuntimeError, OSError, binascii.Error) as error:
        report.tell(refused=str(error).splitlines()[0] if str(error) else type(error).__name__)
    return 0


if __name__ == "__main__":
    import os

    code = main(sys.argv[1:])
    os._exit(code)  # a plugin may hang or crash while it is unloaded: what was asked is written
