"""The node's core: block, children, faders, player and recorder behind one object."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from .audio import DeviceChoice, Resolved
from .block import (
    CAPTURE_READ,
    CAPTURE_WRITE,
    HOP,
    INPUT_FROM_FEED,
    POSITION,
    RATE_HZ,
    RECORD_POSITION,
    WORKER_REALTIME,
    Block,
    Geometry,
    make_block,
    of_worker,
)
from .chain_desk import ChainDesk
from .chains import Chains
from .child import process_context
from .control_log import ControlLog, ProfileChange
from .drift import drift_ppm
from .effect_builtin import BUILT_IN
from .effect_table import EffectTable
from .errors import EngineStateError, HostError
from .meters import Level, MeterReader, MeterTap, counters
from .opening import Opener, wait_for
from .params import MixerState, ParameterWriter
from .player import Player
from .recording import Recorder, RecordingReport, RecordSettings
from .stream import StreamPlan
from .supervisor import AudioWatch, Event, Supervisor, WorkerWatch
from .switch import ProfileSwitch
from .worker import WorkerSettings

TICK_S = 0.01
START_LIMIT_S = 240.0
"""Loading may include the first export of a network."""
N_EVENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What an engine runs. hop: the separator's, in samples; plan_for: the plan on the devices found."""

    hop: int
    worker: WorkerSettings
    devices: DeviceChoice
    plan_for: Callable[[Resolved], StreamPlan]
    mixer: MixerState = MixerState()  # noqa: RUF009  frozen
    input_file: Path | None = None
    """Played, looped, in place of a device's input."""
    effect_table: EffectTable = BUILT_IN
    impulses: Mapping[str, Path] = field(default_factory=dict)
    """Files of impulse responses, by the names that the table has for them."""
    chains: Chains = Chains()  # noqa: RUF009  frozen
    effects_allowance_samples: int = 0
    """As for `ChainDesk`."""


class Engine:
    """Starts, steers and stops a live separation.

    `start` spawns the processes and opens the stream; `stop_stream` and `start_stream` keep the processes.
    Thread: any; its own thread looks after the children, carries parameters and hears acknowledgements.
    Raises: EngineStateError from `start` and `start_stream`, with what the audio process said of the device.
    """

    def __init__(self, settings: EngineSettings, on_event: Callable[[Event], None] | None = None) -> None:
        self.settings = settings
        self._context = process_context()
        self.block: Block = make_block(Geometry.for_separator(settings.hop), self._context)
        self.events: deque[Event] = deque(maxlen=N_EVENTS)
        self._on_event = on_event
        self.effects = ChainDesk(
            self.block,
            settings.effect_table,
            settings.impulses,
            settings.chains,
            self._note_of,
            allowance_samples=settings.effects_allowance_samples,
        )
        self._supervisor = Supervisor(
            self.block,
            self._context,
            settings.worker,
            self._note,
            effects=self.effects.settings_now,
            blame=self.effects.blame,
        )
        self._lock = threading.RLock()
        self._opener = Opener(self.block, self._supervisor, self._lock)
        self._fader_lock = threading.Lock()
        """Its own: a fader does not wait while the supervisor spawns a process."""
        self._structure = threading.Lock()
        """Held by a change of devices or of the profile: there is one at a time."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="stemrack-engine", daemon=True)
        self._meters = MeterReader(self.block)
        self._levels = self._meters.tap()
        self._player: Player | None = None
        self._recorder: Recorder | None = None
        self._writer: ParameterWriter | None = None
        self.resolved: Resolved | None = None
        self.plan: StreamPlan | None = None
        self.control_log: ControlLog | None = None

    # -- life ---------------------------------------------------------------------------------------------

    def start(self, on_progress: Callable[[str], None] = lambda text: None) -> None:
        """Spawn both processes, wait until the worker is warm, open the stream."""
        on_progress("starting processes")
        with self._lock:
            self._supervisor.start()
        self._thread.start()
        wait_for(lambda: self.audio.state == "idle", START_LIMIT_S, "starting the audio process")
        self.resolved = self._opener.resolved(self.settings.devices)
        self.block.words[RATE_HZ] = self.resolved.rate_hz  # the worker builds its chains for that
        on_progress("loading and warming up the separator")
        wait_for(lambda: self.worker.state in ("ready", "failed"), START_LIMIT_S, "loading the separator")
        if self.worker.state == "failed":
            raise EngineStateError(f"the worker does not start, saying: {self.worker.said}")
        self.effects.start()
        on_progress("opening the device")
        self.start_stream()

    def start_stream(self) -> None:
        """Open the stream and wait for its first block."""
        assert self.resolved
        if not self.resolved.block_samples and not self.resolved.largest_block:
            guess = self.settings.plan_for(replace(self.resolved, block_samples=self.settings.hop))
            self.resolved = self._opener.surveyed(self.settings.devices, self.resolved, guess)
        self.effects.plan(self.effects.needed_samples(self._hop_of(self.settings)))
        plan = self._plan(self.settings, self.resolved, self.effects.planned_samples)
        if self.settings.input_file and self._player is None:
            self.block.words[CAPTURE_READ] = self.block.words[CAPTURE_WRITE] = 0
            self._player = Player(self.block, self.settings.input_file, plan.rate_hz)
            self._player.prefill()
            self._player.start()
        self.plan = plan
        self._prepare_faders(plan)
        self._opener.open(self.settings.devices, self.resolved, plan)

    def _plan(self, settings: EngineSettings, resolved: Resolved, effects_samples: int) -> StreamPlan:
        """Return the plan with settings, whose delay has room for effects of some latency."""
        plan = settings.plan_for(resolved)
        if self.settings.input_file:
            plan = replace(plan, input_source=INPUT_FROM_FEED, n_in_channels=0)
        return replace(plan, delay_samples=plan.delay_samples + effects_samples)

    def _hop_of(self, settings: EngineSettings) -> int:
        """Return the hops in which the latency of effects shows."""
        return max(settings.hop, self.slot_hop)

    def _prepare_faders(self, plan: StreamPlan) -> None:
        """Have the first block find its table; later streams go on with the faders as they stand."""
        with self._fader_lock:
            if self._writer is not None:
                return
            self.control_log = ControlLog(
                rate_hz=plan.rate_hz,
                origin=-(-int(self.block.words[POSITION]) // self.slot_hop) * self.slot_hop,
                delay_samples=plan.delay_samples,
                start_ramp_samples=plan.ramp_samples,
                limiter_samples=plan.limiter_samples,
                chains=self.effects.target.as_dict(),
            )
            self.effects.log = self.control_log
            self._writer = ParameterWriter(self.block, plan.rate_hz, self.control_log.add)
            self._writer.set_target(self.settings.mixer)

    def stop_stream(self) -> None:
        """Fade out and close the stream; the processes stay."""
        self._opener.close()

    def change_devices(self, devices: DeviceChoice) -> None:
        """Fade out, open other devices, go on; back to the present ones if that does not work.

        Raises: EngineStateError with what was wrong with the others, or while another change is under way.
        Latency: silent for about a second.
        """
        with self._alone():
            self._change_devices(devices)

    def _change_devices(self, devices: DeviceChoice) -> None:
        before = self.settings, self.resolved
        rate_hz = self.plan.rate_hz if self.plan else 0
        self.stop_stream()
        try:
            self.settings = replace(self.settings, devices=devices)
            self.resolved = self._opener.resolved(self.settings.devices)
            if self.resolved.rate_hz != rate_hz:
                said = (
                    f"runs at {self.resolved.rate_hz} Hz, the node at {rate_hz} Hz: restart the node for that"
                )
                raise EngineStateError(f"'{self.resolved.output}' {said}")
            self.start_stream()
        except HostError:
            self.settings, self.resolved = before
            self.start_stream()
            raise

    def change_profile(self, profile: str, settings: EngineSettings, limit_s: float = START_LIMIT_S) -> None:
        """Separate as other settings say, from a hop on, without a gap; returns when it is done.

        settings: their hop, worker and plan_for are taken; profile: their name, for events and the log.
        Raises: EngineStateError if that does not work, or not within limit_s, or while another change is
        under way; the present profile goes on then, and `profile-refused` is told.
        Latency: until the other worker is loaded, and WARM_S of `switch`, in which it listens.
        """
        try:
            with self._alone():
                self._change_profile(profile, settings, limit_s)
        except HostError as error:
            self._note(Event("profile-refused", time.monotonic(), {"profile": profile, "why": str(error)}))
            raise

    def _change_profile(self, profile: str, settings: EngineSettings, limit_s: float) -> None:
        if self.plan is None or self.resolved is None or self.audio.state != "running":
            raise EngineStateError("the profile changes while sound comes: wait until the stream runs")
        effects_samples = self.effects.needed_samples(self._hop_of(settings))
        plan = self._plan(settings, self.resolved, effects_samples)
        self._note(Event("profile-changing", time.monotonic(), {"profile": profile}))
        switch = ProfileSwitch(self.block, self._supervisor, self._lock, self._ending)
        try:
            self.effects.bring_up_to_date(switch.prepare(settings.worker, plan, limit_s))
            with self._lock:
                done = switch.commit(plan)
        except HostError:
            switch.drop()
            raise
        self.settings = replace(
            self.settings, hop=settings.hop, worker=settings.worker, plan_for=settings.plan_for
        )
        self.plan = plan
        self.effects.plan(effects_samples)
        if self.control_log:
            self.control_log.profiles.append(
                ProfileChange(
                    profile=profile,
                    position=done.position,
                    delay_samples=done.delay_samples,
                    begin=done.begin,
                )
            )
        switch.settle(done)
        delay_ms = round(1e3 * plan.delay_samples / plan.rate_hz, 1)
        facts = {"profile": profile, "delay_ms": delay_ms, "position": done.position}
        self._note(Event("profile-changed", time.monotonic(), facts))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._structure.acquire(blocking=False):
            raise EngineStateError(
                "the profile or the devices are being changed already: try again after that"
            )
        try:
            yield
        finally:
            self._structure.release()

    def close(self) -> None:
        """Fade out, end everything; may be called at any time and more than once."""
        if self._ending.is_set():
            return
        if self._recorder:
            self.stop_recording()
        self._ending.set()
        self.effects.stop()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._supervisor.end()
        if self._player:
            self._player.stop()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _look_after(self) -> None:
        while not self._ending.wait(TICK_S):
            with self._lock:
                self._supervisor.tick()
            with self._fader_lock:
                if self._writer:
                    self._writer.poll()
            self.effects.poll(self.worker.pipe)
            self._follow_effects()
            self._meters.poll()

    def _follow_effects(self) -> None:
        """Have the delay follow the effects' latency, unless devices or the profile are being changed."""
        if self.plan is None or not self._structure.acquire(blocking=False):
            return
        try:
            self.plan = self.effects.follow(self.plan, self.audio, self._hop_of(self.settings))
        finally:
            self._structure.release()

    def _note_of(self, kind: str, facts: dict[str, object]) -> None:
        self._note(Event(kind, time.monotonic(), facts))

    def _note(self, event: Event) -> None:
        self.events.append(event)
        if self._on_event:
            self._on_event(event)

    # -- what a person does -------------------------------------------------------------------------------

    @property
    def mixer(self) -> MixerState:
        """The faders as they were set last."""
        return self._writer.state if self._writer else self.settings.mixer

    def set_mixer(self, state: MixerState) -> None:
        """Move the faders; heard from the callback's next block on."""
        with self._fader_lock:
            if self._writer is None:
                raise EngineStateError("the stream has not been opened: call start first")
            self._writer.set_target(state)

    @property
    def chains(self) -> Chains:
        """The effect chains as they were set last; what crashed or was too slow is bypassed in them."""
        return self.effects.target

    def set_chains(self, chains: Chains, seen: Chains | None = None) -> None:
        """Have these heard, cross-faded, once built; seen: as for `ChainDesk`.  Raises: EngineStateError."""
        if self._writer is None:
            raise EngineStateError("the stream has not been opened: call start first")
        self.effects.set_target(chains, seen)

    def levels(self) -> dict[str, Level] | None:
        """Return the levels since the last call; None while no blocks come."""
        return self._levels.read()

    def meter_tap(self) -> MeterTap:
        """Return levels for one more reader, that has peaks of its own; `drop_tap` ends it."""
        return self._meters.tap()

    def drop_tap(self, tap: MeterTap) -> None:
        """End a reader's levels."""
        self._meters.drop(tap)

    def counters(self) -> dict[str, int]:
        """Return everything that is counted."""
        restarts = {
            "worker_deaths": self.worker.n_deaths,
            "worker_restarts": self.worker.n_restarts,
            "audio_restarts": self.audio.n_restarts,
        }
        return counters(self.block) | restarts

    def start_recording(self, settings: RecordSettings) -> None:
        """Write what is heard from now on to files.  Raises: EngineStateError if that is being done."""
        if self._recorder and self._recorder.is_running:
            raise EngineStateError("a recording is running: stop it first")
        recorder = Recorder(self.block, settings, self._note_of)
        recorder.start()
        self._recorder = recorder

    def stop_recording(self) -> RecordingReport | None:
        """Return what was recorded; None if nothing was."""
        recorder, self._recorder = self._recorder, None
        return recorder.stop() if recorder else None

    @property
    def is_recording(self) -> bool:
        """Whether a recording is being written."""
        return self._recorder is not None and self._recorder.is_running

    @property
    def seconds(self) -> float:
        """Time played so far."""
        return int(self.block.words[POSITION]) / max(1, int(self.block.words[RATE_HZ]))

    @property
    def drift_ppm(self) -> float | None:
        """How much faster the input's clock runs than the output's; None where they are one device."""
        separate = self.resolved is not None and self.resolved.separate_input
        return drift_ppm(self.block.follower) if separate else None

    @property
    def is_realtime(self) -> bool:
        """Whether the worker got real-time priority."""
        return bool(self.block.words[of_worker(self.block.words, WORKER_REALTIME)])

    @property
    def slot_hop(self) -> int:
        """Samples of the hops in which stems reach the callback: the same for the engine's whole life."""
        return int(self.block.words[HOP])

    @property
    def record_position(self) -> int:
        """Output up to here can be read from the record ring."""
        return int(self.block.words[RECORD_POSITION])

    @property
    def worker(self) -> WorkerWatch:
        """The watch over the worker."""
        return self._supervisor.worker

    @property
    def audio(self) -> AudioWatch:
        """The watch over the audio process."""
        return self._supervisor.audio
