"""Many clients on a node's control port: how long a move takes to reach all of them, and whether it does.

The clients run in a process of their own, so that they take the node's processor but not its interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from ..models.stems import STEMS
from ..rt.control.codec import MSGPACK, Codec
from ..rt.control.messages import Deltas, Error, Identify, Reply, Set, Subscriptions
from ..rt.control.protocol import ClientSession

PACE_S = 0.02
"""Moves are sent in small bursts: a timer for each would cost more than the moves."""
SETTLE_S = 3.0
CONNECT_LIMIT_S = 30.0
CONNECT_S = 4.0
"""The process loads and connects meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How many clients, how many of them with meters of what rate, how many moves a second, how long."""

    n_clients: int = 50
    n_with_meters: int = 10
    meters_hz: float = 60.0
    moves_per_s: float = 2_000.0
    seconds: float = 60.0
    seed: int = 0


@dataclass(slots=True, kw_only=True)
class LoadReport:
    """What the clients saw. reach_ms: from `set` to the delta at the last of all clients, by percentile."""

    n_sent: int = 0
    n_answered: int = 0
    n_errors: int = 0
    n_lost: int = 0
    """Clients that were cut off."""
    n_meter_frames: int = 0
    revisions: list[int] = field(default_factory=list)
    """Of the clients at the end: one value, if all are at the same."""
    states_differ: int = 0
    reach_ms: dict[str, float] = field(default_factory=dict)
    processor_percent: float = 0.0
    """Of the process of the clients."""
    node_mib: tuple[float, float] = (0.0, 0.0)
    """Resident memory of the node while all were connected: at first, at the end; 0 where it is not shown."""


class _Client:
    """One client: sends its share of the moves, follows all."""

    def __init__(self, url: str, token: str, options: LoadOptions, index: int) -> None:
        self._url = url
        meters_hz = options.meters_hz if index < options.n_with_meters else 0.0
        codec = Codec(MSGPACK)
        self.session = ClientSession(
            codec,
            Identify(
                versions=(1, 1),
                client=f"load {index}",
                token=token,
                subscribe=Subscriptions(meters_hz=meters_hz),
            ),
        )
        self._chance = random.Random(options.seed * 1_000 + index)
        self._sent_s: dict[int, float] = {}
        self.sent_at: dict[int, float] = {}
        """When the move was sent that a revision came of."""
        self.seen: list[tuple[int, int, float]] = []
        """Revisions from, to, and when they were seen."""
        self.n_sent = self.n_answered = self.n_errors = self.n_meter_frames = 0
        self.is_lost = False
        self.ready = asyncio.Event()
        self._connection: ClientConnection | None = None

    async def follow(self) -> None:
        """Read until the connection ends."""
        async with connect(
            self._url.replace("http", "ws", 1),
            subprotocols=[Subprotocol(MSGPACK)],
            compression=None,
            max_size=None,
        ) as connection:
            self._connection = connection
            async for frame in connection:
                self._hear(frame)
                for out in self.session.outgoing:
                    await connection.send(out)
                self.session.outgoing.clear()
            self.is_lost = True

    def _hear(self, frame: str | bytes) -> None:
        now_s, before = time.perf_counter(), self.session.revision
        message = self.session.receive(frame)
        if isinstance(message, Deltas):
            self.seen.append((before + 1, self.session.revision, now_s))
        elif isinstance(message, Reply):
            self.n_answered += 1
            self.sent_at[message.revision] = self._sent_s.pop(message.id)
        elif isinstance(message, Error):
            self.n_errors += 1
        elif getattr(message, "levels", None):
            self.n_meter_frames += 1
        if self.session.is_ready:
            self.ready.set()

    async def move(self, n: int) -> None:
        """Send n moves of random faders."""
        for _ in range(n):
            path = f"stem/{self._chance.choice(STEMS)}/gain_db"
            value = round(self._chance.uniform(-60.0, 0.0), 4)
            request_id = self.session.request(Set, path=path, value=value)
            self._sent_s[request_id] = time.perf_counter()
        self.n_sent += n
        assert self._connection is not None
        for out in self.session.outgoing:
            await self._connection.send(out)
        self.session.outgoing.clear()


async def load(url: str, token: str, options: LoadOptions) -> LoadReport:
    """Return what the clients saw while they moved faders for `options.seconds`."""
    clients = [_Client(url, token, options, i) for i in range(options.n_clients)]
    tasks = [asyncio.create_task(c.follow()) for c in clients]
    async with asyncio.timeout(CONNECT_LIMIT_S):
        await asyncio.gather(*(c.ready.wait() for c in clients))
    began, processor = time.monotonic(), time.process_time()
    n_due = 0
    while (spent := time.monotonic() - began) < options.seconds:
        target = round(spent * options.moves_per_s)
        for k in range(n_due, target):
            await clients[k % len(clients)].move(1)
        n_due = target
        await asyncio.sleep(PACE_S)
    share = 100.0 * (time.process_time() - processor) / (time.monotonic() - began)
    await asyncio.sleep(SETTLE_S)
    report = _report(clients)
    report.processor_percent = round(share, 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return report


def _report(clients: list[_Client]) -> LoadReport:
    first = clients[0].session.values
    report = LoadReport(
        n_sent=sum(c.n_sent for c in clients),
        n_answered=sum(c.n_answered for c in clients),
        n_errors=sum(c.n_errors for c in clients),
        n_lost=sum(c.is_lost for c in clients),
        n_meter_frames=sum(c.n_meter_frames for c in clients),
        revisions=sorted({c.session.revision for c in clients}),
        states_differ=sum(c.session.values != first for c in clients),
    )
    last_seen: dict[int, float] = {}
    for client in clients:
        for begin, end, seen_s in client.seen:
            for revision in range(begin, end + 1):
                last_seen[revision] = max(seen_s, last_seen.get(revision, 0.0))
    sent = {r: s for c in clients for r, s in c.sent_at.items()}
    reach = sorted(1e3 * (last_seen[r] - s) for r, s in sent.items() if r in last_seen)
    if reach:
        at = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        report.reach_ms = {
            k: round(reach[min(len(reach) - 1, int(q * len(reach)))], 2) for k, q in at.items()
        }
    return report


@contextmanager
def loaded(url: str, token: str, options: LoadOptions, reports: list[LoadReport]) -> Iterator[None]:
    """Have a process of clients move faders meanwhile; its report is appended at the end."""
    order = json.dumps({"url": url, "token": token, "options": asdict(options)})
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(order)
        process.stdin.close()
        time.sleep(CONNECT_S)
        before = resident_mib()
        is_over = False
        try:
            yield
            is_over = True
        finally:
            if not is_over:
                process.kill()
        assert process.stdout is not None
        text = process.stdout.read()
    if process.returncode == 0:
        report = LoadReport(**json.loads(text))
        report.node_mib = (before, resident_mib())
        reports.append(report)


def resident_mib() -> float:
    """Return the resident memory of this process, 0 where the system does not show it (all but Linux)."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0.0
    return round(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


LOAD_HEADS = ["slice", "moves", "answered", "errors", "lost", "revisions", "p50", "p99", "p99.9", "max, ms"]


def load_rows(reports: Iterable[LoadReport]) -> list[list[str]]:
    """Return the table of a load, under LOAD_HEADS."""
    rows = []
    for n, r in enumerate(reports, 1):
        counted = [r.n_sent, r.n_answered, r.n_errors, r.n_lost]
        reached = [f"{r.reach_ms.get(k, math.nan):.1f}" for k in ("p50", "p99", "p99.9", "max")]
        at = ", ".join(map(str, r.revisions)) + (" (states differ)" if r.states_differ else "")
        rows.append([str(n), *map(str, counted), at, *reached])
    return rows


def _main() -> None:
    gc.disable()  # the pauses would be the clients', not the node's
    order: dict[str, Any] = json.load(sys.stdin)
    with contextlib.suppress(KeyboardInterrupt):
        report = asyncio.run(load(order["url"], order["token"], LoadOptions(**order["options"])))
        print(json.dumps(asdict(report)))


if __name__ == "__main__":
    _main()
