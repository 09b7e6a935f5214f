"""MIDI ports as the node sees them: bytes in, bytes out, and which ports are open.

`port_process.py` holds the ports in a process of its own; it is started anew when it falls.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable

from ..errors import ConfigError
from .mapping import Outgoing

APIS = ("auto", "alsa", "jack", "core", "winmm")
RESTARTS_S = (1.0, 2.0, 5.0)
"""Pauses before the ports' process is started anew; the last one while it cannot work."""
END_LIMIT_S = 2.0
_WAITING = 4_096
"""Messages that may wait to be sent; of more, the newest are dropped: lights may lag, the node may not."""


class MidiPorts:
    """All input ports whose names fit one of the patterns, and the outputs that lead back to their boxes.

    deliver(port, bytes): gets what comes in.  told(ports): gets the open inputs, whenever they change.
    say(line): gets what goes wrong. All three are called on a thread of this object's: pass what hands over
    to your loop (`loop.call_soon_threadsafe`), and `stop` before that loop ends.
    Where the machine has no such MIDI interface, `say` gets one line and nothing more happens.
    Thread: `start`, `stop` and `send` from any.  Latency: `port_process.READ_S` and two hand-overs.
    Raises: ConfigError for an interface that does not exist.
    """

    def __init__(
        self,
        patterns: Iterable[str],
        deliver: Callable[[str, bytes], None],
        told: Callable[[tuple[str, ...]], None],
        *,
        say: Callable[[str], None],
        api: str = "auto",
    ) -> None:
        if api not in APIS:
            raise ConfigError(f"api = {api!r}: must be one of {', '.join(APIS)}")
        self._command = [sys.executable, "-m", f"{__package__}.port_process", api, *patterns]
        self._api, self._deliver, self._told, self._say = api, deliver, told, say
        self._ports: tuple[str, ...] = ()
        self._has_worked = self._is_off = False
        self._n_failed = 0
        self._process: subprocess.Popen[str] | None = None
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._orders: queue.Queue[Outgoing | None] = queue.Queue(_WAITING)
        self._reader = threading.Thread(target=self._keep_up, name="stemrack-midi", daemon=True)
        self._writer = threading.Thread(target=self._write, name="stemrack-midi-out", daemon=True)

    @property
    def pid(self) -> int:
        """Of the process that holds the ports; 0 if there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def start(self) -> None:
        """Begin to look for ports; returns at once."""
        self._reader.start()
        self._writer.start()

    def stop(self) -> None:
        """Close all ports; afterwards nothing is delivered."""
        self._ending.set()
        self._put(None)
        if self._writer.is_alive():
            self._writer.join(END_LIMIT_S)  # it closes the process's input, which ends it
        with self._lock:
            process = self._process
        if process is not None:
            try:
                process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        for thread in (self._reader, self._writer):
            if thread.is_alive():
                thread.join()

    def send(self, outgoing: Iterable[Outgoing]) -> None:
        """Send messages to the boxes of the named input ports; to what has gone nothing is sent."""
        for message in outgoing:
            self._put(message)

    def _put(self, order: Outgoing | None) -> None:
        try:
            self._orders.put_nowait(order)
        except queue.Full:
            return

    # -- the threads --------------------------------------------------------------------------------------

    def _keep_up(self) -> None:
        while not self._ending.is_set() and not self._is_off:
            process = self._launched()
            if process is None:
                return
            for line in process.stdout or ():
                self._take(line)
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            if not self._ending.is_set():
                self._set_ports(())
                self._ending.wait(RESTARTS_S[min(self._n_failed, len(RESTARTS_S) - 1)])
                self._n_failed += 1

    def _launched(self) -> subprocess.Popen[str] | None:
        with self._lock:  # against `stop`, which must not miss a process that begins just now
            if self._ending.is_set():
                return None
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                bufsize=1,
            )
            return self._process

    def _take(self, line: str) -> None:
        if self._ending.is_set() or not line.endswith("\n"):  # a line cut off: the process has fallen
            return
        kind, *facts = json.loads(line)
        if kind == "in":
            self._deliver(facts[0], bytes.fromhex(facts[1]))
        elif kind == "ports":
            self._has_worked, self._n_failed = True, 0
            self._set_ports(tuple(facts[0]))
        elif kind == "unavailable" and not self._has_worked:
            self._is_off = True
            self._say(f"no MIDI: {facts[0].rstrip('.')} (api {self._api}); going on without")

    def _set_ports(self, ports: tuple[str, ...]) -> None:
        if ports != self._ports:
            self._ports = ports
            self._told(ports)

    def _write(self) -> None:
        while not self._ending.is_set():
            order = self._orders.get()
            process = self._process
            if order is None or process is None or process.stdin is None:
                continue
            try:
                process.stdin.write(json.dumps([order.port, order.message.hex()]) + "\n")
            except (OSError, ValueError):  # it has fallen: once it is there again all lights are set anew
                continue
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
