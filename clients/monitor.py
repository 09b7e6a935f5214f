"""`stemrack monitor`: levels, faders, counters and events of a node on a terminal; rich's home here."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..rt.control.codec import JSON, Codec
from ..rt.control.messages import Event, Meters, ServerMessage, Subscriptions, Value
from .session import Session
from .words import shown

FALL_DB_PER_S = 20.0 / 1.7
"""How fast a bar falls: as a programme meter of IEC 60268-10, type I."""
HOLD_S = 1.0
SILENT_AFTER_S = 2.0
"""Without a frame for so long the bars fall to nothing."""
LOWEST_DB = -60.0
LOUD_DB, HOT_DB = -18.0, -6.0
SCREENS_PER_S = 10
EVENTS_SHOWN = 6
MARKS = " ▏▎▍▌▋▊▉█"


def subscriptions(meters_hz: float) -> Subscriptions:
    """Return what the monitor wants of a node."""
    return Subscriptions(meters_hz=meters_hz, counters_hz=1.0, events=True)


def can_draw() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout.isatty()


class PeakHold:
    """The bar and the hold mark of one row, in dB of full scale; times are of any clock that only goes on.

    >>> peak = PeakHold()
    >>> peak.take(-10.0, 0.0)
    >>> peak.bar_db, peak.hold_db
    (-10.0, -10.0)
    """

    def __init__(self) -> None:
        self.bar_db = self.hold_db = -math.inf
        self._held_s = self._moved_s = -math.inf

    def take(self, peak_db: float, now_s: float) -> None:
        """Take the peak of a frame."""
        self.fall(now_s)
        self.bar_db = max(self.bar_db, peak_db)
        if peak_db >= self.hold_db:
            self.hold_db, self._held_s = peak_db, now_s

    def fall(self, now_s: float) -> None:
        """Let time pass: the bar falls at once, the mark after it was held."""
        last_s, self._moved_s = self._moved_s, now_s
        if not math.isfinite(last_s):
            return
        self.bar_db -= FALL_DB_PER_S * max(0.0, now_s - last_s)
        free_s = now_s - max(last_s, self._held_s + HOLD_S)
        self.hold_db = max(self.hold_db - FALL_DB_PER_S * max(0.0, free_s), self.bar_db)


@dataclass
class View:
    """What the screen shows beside the session's own state."""

    peaks: dict[str, PeakHold] = field(default_factory=dict)
    rms_db: dict[str, float] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=EVENTS_SHOWN))
    measured_s: float = -math.inf

    def take(self, message: ServerMessage, now_s: float) -> None:
        """Follow a message."""
        if isinstance(message, Event):
            self.events.append(message)
        elif isinstance(message, Meters):
            self.measured_s = now_s
            for name, (left, right, rms_left, rms_right) in message.levels.items():
                self.peaks.setdefault(name, PeakHold()).take(max(left, right), now_s)
                self.rms_db[name] = max(rms_left, rms_right)

    def fall(self, now_s: float) -> None:
        """Let time pass."""
        for peak in self.peaks.values():
            peak.fall(now_s)
        if now_s - self.measured_s > SILENT_AFTER_S:
            self.rms_db.clear()


# -- the screen --------------------------------------------------------------------------------------------


def bar(level_db: float, hold_db: float, width: int) -> Text:
    """Return a meter of `width` columns from LOWEST_DB to full scale, with the hold mark."""
    length = (max(level_db, LOWEST_DB) - LOWEST_DB) / -LOWEST_DB * width
    held = min(int((hold_db - LOWEST_DB) / -LOWEST_DB * width), width - 1) if hold_db > LOWEST_DB else -1
    marks = []
    for column in range(width):
        filled = min(max(length - column, 0.0), 1.0)
        is_mark = column == held and filled < 0.5
        marks.append("│" if is_mark else MARKS[round(filled * (len(MARKS) - 1))])
    text, start = Text(), 0
    for colour, up_to_db in (("green", LOUD_DB), ("yellow", HOT_DB), ("red", 0.0)):
        end = round((up_to_db - LOWEST_DB) / -LOWEST_DB * width)
        text.append("".join(marks[start:end]), colour)
        start = end
    return text


def screen(session: Session, view: View, width: int) -> Text:
    """Return all that is shown now: one text, which costs less to draw than a table."""
    lines = [_head(session), *_meters(session.values, view, max(10, width - 45))]
    if session.counters:
        shown_first = [n for n, v in session.counters.items() if v] or list(session.counters)
        counted = "  ".join(f"{name} {session.counters[name]}" for name in shown_first)
        lines.append(Text(counted, "dim"))
    for event in view.events:
        when = time.strftime("%H:%M:%S", time.localtime(event.time_s))
        facts = " ".join(f"{k}={shown(v)}" for k, v in event.facts.items())
        lines.append(Text(f"{when} {event.kind} {facts}".rstrip(), "yellow"))
    return Text("\n").join(lines)


def _head(session: Session) -> Text:
    values = session.values
    text = Text(session.server_name or "stemrack", "bold")
    text.append(f"  {session.address.websocket_url}  ", "not bold")
    if session.state == "ready":
        text.append("connected", "green")
    else:
        text.append(f"{session.state}: {session.trouble}" if session.trouble else session.state, "bold red")
    if state := values.get("engine/state"):
        text.append(f"  {state}", "green" if state == "wet" else "yellow")
    for path, unit in (("engine/latency_ms", "ms"), ("engine/rate_hz", "Hz")):
        if value := values.get(path):
            text.append(f"  {shown(value, unit)}", "not bold")
    if profile := values.get("engine/profile"):
        text.append(f"  {profile}", "not bold")
    if values.get("recording/active"):
        text.append("  recording", "bold red")
    return text


def _meters(values: Mapping[str, Value], view: View, width: int) -> list[Text]:
    scale = f"{LOWEST_DB:g} to 0 dBFS"
    lines = [Text(f"{'':8}{scale:{width}}{'peak':>8}{'rms':>8}{'fader':>10}", "dim")]
    stems = list(dict.fromkeys(p.split("/")[1] for p in values if p.startswith("stem/")))
    for name in view.peaks or ["input", "main", *stems, "cue"]:
        peak = view.peaks.get(name) or PeakHold()
        rms = _db(view.rms_db[name]) if name in view.rms_db else ""
        line = Text(f"{name[:7]:8}")
        line.append_text(bar(peak.bar_db, peak.hold_db, width))
        line.append(f"{_db(peak.hold_db):>8}", "bold red" if peak.hold_db >= 0.0 else "")
        line.append(f"{rms:>8}{_fader(values, name):>10} ")
        line.append_text(_flags(values, name))
        lines.append(line)
    return lines


def _db(level_db: float) -> str:
    return f"{level_db:.1f}" if level_db > 2.0 * LOWEST_DB else "-"


def _fader(values: Mapping[str, Value], name: str) -> str:
    path = {"main": "master/gain_db", "cue": "cue/gain_db"}.get(name, f"stem/{name}/gain_db")
    gain_db = values.get(path)
    return f"{gain_db:+.1f} dB" if isinstance(gain_db, float) else ""


def _flags(values: Mapping[str, Value], name: str) -> Text:
    text = Text()
    for what, style in (("mute", "bold red"), ("solo", "bold yellow")):
        if values.get(f"stem/{name}/{what}"):
            text.append(f"{what} ", style)
    return text


# -- running -----------------------------------------------------------------------------------------------


async def draw(session: Session, count: int | None = None, console: Console | None = None) -> None:
    """Draw the screen again and again; ends after `count` screens. Raises: SessionError, as the session."""
    console = console or Console()
    view, clock = View(), asyncio.get_running_loop().time
    take: Callable[[ServerMessage], None] = lambda message: view.take(message, clock())  # noqa: E731
    session.on_message.append(take)
    n_left = count or 0
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while session.state != "closed":
                view.fall(clock())
                live.update(screen(session, view, console.width), refresh=True)
                if (n_left := n_left - 1) == 0:
                    return
                await asyncio.sleep(1.0 / SCREENS_PER_S)
        await session.ready()  # says why it is over
    finally:
        session.on_message.remove(take)


async def print_frames(session: Session, count: int | None = None) -> None:
    """Print each frame of the node as a line of JSON; ends after `count` lines."""
    codec, n_left = Codec(JSON), count or 0
    messages = session.messages()
    print(codec.encode(session.snapshot()), flush=True)
    if n_left == 1:
        return
    n_left -= 1
    async for message in messages:
        print(codec.encode(message), flush=True)
        if (n_left := n_left - 1) == 0:
            return
