"""`stemrack run`: a node on the terminal, from the configuration to Ctrl-C."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.stems import STEMS
from .engine import Engine, EngineSettings
from .errors import OutputError
from .interrupt import interruptible
from .meters import SILENT, Level
from .screen import live_lines, print_lines
from .supervisor import Event

PERIOD_S = 0.1
JSON_PERIOD_S = 1.0
METER_WIDTH = 24
STOPS = "  Ctrl-C fades out and stops; a second Ctrl-C stops at once."
METER_FLOOR_DB = -60.0

Listen = Callable[[Callable[[Event], None]], None]


@dataclass(frozen=True, slots=True)
class Served:
    """Where a node can be reached: lines for people, address and operator's token for programs."""

    lines: tuple[str, ...] = ()
    url: str = ""
    token: str = ""


Control = Callable[[Engine, Listen], AbstractContextManager[Served]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is shown and when it ends. head: lines that say what runs, given the engine."""

    head: Callable[[Engine], list[str]]
    as_json: bool = False
    seconds: float | None = None
    control_log: Path | None = None
    record: Any = None
    """A `recording.RecordSettings`, or None."""
    control: Control = lambda engine, listen: nullcontext(Served())
    """Serves others while the node runs."""


def run(settings: EngineSettings, options: RunOptions) -> int:
    """Run a node until it is interrupted or its time is over; returns the exit code.

    The first Ctrl-C fades out and finishes what is being written, a second one ends at once.
    """
    shown = _Shown(as_json=options.as_json)
    listeners: list[Callable[[Event], None]] = [shown.event]

    def tell(event: Event) -> None:
        for listener in tuple(listeners):
            listener(event)

    finished = False
    try:
        with interruptible() as check, Engine(settings, tell) as engine:
            engine.start(shown.progress)
            if options.record:
                engine.start_recording(options.record)
            with options.control(engine, listeners.append) as served:
                shown.head([*options.head(engine), "", *served.lines, STOPS])
                _watch(engine, options, shown, check)
                _finish(engine, options, shown)
            finished = True
    except SystemExit:  # Ctrl-C is how a run ends
        if not finished:
            raise
    return 0


def _finish(engine: Engine, options: RunOptions, shown: _Shown) -> None:
    report = engine.stop_recording()
    if report:
        shown.note("recorded", {"files": [str(p) for p in report.paths], "samples": report.n_samples})
    engine.close()
    shown.note("stopped", engine.counters())
    if options.control_log and engine.control_log:
        try:
            engine.control_log.write(options.control_log)
        except OSError as error:
            reason = f"cannot be written ({error.strerror}): choose another --control-log"
            raise OutputError(options.control_log, reason) from error


def _watch(engine: Engine, options: RunOptions, shown: _Shown, check: Callable[[], None]) -> None:
    stop = None if options.seconds is None else time.monotonic() + options.seconds
    try:
        with shown.status(engine) as show:
            shows_at = 0.0
            while stop is None or time.monotonic() < stop:
                check()
                if time.monotonic() >= shows_at:
                    show()
                    shows_at = time.monotonic() + (JSON_PERIOD_S if options.as_json else 0.0)
                # short, for JSON too: a second Ctrl-C that comes in here counts as the first
                time.sleep(PERIOD_S)
    except SystemExit:
        shown.note("stopping", {"how": "fading out; Ctrl-C again ends at once"})


class _Shown:
    """What the terminal, or a program that reads JSON lines, gets to see."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._writing, self._is_heard = threading.Lock(), True

    def progress(self, text: str) -> None:
        """Say what start-up is doing."""
        if self._as_json:
            self._line("progress", {"text": text})
        else:
            print(f"stemrack: {text} ...", file=sys.stderr, flush=True)

    def head(self, lines: list[str]) -> None:
        """Say what runs."""
        if self._as_json:
            self._line("running", {"lines": lines})
        else:
            print_lines(lines)

    def event(self, event: Event) -> None:
        """Show an event as it comes."""
        self.note(event.kind, event.facts)

    def note(self, kind: str, facts: dict[str, Any]) -> None:
        """Show a line about something that happened."""
        if self._as_json:
            self._line(kind, facts)
        else:
            said = ", ".join(
                f"{k.replace('_', ' ')}: {v}" for k, v in facts.items() if v not in ("", 0, None)
            )
            print_lines([f"{time.strftime('%H:%M:%S')}  {kind}{'  ' + said if said else ''}"])

    def _line(self, kind: str, facts: dict[str, Any]) -> None:
        """Write a line whole: events come from other threads than the status."""
        text = json.dumps({"kind": kind, **facts}, default=str) + "\n"
        with self._writing:
            try:
                if self._is_heard:
                    sys.stdout.write(text)
                    sys.stdout.flush()
            except BrokenPipeError:  # whoever read has gone: the music goes on
                self._is_heard = False

    @contextmanager
    def status(self, engine: Engine) -> Iterator[Callable[[], None]]:
        """Give a function that shows levels and counters now."""
        if self._as_json:
            yield lambda: self._line(
                "status",
                {
                    "counters": engine.counters(),
                    "levels": _plain(engine.levels()),
                    "drift_ppm": engine.drift_ppm,
                },
            )
            return
        with live_lines() as draw:
            yield lambda: draw(
                status_lines(engine.levels(), engine.counters(), engine.seconds, engine.drift_ppm)
            )


def _plain(levels: dict[str, Level] | None) -> dict[str, Any] | None:
    if levels is None:
        return None
    floor = -200.0  # JSON has no -inf
    return {
        name: {
            "peak_db": [round(max(v, floor), 1) for v in level.peak_db],
            "rms_db": [round(max(v, floor), 1) for v in level.rms_db],
        }
        for name, level in levels.items()
    }


def meter_bar(level_db: float) -> str:
    """Return a bar for a level.

    >>> meter_bar(-30.0), meter_bar(-90.0)
    ('############............', '........................')
    """
    share = (min(level_db, 0.0) - METER_FLOOR_DB) / -METER_FLOOR_DB
    n = round(max(0.0, share) * METER_WIDTH)
    return "#" * n + "." * (METER_WIDTH - n)


def status_lines(
    levels: dict[str, Level] | None, counted: dict[str, int], seconds: float, drift_ppm: float | None = None
) -> list[str]:
    """Return the lines that are drawn again and again: a meter for each bus, and what was counted."""
    lines = []
    for name in ("input", *STEMS, "main"):
        level = (levels or {}).get(name, SILENT)
        peak = max(level.peak_db)
        lines.append(f"  {name:<7} {meter_bar(max(level.rms_db))} {peak:7.1f} dB peak")
    state = "DRY" if counted["is_dry"] else "ok"
    minutes, rest = divmod(int(seconds), 60)
    lines.append(
        f"  {minutes}:{rest:02d}  stems {state}   late hops {counted['late_hops']}   "
        f"xruns {counted['xruns']}   "
        f"fallbacks {counted['fallbacks']}   worker deaths {counted['worker_deaths']}"
    )
    if drift_ppm is not None:
        lines.append(f"  the input's clock runs {drift_ppm:+.0f} ppm beside the output's")
    return lines
