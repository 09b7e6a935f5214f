"""Frames of every kind of nonsense through a session: `python tests/control_fuzz.py --frames 1000000`.

Random bytes, valid frames with bytes changed, valid messages with one thing in them replaced, and valid
ones between them. Only errors of the protocol may come out; a frame that is answered with an error changes
nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from typing import Any

import msgspec
from control_frames import CLIENT_TYPES, SERVER_TYPES
from control_node import TOKENS, FakeNode, plain_table
from msgspec import inspect

from stemrack.models.stems import STEMS
from stemrack.rt.control.codec import JSON, MSGPACK, Codec, Frame, ProtocolError
from stemrack.rt.control.faders import values_of
from stemrack.rt.control.messages import Described, Error, ErrorCode, Identify, Reply, Welcome
from stemrack.rt.control.protocol import ClientSession, ServerSession
from stemrack.rt.params import MixerState

CODECS = (Codec(JSON), Codec(MSGPACK))
PATHS = [p.path for p in plain_table()]
FADERS = list(values_of(MixerState()))
CHAINS = ["", "reverb", "reverb highpass_filter", "ladder_filter reverb-2", "reverb reverb", "no", "x " * 9]
OF_CHAINS = [
    f"stem/{stem}/{what}"
    for stem in ("drums", "vocals")
    for what in (
        *("chain", "chain", "fx/reverb/room_size", "fx/reverb/freeze", "fx/reverb/bypass"),
        *("fx/reverb-2/dry_wet", "fx/highpass_filter/cutoff_frequency_hz", "fx/ladder_filter/mode"),
        *("fx/ladder_filter/drive", "fx/reverb/nothing"),
    )
]
TEXTS = {
    "path": FADERS * 3 + PATHS + OF_CHAINS,
    "paths": PATHS + OF_CHAINS,
    "value": CHAINS,
    "name": ["a", "b", "c", "\n", "x" * 64],
    "stems": list(STEMS),
    "token": [*TOKENS.values(), ""],
    "epoch": ["e1", "e2"],
}
"""What texts of these fields are taken from most of the time, so that frames get far."""
NASTY: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        1.5,
        -0.0,
        1e308,
        -1e308,
        5e-324,
        2**53,
        2**53 + 1,
        2**63,
        -(2**63),
        2**64 - 1,
    ),
    *("", "\x00", "\n", "x" * 64, "x" * 65, "x" * 129, "x" * 5_000, "𝄞" * 40, "../../etc/passwd", "$(id)"),
    *([], {}, [[]], {"": {}}, [None] * 300, {"type": "set"}, {"id": 1}, "NaN", "Infinity"),
]
ONLY_BINARY = [math.nan, math.inf, -math.inf, b"", b"\xff" * 20, msgspec.msgpack.Ext(5, b"abc")]
DEEP = 3_000
ANSWERS = (Reply, Described, Welcome, Error)


class Maker:
    """Makes frames from a seed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._classes = {cls: inspect.type_info(cls) for cls in CLIENT_TYPES + SERVER_TYPES}

    def message(self, classes: tuple[type, ...]) -> Any:
        """Return a valid message of one of these classes."""
        return self._value(self._classes[self.rng.choice(classes)], "")

    def frame(self, codec: Codec, classes: tuple[type, ...]) -> tuple[str, Frame]:
        """Return a frame and what kind of frame it is."""
        kind = self.rng.choices(("valid", "changed bytes", "changed fields", "random"), (25, 30, 35, 10))[0]
        if kind == "random":
            return kind, self._noise(codec)
        message = self.message(classes)
        if kind == "changed fields":
            return kind, self._strange(codec, message)
        frame = codec.encode(message)
        if kind == "changed bytes":
            other = codec.encode(self.message(classes))
            frame = self._mutated(frame, other)
        return kind, frame

    def _value(self, kind: Any, name: str) -> Any:
        """Return a valid value of a type; name: the field it is for."""
        rng = self.rng
        while isinstance(kind, inspect.Metadata):
            kind = kind.type
        if isinstance(kind, inspect.StructType):
            given = [f for f in kind.fields if f.required or rng.random() < 0.4]
            return kind.cls(**{f.name: self._value(f.type, f.name) for f in given})
        if isinstance(kind, inspect.UnionType):
            return self._value(rng.choice(kind.types), name)
        if isinstance(kind, inspect.VarTupleType):
            n = rng.randrange(kind.min_length or 0, 4)
            return tuple(self._value(kind.item_type, name) for _ in range(n))
        if isinstance(kind, inspect.TupleType):
            return tuple(rng.choice((0, 1, 1, 1, 2)) for _ in kind.item_types)
        if isinstance(kind, inspect.DictType):
            return {self._text("path"): self._value(kind.value_type, name) for _ in range(rng.randrange(4))}
        return self._plain(kind, name)

    def _plain(self, kind: Any, name: str) -> Any:
        rng = self.rng
        if isinstance(kind, inspect.NoneType):
            return None
        if isinstance(kind, inspect.BoolType):
            return rng.random() < 0.5
        if isinstance(kind, inspect.IntType):
            return rng.choice((0, 1, rng.randrange(2**53), rng.randrange(1000)))
        if isinstance(kind, inspect.FloatType):
            return rng.choice(
                (
                    0.0,
                    rng.uniform(0.0, kind.le or 60.0),
                    rng.uniform(-130.0, 20.0) if kind.le is None else 1.0,
                )
            )
        assert isinstance(kind, inspect.StrType), kind
        return self._text(name)

    def _text(self, name: str) -> str:
        if name in TEXTS and self.rng.random() < 0.95:
            return self.rng.choice(TEXTS[name])
        return "".join(self.rng.choices('abc/ä\U0001d11e\x00"\\\n', k=self.rng.randrange(1, 12)))

    def _noise(self, codec: Codec) -> Frame:
        n = self.rng.choice((0, 1, 2, 10, 200))
        if codec is CODECS[0]:
            letters = '{}[]",:0123456789.eE+-truefalsn\\u \x00\ud800é'
            return "".join(self.rng.choices(letters, k=n))
        return self.rng.randbytes(n)

    def _mutated(self, frame: Frame, other: Frame) -> Frame:
        """Return a frame with some of it flipped, cut out, doubled, or taken from another frame."""
        rng = self.rng
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            a, b = sorted(rng.randrange(len(frame) + 1) for _ in range(2))
            new: Any
            match rng.randrange(5):
                case 0:
                    new = chr(rng.randrange(256)) if isinstance(frame, str) else rng.randbytes(1)
                    frame = frame[:a] + new + frame[a + 1 :]  # type: ignore[operator]
                case 1:
                    frame = frame[:a] + frame[b:]  # type: ignore[operator]
                case 2:
                    frame = frame[:b] + frame[a:]  # type: ignore[operator]
                case 3:
                    frame = frame[:a]
                case _:
                    frame = frame[:a] + other[min(a, len(other)) :]  # type: ignore[operator]
        return frame

    def _strange(self, codec: Codec, message: Any) -> Frame:
        """Return the frame of a message in which something is replaced, taken away, added or renamed."""
        rng = self.rng
        content = msgspec.to_builtins(message)
        holder = content
        while isinstance(holder, dict | list) and holder:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = rng.choice(keys)
            if isinstance(holder[key], dict | list | tuple) and holder[key] and rng.random() < 0.7:
                holder[key] = list(holder[key]) if isinstance(holder[key], tuple) else holder[key]
                holder = holder[key]
                continue
            nasty = rng.choice(NASTY if codec is CODECS[0] else NASTY + ONLY_BINARY)
            match rng.randrange(6):
                case 0 if isinstance(holder, dict):
                    del holder[key]
                case 1 if isinstance(holder, dict):
                    holder[rng.choice(("x", "id", "type", "revision", ""))] = nasty
                case 2 if isinstance(holder, dict):
                    holder[f"{key}_"] = holder.pop(key)
                case 3 if rng.random() < 0.02:
                    return self._deep(codec, content)
                case _:
                    holder[key] = nasty
            break
        if codec is CODECS[0]:
            return json.dumps(content, ensure_ascii=rng.random() < 0.5)
        return msgspec.msgpack.encode(content)

    def _deep(self, codec: Codec, content: dict[str, Any]) -> Frame:
        if codec is CODECS[0]:
            return json.dumps(content)[:-1] + ',"x":' + "[" * DEEP + "]" * self.rng.choice((0, DEEP)) + "}"
        return msgspec.msgpack.encode(content) + b"\x91" * DEEP


class Fuzz:
    """A node with a session in each encoding, what comes out of them, and a client that follows."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.maker = Maker(self.rng)
        self.node = FakeNode()
        self.counted: Counter[str] = Counter()
        self.n_sessions, self.now_s = 0, 0.0
        self.is_rough = [False, False]
        """Whether the session hears no valid frame, but by chance: then it is closed for too many errors."""
        self.sessions = [self._session(codec) for codec in CODECS]
        self.watcher = ClientSession(CODECS[1], Identify(versions=(1, 1), token=TOKENS["viewer"]))
        self.watched = ServerSession(self.node, CODECS[1], "watcher", 0.0, needs_token=True)
        self._watch()

    def run(self, n_frames: int) -> Counter[str]:
        """Return what was counted in so many more frames, one of ten of them to a client's session."""
        for i in range(n_frames):
            self.now_s += 0.02
            if self.rng.random() < 0.1:
                self._to_client()
            else:
                self._to_server(self.rng.randrange(2))
            if i % 1000 == 999:
                self.check()
        self.check()
        return self.counted

    def check(self) -> None:
        """Assert that the state is one that valid requests can have made, and that a client follows it."""
        board = self.node.board
        self._watch()
        assert self.watcher.values == board.values
        assert self.watcher.revision == board.revision
        assert board.values.keys() == {p.path for p in self.node.table}
        for parameter in self.node.table:
            assert board.values[parameter.path] in ("", parameter.checked(board.values[parameter.path]))
        assert values_of(self.node.mixer).items() <= board.values.items()
        assert self.node.commands.chains == self.node.chains
        node = self.node
        for kept in (node.mixers, node.carried, node.changes, node.kept_scenes, node.chain_edits):
            kept.clear()  # type: ignore[attr-defined]
        self.node.learned.clear()
        self.node.unlearned.clear()

    def _watch(self) -> None:
        while True:
            frames = self.watched.take(self.now_s)
            for frame in frames:
                self.watcher.receive(frame)
            if not self.watcher.outgoing and not frames:
                return
            for frame in self.watcher.outgoing:
                self.watched.receive(frame, self.now_s)
            self.watcher.outgoing.clear()

    def _session(self, codec: Codec) -> ServerSession:
        self.n_sessions += 1
        self.is_rough[CODECS.index(codec)] = self.rng.random() < 0.5
        session = ServerSession(self.node, codec, f"c{self.n_sessions}", self.now_s, needs_token=True)
        if self.rng.random() < 0.8:  # else it is for the frames to identify
            token = self.rng.choices(list(TOKENS.values()), (1, 3, 2))[0]
            session.receive(codec.encode(Identify(versions=(1, 1), token=token)), self.now_s)
        session.take(self.now_s)
        return session

    def _to_server(self, which: int) -> None:
        codec, session = CODECS[which], self.sessions[which]
        kind, frame = self.maker.frame(codec, CLIENT_TYPES)
        while self.is_rough[which] and kind == "valid":
            kind, frame = self.maker.frame(codec, CLIENT_TYPES)
        before = self._seen()
        session.receive(frame, self.now_s)
        out = [codec.decode_server(f) for f in session.take(self.now_s)]
        self.counted["frames to the server"] += 1
        self.counted[f"  {kind}"] += 1
        assert len([m for m in out if isinstance(m, ANSWERS)]) == 1, (frame, out)
        errors = [m for m in out if isinstance(m, Error)]
        changed = before != self._seen()
        if errors:
            assert not changed, (frame, out)
            self.counted[f"error {errors[0].code} {ErrorCode(errors[0].code).name.lower()}"] += 1
        else:
            self.counted["carried out, with a change" if changed else "carried out, without a change"] += 1
        if session.close_code is not None:
            self.counted[f"close {session.close_code.value} {session.close_code.name.lower()}"] += 1
        if session.close_code is not None or self.rng.random() < 0.003:
            self.sessions[which] = self._session(codec)

    def _seen(self) -> tuple[int, ...]:
        node = self.node
        kept = (node.mixers, node.changes, node.kept_scenes, node.chain_edits)
        return node.board.revision, *map(len, kept)

    def _to_client(self) -> None:
        """Let a client hear nonsense: it may raise a ProtocolError, and nothing else."""
        codec = self.rng.choice(CODECS)
        client = ClientSession(codec, Identify(versions=(1, 1)))
        _, frame = self.maker.frame(codec, SERVER_TYPES)
        self.counted["frames to a client"] += 1
        try:
            client.receive(frame)
        except ProtocolError as problem:
            self.counted[f"client: error {problem.code.value} {problem.code.name.lower()}"] += 1
        else:
            self.counted["client: understood"] += 1


def main() -> None:
    """Run so many frames and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began_s = time.perf_counter()
    fuzz = Fuzz(options.seed)
    counted = fuzz.run(options.frames)
    took_s = time.perf_counter() - began_s
    print(f"{options.frames} frames in {took_s:.1f} s, {options.frames / took_s:.0f} a second")
    print(f"seed {options.seed}: {fuzz.n_sessions} sessions, {fuzz.node.board.revision} revisions")
    for name, n in sorted(counted.items()):
        print(f"{n:9d}  {name}")


if __name__ == "__main__":
    main()
