"""The node behind the protocol: an engine's faders, devices, recording, levels and events as state."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...models.stems import STEMS
from ..engine import Engine
from ..errors import ConfigError, HostError
from ..meters import Level, MeterTap
from ..presets import Preset
from ..recording import RecordSettings
from ..stream import StreamPlan
from ..supervisor import Event as EngineEvent
from .auth import Tokens
from .board import Board
from .chain_table import ChainTable, InsertParameters
from .codec import ProtocolError
from .commands import Actions, Commands, Done
from .faders import values_of
from .messages import ClientMessage, Counters, ErrorCode, Event, Meters, Value
from .protocol import Answer, Client
from .scene_file import load_scenes, save_scenes
from .scenes import Scene, scene_of_preset
from .table import Parameter, mixer_parameters, node_parameters

FLOOR_DB = -200.0
"""What a level of nothing is sent as: JSON has no -inf."""
WATCHED = {
    "xruns": "xrun",
    "late_hops": "late-hop",
    "fallbacks": "fallback",
    "clipped_samples": "clip",
    "bad_input_samples": "bad-input",
}
"""Counters whose growth is an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What the protocol may show and do. Names are all that clients choose from; paths stay here."""

    name: str
    tokens: Tokens
    recording: RecordSettings
    profile: str
    """The one that the node began with."""
    latency_ms: Callable[[], float]
    """From input to output as the budget declares it, on the devices of the moment."""
    ramp_ms: float
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    scene_file: Path | None = None
    presets: Mapping[str, Preset] = field(default_factory=dict)
    """Listed among the scenes, and never changed."""
    profiles: tuple[str, ...] = ()
    """Those that may be changed to."""
    change_profile: Callable[[str], None] | None = None
    """Returns once another profile is heard.  Raises: HostError."""


class EngineNode:
    """An engine as `protocol.Node`.  Thread: the control loop's, but for `note` (any) and the changes' own.

    `post` runs a function in the control loop; it is set before the first client comes.
    """

    def __init__(self, engine: Engine, settings: NodeSettings) -> None:
        self.server_name = settings.name
        self._engine, self._settings = engine, settings
        self._profile = settings.profile
        self._declared: tuple[StreamPlan | None, str] = None, ""
        self._latency_ms = 0.0
        table = ChainTable(_parameters(settings), InsertParameters(engine.effects.table))
        values = table.defaults | values_of(engine.mixer) | self._status()
        values |= {"device/input": _input_of(engine), "device/output": _output_of(engine)}
        values["engine/profile"] = settings.profile
        scenes = load_scenes(settings.scene_file) if settings.scene_file else {}
        self.board = Board(secrets.token_hex(8), values)
        presets = {name: scene_of_preset(preset) for name, preset in settings.presets.items()}
        self.commands = Commands(table, self.board, engine.mixer, self._actions(), scenes, presets)
        self.post: Callable[[Callable[[], None]], None] = lambda call: call()
        self.on_event: list[Callable[[Event], None]] = []
        self.learn: Callable[[str], None] = _no_midi
        self.unlearn: Callable[[str], None] = _no_midi
        """Set by whoever looks after the controllers."""
        self._taps: dict[str, MeterTap] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="stemrack-change")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="stemrack-profile")
        """Its own: a recording does not wait while networks are loaded."""
        self._counted = engine.counters()

    def close(self) -> None:
        """Wait for the change that is under way."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._loader.shutdown(wait=True, cancel_futures=True)

    # -- what sessions ask --------------------------------------------------------------------------------

    def role_of(self, token: str) -> str | None:
        """Return the role a token gives; None if it gives none."""
        return self._settings.tokens.role_of(token)

    def carry_out(self, request: ClientMessage, client: Client, answer: Answer) -> None:
        """Carry a request out and answer it, now or later.  Raises: ProtocolError."""
        self.commands.carry_out(request, client, answer)

    def meters_for(self, client_id: str) -> Meters | None:
        """Return the levels since the last call for this client; None while no sound is made."""
        if client_id not in self._taps:
            self._taps[client_id] = self._engine.meter_tap()
        levels = self._taps[client_id].read()
        if levels is None:
            return None
        return Meters(
            position=self._engine.record_position, levels={name: _row(lv) for name, lv in levels.items()}
        )

    def forget(self, client_id: str) -> None:
        """Keep no levels for a client any more: it has gone."""
        if tap := self._taps.pop(client_id, None):
            self._engine.drop_tap(tap)

    def counters(self) -> Counters:
        """Return everything that is counted."""
        return Counters(values=self._engine.counters())

    # -- what the node tells ------------------------------------------------------------------------------

    def note(self, event: EngineEvent) -> None:
        """Take an event of the engine, on any thread."""
        facts: dict[str, Value] = {k: _plain(v) for k, v in event.facts.items()}
        self.post(lambda: self._tell(event.kind, facts))

    def say(self, kind: str, facts: dict[str, Value]) -> None:
        """Tell the clients that something happened, from any thread."""
        self.post(lambda: self._tell(kind, facts))

    def tick(self) -> None:
        """Look at what has changed by itself; called ten times a second in the control loop."""
        counted = self._engine.counters()
        for name, kind in WATCHED.items():
            if (n := counted[name] - self._counted[name]) > 0:
                self._tell(kind, {"n": n, "total": counted[name]})
        self._counted = counted
        self.commands.tell(self._status())
        self.commands.follow_chains()

    def _tell(self, kind: str, facts: dict[str, Value]) -> None:
        event = Event(kind=kind, time_s=time.time(), facts=facts)
        for told in self.on_event:
            told(event)

    def _status(self) -> dict[str, Value]:
        engine = self._engine
        of_what = engine.plan, self._profile
        if of_what[0] is not self._declared[0] or of_what[1] != self._declared[1]:
            self._declared, self._latency_ms = of_what, round(self._settings.latency_ms(), 1)
        return {
            "engine/state": _state_of(engine),
            "engine/latency_ms": self._latency_ms,
            "engine/rate_hz": float(engine.plan.rate_hz) if engine.plan else 0.0,
            "recording/active": engine.is_recording,
            "effects/costs": _costs(engine.effects.costs),
        }

    # -- what commands do ---------------------------------------------------------------------------------

    def _actions(self) -> Actions:
        return Actions(
            set_mixer=self._engine.set_mixer,
            change=self._change,
            chains=lambda: self._engine.chains,
            set_chains=self._engine.set_chains,
            keep_scenes=self._keep_scenes,
            learn=lambda path: self.learn(path),
            unlearn=lambda path: self.unlearn(path),
        )

    def _change(self, path: str, value: Value, done: Done) -> None:
        """Change the structure on a thread of its own, and tell the control loop how it went."""

        def work() -> None:
            trouble = ""
            try:
                self._carry_change(path, value)
            except HostError as error:
                trouble = str(error)
            in_force = self._in_force(path)
            self.post(lambda: done(in_force, trouble))

        (self._loader if path == "engine/profile" else self._worker).submit(work)

    def _carry_change(self, path: str, value: Value) -> None:
        engine = self._engine
        if path == "recording/active":
            if value and not engine.is_recording:
                engine.start_recording(self._settings.recording)
            elif not value:
                engine.stop_recording()
        elif path in ("device/input", "device/output"):
            side = path.rpartition("/")[2]
            engine.change_devices(replace(engine.settings.devices, **{side: value}))
        elif value != self._profile or engine.worker.state == "failed":
            if self._settings.change_profile is None:
                raise ConfigError(f"profile {value}: start the node with -n {value}, it cannot change here")
            self._settings.change_profile(str(value))
            self._profile = str(value)

    def _in_force(self, path: str) -> Value:
        if path == "recording/active":
            return self._engine.is_recording
        if path == "device/input":
            return _input_of(self._engine)
        return _output_of(self._engine) if path == "device/output" else self._profile

    def _keep_scenes(self, scenes: Mapping[str, Scene]) -> None:
        if (path := self._settings.scene_file) is not None:
            kept = dict(scenes)
            self.write(lambda: save_scenes(path, kept), path.name)

    def write(self, save: Callable[[], None], name: str) -> None:
        """Write a file on the changes' thread: a slow disk holds nobody up. What goes wrong is an event."""

        def work() -> None:
            try:
                save()
            except (OSError, HostError) as error:
                self.say("not-kept", {"file": name, "reason": str(error)})

        self._worker.submit(work)


def _parameters(settings: NodeSettings) -> list[Parameter]:
    mixer = [
        replace(p, ramp_ms=settings.ramp_ms) if p.ramp_ms is not None else p for p in mixer_parameters(STEMS)
    ]
    return mixer + node_parameters(
        settings.profiles or (settings.profile,), settings.inputs, settings.outputs
    )


def _no_midi(path: str) -> None:
    said = "the node listens to no MIDI ports: start it with --midi '*', or name them in [midi] ports"
    raise ProtocolError(ErrorCode.NOT_NOW, said, path)


def _costs(costs: Mapping[str, tuple[float, float]]) -> str:
    """Return the costs as text, rounded so that it seldom changes."""
    return "\n".join(f"{name} {round(mean_us, -1):.0f}" for name, (mean_us, _) in costs.items())


def _state_of(engine: Engine) -> str:
    if engine.audio.state == "running":
        return "dry" if engine.counters()["is_dry"] else "wet"
    return "waiting" if engine.audio.state in ("waiting", "starting") else "stopped"


def _input_of(engine: Engine) -> str:
    if engine.settings.input_file:
        return "file"
    return (engine.resolved.input if engine.resolved else None) or "none"


def _output_of(engine: Engine) -> str:
    return (engine.resolved.output if engine.resolved else None) or "none"


def _row(level: Level) -> tuple[float, float, float, float]:
    left, right = (round(max(v, FLOOR_DB), 2) for v in level.peak_db)
    rms_left, rms_right = (round(max(v, FLOOR_DB), 2) for v in level.rms_db)
    return left, right, rms_left, rms_right


def _plain(value: Any) -> Value:
    return value if isinstance(value, bool | int | float | str) or value is None else str(value)
