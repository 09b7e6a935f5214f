"""What requests do: each is checked against the table, then moves faders, edits chains or asks for more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ..chains import Chains, chain_of, with_value
from ..errors import ConfigError, HostError
from ..params import MixerState
from .board import Board
from .chain_table import (
    ChainTable,
    Place,
    changed_values,
    effect_info,
    line_path,
    place_of,
    refusal,
    value_in,
)
from .codec import LONGEST_TEXT, ProtocolError
from .faders import MIXER_PATHS, mixer_of
from .messages import (
    Adjust,
    Batch,
    ClientMessage,
    DeleteScene,
    Describe,
    Described,
    EffectInfo,
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
from .scenes import MAX_SCENES, Scene, scene_of
from .table import RAMP_HIGHEST_MS, ROLES, Parameter

Done = Callable[[Value, str], None]
"""Told what holds now after a change of structure, and what went wrong ('': nothing)."""


@dataclass(frozen=True, kw_only=True)
class Actions:
    """What commands need of the node. `change` calls `Done` when it is over; the others return at once.

    chains: those that the node is making heard.  set_chains: chains, and those that
    they were made from; raises HostError if it takes none now.
    """

    set_mixer: Callable[[MixerState], None]
    change: Callable[[str, Value, Done], None]
    chains: Callable[[], Chains]
    set_chains: Callable[[Chains, Chains], None]
    keep_scenes: Callable[[Mapping[str, Scene]], None] = lambda scenes: None
    learn: Callable[[str], None] = lambda path: None
    unlearn: Callable[[str], None] = lambda path: None


@dataclass
class _Plan:
    """Faders and chains as they will be, the ramp of each fader that is touched, the longest asked for.

    chain_paths: of chains, that were asked about.
    """

    values: dict[str, Value]
    chains: Chains
    table: ChainTable
    ramps_ms: dict[str, float] = field(default_factory=dict)
    asked_ms: float | None = None
    chain_paths: dict[str, Place] = field(default_factory=dict)

    def put(self, parameter: Parameter, value: Value, ramp_ms: float | None) -> None:
        """Set a fader's value, with the ramp asked for or the parameter's own."""
        self.values[parameter.path] = value
        self.ramps_ms[parameter.path] = (parameter.ramp_ms or 0.0) if ramp_ms is None else ramp_ms
        if ramp_ms is not None:
            self.asked_ms = max(ramp_ms, self.asked_ms or 0.0)


class Commands:
    """Carries requests out on the board and the node.  Thread: one (the control loop).

    scenes: by name; clients store and delete them.  presets: scenes that stay as they are, unless a scene has
    the name of one: then that one counts.
    """

    def __init__(
        self,
        table: ChainTable,
        board: Board,
        mixer: MixerState,
        actions: Actions,
        scenes: Mapping[str, Scene],
        presets: Mapping[str, Scene] | None = None,
    ) -> None:
        self.table, self.board, self.mixer = table, board, mixer
        self.inserts = table.inserts
        self.chains = Chains()
        """As the board shows them."""
        self._actions = actions
        self._scenes: dict[str, Scene] = dict(scenes)
        self._presets = dict(presets or {})
        self._infos: tuple[EffectInfo, ...] | None = None
        self._changing: set[str] = set()
        self.board.change(self._names(), "node")
        self.follow_chains()

    def carry_out(self, request: ClientMessage, client: Client, answer: Answer) -> None:
        """Carry a request out; `answer` gets the reply, now or when it is done.  Raises: ProtocolError."""
        self.follow_chains()
        if isinstance(request, Get):
            answer(self._reply(request.id, self._got(request.paths)))
            return
        if isinstance(request, Describe):
            answer(self._described(request))
            return
        _require("operator", client, getattr(request, "path", ""))
        if isinstance(request, Set) and request.path in self.table:
            parameter = self.table[request.path]
            if not _is_sound(parameter.path) and parameter.role is not None:
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
        self.follow_chains()
        plan = _Plan({p: self.board.values[p] for p in MIXER_PATHS}, self.chains, self.table)
        for index, step in enumerate(steps):
            try:
                self._plan_step(plan, step, client)
            except ProtocolError as problem:
                if index:
                    problem.message = f"request {index} of the batch: {problem.message}"
                raise
        changed = self._set_chains(plan)
        if plan.ramps_ms:
            self.mixer = mixer_of(plan.values, plan.ramps_ms, self.mixer)
            self._actions.set_mixer(self.mixer)
        changed |= {p: plan.values[p] for p in plan.ramps_ms}
        self.board.change(changed, client.client_id, plan.asked_ms)
        asked = (*plan.ramps_ms, *plan.chain_paths)
        return {p: self.board.values[p] for p in asked if p in self.board.values}

    def tell(self, values: Mapping[str, Value], origin: str = "node") -> None:
        """Put what the node itself knows on the board, but for what a client's request is changing now."""
        self.board.change({p: v for p, v in values.items() if p not in self._changing}, origin)

    def follow_chains(self, origin: str = "node") -> None:
        """Put on the board what the node has changed in its chains by itself, if it has."""
        now = self._actions.chains()
        if now is not self.chains:
            self.board.change(self._chains_are(now), origin)

    def _set_chains(self, plan: _Plan) -> dict[str, Value]:
        """Return what the board must be told, after the node has been given the chains of a plan."""
        if plan.chains == self.chains:
            return {}
        try:
            self._actions.set_chains(plan.chains, self.chains)
        except HostError as error:
            raise ProtocolError(ErrorCode.NOT_NOW, str(error)[:LONGEST_TEXT]) from error
        return self._chains_are(plan.chains)

    def _chains_are(self, chains: Chains) -> dict[str, Value]:
        changed = changed_values(self.inserts, self.chains, chains)
        self.chains, self.table = chains, self.table.following(chains)
        return changed

    # -- steps --------------------------------------------------------------------------------------------

    def _plan_step(self, plan: _Plan, step: Step, client: Client) -> None:
        if isinstance(step, RecallScene):
            self._plan_recall(plan, step)
            return
        parameter = plan.table[step.path]
        if parameter.role is None:
            raise ProtocolError(ErrorCode.READ_ONLY, "is told by the node, not set", step.path)
        _require(parameter.role, client, step.path)
        if not _is_sound(parameter.path):
            said = "takes a while: set it in a request of its own, not in a batch or by a difference"
            raise ProtocolError(ErrorCode.NOT_NOW, said, step.path)
        _check_ramp(parameter, step.ramp_ms)
        place = place_of(step.path)
        if isinstance(step, Set):
            value = parameter.checked(step.value)
        else:
            now = value_in(plan.chains, place) if place else plan.values[step.path]
            value = _adjusted(parameter, now, step.by)
        if place is None:
            plan.put(parameter, value, step.ramp_ms)
        else:
            self._plan_chain(plan, step.path, place, value)

    def _plan_chain(self, plan: _Plan, path: str, place: Place, value: Value) -> None:
        effects = self.inserts.effects
        present = plan.chains[place.stem]
        try:
            if insert := plan.chains.insert(place.stem, place.insert):
                changed = with_value(effects, insert, place.parameter, value)
                plan.chains = plan.chains.with_insert(place.stem, changed)
            else:
                made = chain_of(effects, str(value), present)
                plan.chains = plan.chains.with_chain(place.stem, made)
                plan.table = plan.table.following(plan.chains)
        except ConfigError as error:
            raise refusal(error, path) from error
        plan.chain_paths[path] = place

    def _plan_recall(self, plan: _Plan, step: RecallScene) -> None:
        scene = self._scenes.get(step.name) or self._presets.get(step.name)
        if scene is None:
            raise ProtocolError(ErrorCode.UNKNOWN_SCENE, f"there is no scene '{step.name}'", "name")
        if not 0 <= step.fade_ms <= RAMP_HIGHEST_MS:
            said = f"{step.fade_ms:g} ms: must be 0 to {RAMP_HIGHEST_MS:g} ms"
            raise ProtocolError(ErrorCode.OUT_OF_RANGE, said, "fade_ms")
        scene = scene.only(step.stems)
        plan.chains = scene.made(self.inserts.effects, plan.chains, step.name)
        plan.table = plan.table.following(plan.chains)
        plan.chain_paths |= {line_path(stem): Place(stem, "", "") for stem in scene.chains}
        for path, value in scene.values.items():
            plan.put(plan.table[path], value, step.fade_ms or None)

    def _got(self, paths: tuple[str, ...]) -> dict[str, Value]:
        values = self.board.values
        for path in paths:
            _ = self.table[path]
        return {p: values[p] for p in paths} if paths else dict(values)

    def _described(self, request: Describe) -> Described:
        if request.effects and self._infos is None:
            self._infos = tuple(effect_info(e) for e in self.inserts.effects)
        infos = self._infos if request.effects else None
        return Described(id=request.id, parameters=tuple(p.info for p in self.table), effects=infos or ())

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
        name = request.name
        if name in self._presets and name not in self._scenes:
            said = f"'{name}' is a preset and stays as it is: store the scene under another name"
            raise ProtocolError(ErrorCode.READ_ONLY, said, "name")
        if isinstance(request, StoreScene):
            if "\n" in name:
                raise ProtocolError(ErrorCode.WRONG_FIELD, "a name has one line", "name")
            if name not in self._scenes and len(self._scenes) >= MAX_SCENES:
                said = f"{MAX_SCENES} scenes are kept: delete one first"
                raise ProtocolError(ErrorCode.TOO_MANY_SCENES, said)
            self._scenes[name] = scene_of(self.board.values, self.chains).only(request.stems)
        elif self._scenes.pop(name, None) is None:
            raise ProtocolError(ErrorCode.UNKNOWN_SCENE, f"there is no scene '{name}'", "name")
        self._actions.keep_scenes(self._scenes)
        self.board.change(self._names(), origin)

    def _names(self) -> dict[str, Value]:
        presets = [name for name in self._presets if name not in self._scenes]
        return {"scenes": "\n".join((*self._scenes, *presets)), "presets": "\n".join(presets)}

    def _learn(self, request: Learn | Unlearn) -> None:
        place = place_of(request.path)
        if request.path and (isinstance(request, Learn) or place is None):
            parameter = self.table[request.path]
            if not _is_sound(parameter.path) or not parameter.is_bindable:
                said = (
                    "cannot be bound to a MIDI control: only numbers and switches of faders and effects can"
                )
                raise ProtocolError(ErrorCode.READ_ONLY, said, request.path)
        if isinstance(request, Learn):
            self._actions.learn(request.path)
        else:
            self._actions.unlearn(request.path)


def _is_sound(path: str) -> bool:
    """Whether what a path names is set at once: a fader, a chain or what is in one."""
    return path in MIXER_PATHS or place_of(path) is not None


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
    moved = parameter.limited(value + by)
    if not math.isfinite(moved):
        raise ProtocolError(ErrorCode.OUT_OF_RANGE, f"{moved:g}: must be a finite number", parameter.path)
    return moved
