"""Controllers joined to a node: what is moved on them moves faders, what moves faders is shown on them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...models.stems import STEMS
from ..control.chain_table import PossibleTable
from ..control.codec import ProtocolError
from ..control.messages import Delta, ErrorCode
from ..control.node import EngineNode
from ..control.protocol import Client
from ..control.table import mixer_parameters
from ..errors import ConfigError
from .mapping import Mapper
from .mapping_file import load_mapping, save_mapping
from .port import MidiPorts

MIDI = Client("midi", "operator", "MIDI")


class MidiDesk:
    """All controllers of a node.  Thread: the control loop's, but for `start` and `stop` (any).

    patterns: names of ports, as in a shell.  mapping: its file; need not exist, is written after learning.
    Raises: ConfigError for a mapping that cannot work.
    """

    def __init__(self, node: EngineNode, patterns: Iterable[str], mapping: Path, api: str = "auto") -> None:
        self._node, self._mapping = node, mapping
        table = PossibleTable(mixer_parameters(STEMS), node.commands.inserts)
        self._mapper = Mapper(table, load_mapping(mapping, table) if mapping.exists() else ())
        self._ports = MidiPorts(
            patterns,
            lambda port, data: node.post(lambda: self._hear(port, data)),
            lambda ports: node.post(lambda: self._see(ports)),
            say=lambda line: node.say("midi", {"said": line}),
            api=api,
        )

    def start(self) -> None:
        """Look for ports, and follow the faders from now on; called in the control loop."""
        node = self._node
        node.board.on_change.append(self._show)
        self._mapper.on_change = self._keep
        node.learn, node.unlearn = self._learn, self._unlearn
        self._ports.start()

    def stop(self) -> None:
        """Close all ports."""
        self._ports.stop()

    def _hear(self, port: str, data: bytes) -> None:
        steps = self._mapper.handle(port, data, self._node.board.values)
        if not steps:
            return
        try:
            self._node.commands.apply(steps, MIDI)
        except ProtocolError as problem:
            self._node.say("midi-refused", {"path": problem.path, "said": problem.message})

    def _see(self, ports: tuple[str, ...]) -> None:
        self._ports.send(self._mapper.ports_are(ports, self._node.board.values))
        self._node.commands.tell({"midi/ports": "\n".join(ports)})

    def _show(self, delta: Delta) -> None:
        for path, value in delta.values.items():
            self._ports.send(self._mapper.feedback(path, value))

    def _learn(self, path: str) -> None:
        try:
            self._mapper.learn(path)
        except ConfigError as error:
            raise ProtocolError(ErrorCode.FAILED, str(error), path) from error

    def _unlearn(self, path: str) -> None:
        self._ports.send(self._mapper.unlearn(path))

    def _keep(self) -> None:
        """Take note of what was learnt: in the file, on the lights, for all clients."""
        self._node.commands.tell({"midi/learning": self._mapper.learning})
        self._ports.send(self._mapper.lights(self._node.board.values))
        bindings = self._mapper.bindings
        self._node.write(lambda: save_mapping(self._mapping, bindings), self._mapping.name)
