"""What requests do: each is checked against the table, then moves faders or asks for something bigger."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ...models.stems import STEMS
from ..params import Fader, MixerState
from .board import Board
from .codec import ProtocolError
from .messages import (
    Adjust,
    Batch,
    ClientMessage,
    DeleteScene,
    Describe,
    Described,
    ErrorCode,
    Get,
    Learn,
    RecallScene,
    Reply,
    Set,
    Step,
    StoreScene,
    Unlearn,
    Value,
)
from .protocol import Answer, Client, error_of
from .table import RAMP_HIGHEST_MS, ROLES, SILENT_DB, Parameter, Table

MAX_SCENES = 100
Scene = dict[str, Value]
Done = Callable[[Value, str], None]
"""Told what holds now after a change of structure, and what went wrong ('': nothing)."""


@dataclass(frozen=True, kw_only=True)
class Actions:
    """What commands need of the node. set_mixer must return at once; change calls `Done` when it is over."""

    set_mixer: Callable[[MixerState], None]
    change: Callable[[str, Value, Done], None]
    keep_scenes: Callable[[Mapping[str, Scene]], None] = lambda scenes: None
    learn: Callable[[str], None] = lambda path: None
    unlearn: Callable[[str], None] = lambda path: None


@dataclass
class _Plan:
    """Values as they will be, the ramp at each path that is touched, and the longest that was asked for."""

    values: dict[str, Value]
    ramps_ms: dict[str, float] = field(default_factory=dict)
    asked_ms: float | None = None

    def put(self, parameter: Parameter, value: Value, ramp_ms: float | None) -> None:
        """Set a value, with the ramp asked for or the parameter's own."""
        self.values[parameter.path] = value
        self.ramps_ms[parameter.path] = (parameter.ramp_ms or 0.0) if ramp_ms is None else ramp_ms
        if ramp_ms is not None:
            self.asked_ms = max(ramp_ms, self.asked_ms or 0.0)


class Commands:
    """Carries requests out on the board and the node.  Thread: one (the control loop)."""

    def __init__(
        self, table: Table, board: Board, mixer: MixerState, actions: Actions, scenes: Mapping[str, Scene]
    ) -> None:
        self.table, self.board, self.mixer = table, board, mixer
        self._actions = actions
        self._scenes: dict[str, Scene] = dict(scenes)
        self._changing: set[str] = set()

    def carry_out(self, request: ClientMessage, client: Client, answer: Answer) -> None:
        """Carry a request out; `answer` gets the reply, now or when it is done.  Raises: ProtocolError."""
        if isinstance(request, Get):
            answer(self._reply(request.id, self._got(request.paths)))
            return
        if isinstance(request, Describe):
            answer(Described(id=request.id, parameters=tuple(p.info for p in self.table)))
            return
        _require("operator", client, getattr(request, "path", ""))
        if isinstance(request, Set) and request.path in self.table:
            parameter = self.table[request.path]
            if parameter.path not in _MIXER_PATHS and parameter.role is not None:
                self._change_structure(parameter, request, client, answer)
                return
        if isinstance(request, Set | Adjust | RecallScene):
            answer(self._reply(request.id, self.apply((request,), client)))
        elif isinstance(request, Batch):
            answer(self._reply(request.id, self.apply(request.requests, client)))
        elif isinstance(request, StoreScene | DeleteScene):
            self._edit_scenes(request, client.client_id)
            answer(self._reply(request.id, {"scenes": self.board.values["scenes"]}))
        elif isinstance(request, Learn | Unlearn):
            self._learn(request)
            answer(self._reply(request.id, {}))
        else:
            raise ProtocolError(ErrorCode.UNKNOWN_TYPE, "this is not a request")

    def apply(self, steps: Iterable[Step], client: Client) -> dict[str, Value]:
        """Return the values in force after steps in order; all are done, or none.  Raises: ProtocolError."""
        plan = _Plan(dict(self.board.values))
        for index, step in enumerate(steps):
            try:
                self._plan_step(plan, step, client)
            except ProtocolError as problem:
                if index:
                    problem.message = f"request {index} of the batch: {problem.message}"
                raise
        self.mixer = mixer_of(plan.values, plan.ramps_ms, self.mixer)
        self._actions.set_mixer(self.mixer)
        self.board.change({p: plan.values[p] for p in plan.ramps_ms}, client.client_id, plan.asked_ms)
        return {p: plan.values[p] for p in plan.ramps_ms}

    def tell(self, values: Mapping[str, Value], origin: str = "node") -> None:
        """Put what the node itself knows on the board, but for what a client's request is changing now."""
        self.board.change({p: v for p, v in values.items() if p not in self._changing}, origin)

    # -- steps --------------------------------------------------------------------------------------------

    def _plan_step(self, plan: _Plan, step: Step, client: Client) -> None:
        if isinstance(step, RecallScene):
            self._plan_recall(plan, step)
            return
        parameter = self.table[step.path]
        if parameter.role is None:
            raise ProtocolError(ErrorCode.READ_ONLY, "is told by the node, not set", step.path)
        _require(parameter.role, client, step.path)
        if parameter.path not in _MIXER_PATHS:
            said = "takes a while: set it in a request of its own, not in a batch or by a difference"
            raise ProtocolError(ErrorCode.NOT_NOW, said, step.path)
        _check_ramp(parameter, step.ramp_ms)
        if isinstance(step, Set):
            value = parameter.checked(step.value)
        else:
            value = _adjusted(parameter, plan.values[step.path], step.by)
        plan.put(parameter, value, step.ramp_ms)

    def _plan_recall(self, plan: _Plan, step: RecallScene) -> None:
        scene = self._scenes.get(step.name)
        if scene is None:
            raise ProtocolError(ErrorCode.UNKNOWN_SCENE, f"there is no scene '{step.name}'", "name")
        if not 0 <= step.fade_ms <= RAMP_HIGHEST_MS:
            said = f"{step.fade_ms:g} ms: must be 0 to {RAMP_HIGHEST_MS:g} ms"
            raise ProtocolError(ErrorCode.OUT_OF_RANGE, said, "fade_ms")
        for path, value in _only(scene, step.stems).items():
            plan.put(self.table[path], value, step.fade_ms or None)

    def _got(self, paths: tuple[str, ...]) -> dict[str, Value]:
        values = self.board.values
        for path in paths:
            _ = self.table[path]
        return {p: values[p] for p in paths} if paths else dict(values)

    def _reply(self, request_id: int, values: Mapping[str, Value]) -> Reply:
        return Reply(id=request_id, revision=self.board.revision, values=dict(values))

    # -- structure, scenes, MIDI --------------------------------------------------------------------------

    def _change_structure(self, parameter: Parameter, request: Set, client: Client, answer: Answer) -> None:
        path = parameter.path
        _require(parameter.role or "admin", client, path)
        _check_ramp(parameter, request.ramp_ms)
        value = parameter.checked(request.value)
        if path in self._changing:
            raise ProtocolError(ErrorCode.NOT_NOW, "is being changed already: wait for its delta", path)
        self._changing.add(path)

        def done(in_force: Value, trouble: str) -> None:
            self._changing.discard(path)
            self.board.change({path: in_force}, client.client_id)
            if trouble:
                problem = ProtocolError(ErrorCode.FAILED, trouble, path)
                answer(error_of(problem, request.id))
            else:
                answer(self._reply(request.id, {path: in_force}))

        self._actions.change(path, value, done)

    def _edit_scenes(self, request: StoreScene | DeleteScene, origin: str) -> None:
        if isinstance(request, StoreScene):
            if "\n" in request.name:
                raise ProtocolError(ErrorCode.WRONG_FIELD, "a name has one line", "name")
            if request.name not in self._scenes and len(self._scenes) >= MAX_SCENES:
                said = f"{MAX_SCENES} scenes are kept: delete one first"
                raise ProtocolError(ErrorCode.TOO_MANY_SCENES, said)
            held = {p: self.board.values[p] for p in SCENE_PATHS}
            self._scenes[request.name] = _only(held, request.stems)
        elif self._scenes.pop(request.name, None) is None:
            raise ProtocolError(ErrorCode.UNKNOWN_SCENE, f"there is no scene '{request.name}'", "name")
        self._actions.keep_scenes(self._scenes)
        self.board.change({"scenes": "\n".join(self._scenes)}, origin)

    def _learn(self, request: Learn | Unlearn) -> None:
        if request.path:
            parameter = self.table[request.path]
            if parameter.path not in _MIXER_PATHS:
                said = "cannot be bound to a MIDI control: only faders and their switches can"
                raise ProtocolError(ErrorCode.READ_ONLY, said, request.path)
        if isinstance(request, Learn):
            self._actions.learn(request.path)
        else:
            self._actions.unlearn(request.path)


_STEM_PATHS = {f"stem/{s}/{what}": s for s in STEMS for what in ("gain_db", "mute", "solo", "pan")}
SCENE_PATHS = (*_STEM_PATHS, "master/gain_db")
"""What a scene holds."""
_MIXER_PATHS = frozenset((*_STEM_PATHS, "master/gain_db", "cue/gain_db", "master/ceiling_db"))


def _only(scene: Mapping[str, Value], stems: tuple[str, ...]) -> Scene:
    """Return what a scene says of some stems; of all and the master if none are named."""
    for stem in stems:
        if stem not in STEMS:
            said = f"there is no stem '{stem[:32]}', but {', '.join(STEMS)}"
            raise ProtocolError(ErrorCode.OUT_OF_RANGE, said, "stems")
    return {p: v for p, v in scene.items() if not stems or _STEM_PATHS.get(p) in stems}


def _require(role: str, client: Client, path: str) -> None:
    if ROLES.index(client.role) < ROLES.index(role):  # type: ignore[arg-type]
        said = f"a {client.role} may not do that: {role} is needed, take that one's token"
        raise ProtocolError(ErrorCode.NOT_ALLOWED, said, path)


def _check_ramp(parameter: Parameter, ramp_ms: float | None) -> None:
    if ramp_ms is None:
        return
    if parameter.ramp_ms is None:
        raise ProtocolError(ErrorCode.NO_RAMP, "changes at once: leave ramp_ms out", parameter.path)
    if not 0 <= ramp_ms <= RAMP_HIGHEST_MS:
        said = f"{ramp_ms:g} ms: must be 0 to {RAMP_HIGHEST_MS:g} ms"
        raise ProtocolError(ErrorCode.OUT_OF_RANGE, said, "ramp_ms")


def _adjusted(parameter: Parameter, value: Value, by: float) -> Value:
    if parameter.kind != "number" or isinstance(value, bool) or not isinstance(value, int | float):
        raise ProtocolError(
            ErrorCode.WRONG_TYPE, "only a number can be moved by a difference", parameter.path
        )
    return parameter.limited(value + by)


# -- between values and faders -----------------------------------------------------------------------------


def values_of(mixer: MixerState) -> dict[str, Value]:
    """Return the values by path of faders; `mixer_of` is the way back."""
    values: dict[str, Value] = {}
    for stem, fader in zip(STEMS, mixer.faders, strict=True):
        at = f"stem/{stem}"
        values[f"{at}/gain_db"] = max(fader.gain_db, SILENT_DB)
        values[f"{at}/mute"], values[f"{at}/solo"] = fader.mute, fader.solo
        values[f"{at}/pan"] = fader.pan
    values["master/gain_db"] = max(mixer.master_db, SILENT_DB)
    values["cue/gain_db"] = max(mixer.cue_db, SILENT_DB)
    values["master/ceiling_db"] = mixer.ceiling_db
    return values


def mixer_of(values: Mapping[str, Value], ramps_ms: Mapping[str, float], previous: MixerState) -> MixerState:
    """Return the faders of values; those that move get the longest ramp of what moves them.

    ramps_ms: of the paths that were set. A fader that nothing moves keeps its ramp, so
    that a fade which is under way goes on.
    """
    own_ms = {s: [r for p, r in ramps_ms.items() if _STEM_PATHS.get(p) == s] for s in STEMS}
    faders = {}
    for stem in STEMS:
        at = f"stem/{stem}"
        faders[stem] = Fader(
            gain_db=_gain(values[f"{at}/gain_db"]),
            mute=bool(values[f"{at}/mute"]),
            solo=bool(values[f"{at}/solo"]),
            pan=_number(values[f"{at}/pan"]),
            ramp_ms=max(own_ms[stem], default=getattr(previous, stem).ramp_ms),
        )
    moved = MixerState(
        **faders,
        master_db=_gain(values["master/gain_db"]),
        cue_db=_gain(values["cue/gain_db"]),
        ceiling_db=_number(values["master/ceiling_db"]),
        master_ramp_ms=ramps_ms.get("master/gain_db", previous.master_ramp_ms),
        cue_ramp_ms=ramps_ms.get("cue/gain_db", previous.cue_ramp_ms),
    )
    solos_ms = [r for p, r in ramps_ms.items() if p.endswith("/solo")]
    if not solos_ms:
        return moved
    return moved.with_ramp_where_moved(previous, max(solos_ms), [s for s in STEMS if not own_ms[s]])


def _gain(value: Value) -> float:
    level = _number(value)
    return -math.inf if level <= SILENT_DB else level


def _number(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)
