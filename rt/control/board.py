"""The state that everybody sees: values, a revision for each change, the last changes for who was away."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from .codec import Codec, Frame
from .messages import Delta, Deltas, Value

HISTORY = 10_000
"""Changes that can be caught up with: five seconds of 2000 a second."""
FRAME_CHANGES = 500
"""Changes in one frame at most."""
_KEPT_FRAMES = 8


class Board:
    """Values by path, changed in revisions.  Thread: one (the control loop).

    >>> board = Board("e1", {"a": 1.0})
    >>> board.change({"a": 2.0}, "c1").revision, board.values["a"]
    (1, 2.0)
    >>> board.since(0)[0].origin, board.since(1)
    ('c1', ())
    """

    def __init__(self, epoch: str, values: Mapping[str, Value], history: int = HISTORY) -> None:
        self.epoch, self.revision = epoch, 0
        self._values: dict[str, Value] = dict(values)
        self._changes: deque[Delta] = deque(maxlen=history)
        self._frames: dict[tuple[str, int, int], Frame] = {}
        self.on_change: list[Callable[[Delta], None]] = []
        """Called after each change."""

    @property
    def values(self) -> Mapping[str, Value]:
        """The state now; not to be written to."""
        return self._values

    def change(self, values: Mapping[str, Value], origin: str, ramp_ms: float | None = None) -> Delta | None:
        """Return the change that was made; None if all is as it was. None as a value removes the path."""
        new = {p: v for p, v in values.items() if p not in self._values or not _same(self._values[p], v)}
        new = {p: v for p, v in new.items() if v is not None or p in self._values}
        if not new:
            return None
        self.revision += 1
        delta = Delta(revision=self.revision, origin=origin, values=new, ramp_ms=ramp_ms)
        self._values |= new
        for path in [p for p, v in new.items() if v is None]:
            del self._values[path]
        self._changes.append(delta)
        for told in self.on_change:
            told(delta)
        return delta

    def knows(self, revision: int) -> bool:
        """Whether all changes after a revision are known."""
        return 0 <= self.revision - revision <= len(self._changes)

    def since(self, revision: int) -> tuple[Delta, ...] | None:
        """Return the changes after a revision, in order; None if they are no longer known (or never were)."""
        if not self.knows(revision):
            return None
        n = self.revision - revision
        return tuple(self._changes[i] for i in range(len(self._changes) - n, len(self._changes)))

    def frame_since(self, revision: int, codec: Codec) -> tuple[int, Frame] | None:
        """Return the revision reached and the frame of the next changes; encoded once for all who ask.

        None if the changes are no longer known. Asked for only where `revision` is behind.
        """
        if not self.knows(revision):
            return None
        n = self.revision - revision
        reached = min(self.revision, revision + FRAME_CHANGES)
        key = (codec.subprotocol, revision, reached)
        if key not in self._frames:
            first = len(self._changes) - n
            changes = tuple(self._changes[i] for i in range(first, first + reached - revision))
            while len(self._frames) >= _KEPT_FRAMES:
                del self._frames[next(iter(self._frames))]
            self._frames[key] = codec.encode(Deltas(changes=changes))
        return reached, self._frames[key]


def _same(old: Value, new: Value) -> bool:
    return old == new and isinstance(old, bool) == isinstance(new, bool)
