"""What can be asked of a node, as functions."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from ..rt.control.messages import (
    Adjust,
    Batch,
    DeleteScene,
    Describe,
    Described,
    EffectInfo,
    Get,
    Learn,
    ParameterInfo,
    Ping,
    RecallScene,
    Reply,
    Set,
    Step,
    StoreScene,
    Unlearn,
    Value,
)


class Requests(ABC):
    """Each raises RequestRefused if the node says no, and ConnectionLost if no answer comes."""

    @abstractmethod
    async def _ask(self, kind: Callable[..., Any], **fields: Any) -> Reply | Described: ...

    async def _reply(self, kind: Callable[..., Any], **fields: Any) -> dict[str, Value]:
        reply = await self._ask(kind, **fields)
        assert isinstance(reply, Reply)
        return reply.values

    async def set(self, path: str, value: Value, ramp_ms: float | None = None) -> Value:
        """Set a parameter; returns the value in force. ramp_ms: none is the parameter's own ramp.

        A chain is one, too: set("stem/vocals/chain", "highpass_filter reverb").
        """
        return (await self._reply(Set, path=path, value=value, ramp_ms=ramp_ms)).get(path)

    async def adjust(self, path: str, by: float, ramp_ms: float | None = None) -> Value:
        """Move a number by a difference, within its range; returns the value in force."""
        return (await self._reply(Adjust, path=path, by=by, ramp_ms=ramp_ms)).get(path)

    async def get(self, *paths: str) -> dict[str, Value]:
        """Ask the node for values; no path: for all. `values` has them without asking."""
        return await self._reply(Get, paths=paths)

    async def batch(self, steps: Iterable[Step]) -> dict[str, Value]:
        """Carry out `Set`, `Adjust` and `RecallScene` in order and together, or none of them."""
        return await self._reply(Batch, requests=tuple(steps))

    async def store_scene(self, name: str, stems: Iterable[str] = ()) -> None:
        """Keep faders and chains under a name. stems: only these; none: all, and the master."""
        await self._reply(StoreScene, name=name, stems=tuple(stems))

    async def recall_scene(
        self, name: str, fade_ms: float = 0.0, stems: Iterable[str] = ()
    ) -> dict[str, Value]:
        """Set faders and chains as they were stored, or as a preset has them; returns what is in force.

        fade_ms: of the faders; 0: their own ramps.
        """
        return await self._reply(RecallScene, name=name, fade_ms=fade_ms, stems=tuple(stems))

    async def delete_scene(self, name: str) -> None:
        """Forget a scene."""
        await self._reply(DeleteScene, name=name)

    async def learn(self, path: str = "") -> None:
        """Bind the next MIDI control that is moved to a parameter; no path ends the waiting."""
        await self._reply(Learn, path=path)

    async def unlearn(self, path: str) -> None:
        """Take a parameter's MIDI controls away."""
        await self._reply(Unlearn, path=path)

    async def describe(self) -> dict[str, ParameterInfo]:
        """Return what is known about each parameter, by path; it changes when a chain does."""
        described = await self._ask(Describe)
        assert isinstance(described, Described)
        return {p.path: p for p in described.parameters}

    async def effects(self) -> dict[str, EffectInfo]:
        """Return what can be put into a chain, by its name there."""
        described = await self._ask(Describe, effects=True)
        assert isinstance(described, Described)
        return {effect.key: effect for effect in described.effects}

    async def ping(self) -> float:
        """Return how long the node took to answer, in seconds."""
        clock = asyncio.get_running_loop()
        asked_s = clock.time()
        await self._ask(Ping)
        return clock.time() - asked_s
