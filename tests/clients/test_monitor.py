import asyncio
import io
import math

import pytest
from control_node import TOKENS, FakeNode, start_server
from rich.console import Console

from stemrack.clients import monitor
from stemrack.clients.errors import Refused
from stemrack.clients.monitor import PeakHold, View, bar, draw, screen
from stemrack.clients.session import Session
from stemrack.rt.control.messages import Event, Meters

WIDTH, LIMIT_S = 100, 30.0


def meters(**levels_db):
    return Meters(position=0, levels={n: (db, db - 1.0, db - 3.0, db - 4.0) for n, db in levels_db.items()})


def text_of(what):
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(what)
    return console.file.getvalue()


def drawn(running, until, **options):
    """Return the first screen that holds a text, of a monitor as `stemrack monitor` runs it."""
    console = Console(file=io.StringIO(), width=WIDTH)

    async def talk():
        url = f"{running.http_url}/#token={TOKENS['operator']}"
        options.setdefault("subscribe", monitor.subscriptions(60.0))
        async with asyncio.timeout(LIMIT_S), Session(url, is_patient=True, **options) as session:
            view = View()
            session.on_message.append(lambda m: view.take(m, asyncio.get_running_loop().time()))
            while until not in (shown := text_of(screen(session, view, WIDTH))):
                await asyncio.sleep(0.01)
            await draw(session, 2, console)
            return shown

    shown = asyncio.run(talk())
    assert console.file.getvalue()
    return shown


# -- ballistics --------------------------------------------------------------------------------------------


def test_a_bar_falls_20_db_in_1700_ms_and_its_mark_stays_for_a_second():
    peak = PeakHold()
    peak.take(-10.0, 100.0)
    peak.fall(100.85)
    assert (peak.bar_db, peak.hold_db) == (pytest.approx(-20.0), -10.0)
    peak.fall(101.0)
    assert peak.hold_db == -10.0
    peak.fall(101.7)
    assert peak.bar_db == pytest.approx(-30.0)
    assert peak.hold_db == pytest.approx(-10.0 - 0.7 * 20.0 / 1.7)


def test_the_way_down_does_not_depend_on_how_often_it_is_looked_at():
    once, often = PeakHold(), PeakHold()
    for peak in (once, often):
        peak.take(-3.0, 0.0)
    once.fall(3.0)
    for n in range(1, 301):
        often.fall(n / 100.0)
    assert often.bar_db == pytest.approx(once.bar_db)
    assert often.hold_db == pytest.approx(once.hold_db)


def test_a_louder_frame_lifts_bar_and_mark_and_a_softer_one_does_not():
    peak = PeakHold()
    for level_db, now_s in ((-20.0, 0.0), (-6.0, 0.1), (-60.0, 0.2)):
        peak.take(level_db, now_s)
    assert peak.hold_db == -6.0
    assert peak.bar_db == pytest.approx(-6.0 - 0.1 * 20.0 / 1.7)


def test_the_mark_never_falls_below_the_bar():
    peak = PeakHold()
    peak.take(-6.0, 0.0)
    for n in range(1, 40):
        peak.take(-12.0, n / 10.0)
    assert peak.hold_db == peak.bar_db == -12.0


def test_nothing_measured_is_nothing():
    peak = PeakHold()
    peak.fall(5.0)
    assert peak.bar_db == peak.hold_db == -math.inf


# -- what is drawn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level_db", "hold_db", "drawn_as"),
    [
        (-math.inf, -math.inf, "          "),
        (-60.0, -60.0, "          "),
        (-30.0, -30.0, "█████│    "),
        (-27.0, -27.0, "█████▌    "),
        (-54.0, -12.0, "█       │ "),
        (0.0, 0.0, "██████████"),
        (6.0, 6.0, "██████████"),
        (-200.0, -3.0, "         │"),
    ],
)
def test_a_bar_shows_level_and_mark(level_db, hold_db, drawn_as):
    assert bar(level_db, hold_db, 10).plain == drawn_as


def test_a_bar_is_red_near_full_scale_and_green_far_below():
    spans = [(s.start, s.end, s.style) for s in bar(0.0, 0.0, 60).spans]
    assert spans == [(0, 42, "green"), (42, 54, "yellow"), (54, 60, "red")]


def test_a_view_keeps_the_louder_channel_and_the_newest_events():
    view = View()
    view.take(meters(vocals=-10.0), 1.0)
    assert (view.peaks["vocals"].bar_db, view.rms_db["vocals"]) == (-10.0, -13.0)
    for n in range(10):
        view.take(Event(kind="xrun", time_s=0.0, facts={"n": float(n)}), 1.0)
    assert [e.facts["n"] for e in view.events] == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    view.fall(2.9)
    assert view.rms_db
    view.fall(3.1)
    assert not view.rms_db


def test_the_screen_shows_faders_levels_counters_events_and_state():
    node = FakeNode()
    node.counts = {"xruns": 3, "late_hops": 0, "fallbacks": 0}
    node.level_db = 0.5
    with start_server(node) as running:
        running.call(
            lambda: node.board.change(
                {
                    "stem/vocals/gain_db": -6.0,
                    "stem/vocals/mute": True,
                    "stem/bass/solo": True,
                    "engine/state": "dry",
                    "engine/latency_ms": 34.8,
                    "recording/active": True,
                },
                "node",
            )
        )
        shown = drawn(running, "xruns 3")
    lines = shown.splitlines()
    assert lines[0].startswith("stemrack test  ws://127.0.0.1:")
    for word in ("connected", "dry", "34.8 ms", "live", "recording"):
        assert word in " ".join(lines[:2])
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert [r for r in rows if r in node.meters_for("").levels] == list(node.meters_for("").levels)
    assert "-6.0 dB" in rows["vocals"]
    assert "mute" in rows["vocals"]
    assert "solo" in rows["bass"]
    assert "solo" not in rows["drums"]
    assert " 0.5 " in rows["main"]
    assert " -2.5 " in rows["main"]
    assert rows["main"].rstrip().endswith("+0.0 dB")
    assert max(map(len, lines)) <= WIDTH
    assert "late_hops" not in shown


def test_events_are_shown():
    node = FakeNode()
    with start_server(node) as running:
        node_says = []

        class Saying(View):
            def take(self, message, now_s):
                super().take(message, now_s)
                if isinstance(message, Meters) and not node_says:
                    node_says.append(True)
                    running.loop.call_soon_threadsafe(lambda: node.say("late-hop", n=2.0, dry=True))

        view = Saying()

        async def talk():
            options = {"token": TOKENS["viewer"], "subscribe": monitor.subscriptions(60.0)}
            async with asyncio.timeout(LIMIT_S), Session(running.url, **options) as session:
                session.on_message.append(lambda m: view.take(m, 0.0))
                while not view.events:
                    await asyncio.sleep(0.01)
                return text_of(screen(session, view, WIDTH))

        assert "late-hop n=2 dry=on" in asyncio.run(talk())


def test_a_node_that_is_not_there_is_waited_for_and_said():
    with start_server() as running:
        running.stop()
        shown = drawn(running, "Connection refused")
    assert "waiting: no node at ws://" in shown
    assert "start `stemrack run`" in " ".join(shown.split())


def test_a_monitor_ends_where_the_node_refuses_it():
    async def talk():
        async with (
            asyncio.timeout(LIMIT_S),
            Session(running.url, token="wrong", is_patient=True) as session,
        ):
            await draw(session, None, Console(file=io.StringIO(), width=WIDTH))

    with start_server() as running, pytest.raises(Refused, match="the token is wrong"):
        asyncio.run(talk())
