import threading
from queue import Queue

import pytest
from control_node import TOKENS, FakeNode, start_server
from processes import until

from stemrack.clients.errors import ConnectionLost, NoConnection, Refused, RequestRefused
from stemrack.clients.mixer import Mixer
from stemrack.clients.session import Set, Snapshot

GAIN, MUTE = "stem/vocals/gain_db", "stem/vocals/mute"
ROOM = "stem/vocals/fx/reverb/room_size"
WAIT_S = 30.0


@pytest.fixture
def running():
    with start_server() as server:
        yield server


@pytest.fixture
def mixer(running):
    with Mixer(f"{running.http_url}/#token={TOKENS['admin']}") as opened:
        yield opened


def threads():
    return {t.name for t in threading.enumerate()}


def test_it_is_used_in_a_few_lines(running):
    with Mixer(f"{running.http_url}/#token={TOKENS['operator']}") as mixer:
        assert mixer.set(GAIN, -6) == -6.0
        assert mixer.values[GAIN] == -6.0
        assert mixer.values[MUTE] is False
        assert "stemrack-mixer" in threads()
    assert "stemrack-mixer" not in threads()
    assert running.node.mixer.vocals.gain_db == -6.0


def test_every_request_does_what_it_says(running, mixer):
    assert mixer.adjust(GAIN, -3.0) == -3.0
    assert mixer.get(GAIN) == {GAIN: -3.0}
    assert mixer.batch([Set(path=GAIN, value=-9.0), Set(path=MUTE, value=True)]) == {GAIN: -9.0, MUTE: True}
    mixer.store_scene("quiet")
    mixer.set(GAIN, 0.0, ramp_ms=50.0)
    assert running.node.mixer.vocals.ramp_ms == 50.0
    assert mixer.recall_scene("quiet", 100.0, ["vocals"])[GAIN] == -9.0
    mixer.delete_scene("quiet")
    assert mixer.values["scenes"] == ""
    assert mixer.describe()[GAIN].highest == 12.0
    assert mixer.set("stem/vocals/chain", "reverb") == "reverb"
    assert mixer.set(ROOM, 0.8) == mixer.values[ROOM] == 0.8
    assert mixer.describe()[ROOM].highest == 1.0
    assert mixer.effects()["reverb"].parameters[0].path == "room_size"
    mixer.learn(GAIN)
    mixer.unlearn(GAIN)
    assert (running.node.learned, running.node.unlearned) == ([GAIN], [GAIN])
    mixer.subscribe(counters_hz=60.0)
    until(lambda: mixer.session.counters)
    assert 0.0 <= mixer.ping() < WAIT_S
    with pytest.raises(RequestRefused, match="no parameter 'no/such'"):
        mixer.set("no/such", 1.0)


def test_its_streams_begin_when_they_are_made(running, mixer):
    changes = mixer.changes()
    mixer.set(GAIN, -1.0)
    mixer.set(GAIN, -2.0)
    assert [next(changes).values[GAIN] for _ in range(2)] == [-1.0, -2.0]
    assert next(mixer.meters(60.0)).levels["main"][0] == -20.0
    told = Queue()
    events = mixer.events()
    reader = threading.Thread(target=lambda: told.put(next(events).kind), daemon=True)
    reader.start()
    until(lambda: next(iter(running.server._peers)).session.subscriptions.events)
    running.call(lambda: running.node.say("xrun"))
    assert told.get(timeout=WAIT_S) == "xrun"


def test_values_are_whole_changes_in_every_thread(running, mixer):
    """Both faders move in each batch: whoever reads sees both moved, or none."""
    torn, done = [], threading.Event()

    def read():
        while not done.wait(0.0005):
            values = mixer.values
            if values[GAIN] != values["stem/drums/gain_db"]:
                torn.append(values)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(100):
        mixer.batch([Set(path=GAIN, value=-float(n)), Set(path="stem/drums/gain_db", value=-float(n))])
    done.set()
    reader.join(WAIT_S)
    assert not torn
    assert mixer.values[GAIN] == -99.0


def test_several_threads_may_ask_at_once(running, mixer):
    got = {}

    def work(stem, value):
        got[stem] = [mixer.set(f"stem/{stem}/gain_db", value - n) for n in range(20)][-1]

    workers = [
        threading.Thread(target=work, args=(stem, -10.0 * i))
        for i, stem in enumerate(["drums", "bass", "other"])
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(WAIT_S)
    assert got == {"drums": -19.0, "bass": -29.0, "other": -39.0}


def test_it_comes_back_after_a_restart(running, mixer):
    changes = mixer.changes()
    running.restart(FakeNode(epoch="e2"))
    assert isinstance(next(changes), Snapshot)
    mixer.ready(WAIT_S)
    assert mixer.set(GAIN, -1.0) == -1.0


def test_without_a_connection_it_says_so(running, mixer):
    running.stop()
    until(lambda: mixer.session.state != "ready")
    with pytest.raises(ConnectionLost, match="there is no connection now"):
        mixer.set(GAIN, -1.0)
    with pytest.raises(TimeoutError):
        mixer.ready(0.05)
    assert mixer.values[GAIN] == 0.0


def test_closing_frees_who_waits_in_another_thread(running):
    told = Queue()

    def read(mixer):
        told.put(list(mixer.changes()))

    def ask(mixer):
        try:
            mixer.set("engine/profile", "studio")
        except ConnectionLost as error:
            told.put(str(error))

    node = FakeNode(holds=True)
    with start_server(node) as held:
        mixer = Mixer(held.url, token=TOKENS["admin"])
        with mixer:
            for work in (read, ask):
                threading.Thread(target=work, args=(mixer,), daemon=True).start()
            until(lambda: node.changes and len(mixer.session._streams) == 1)
        got = [told.get(timeout=WAIT_S) for _ in range(2)]
    assert [] in got
    assert any("the session is closed" in str(g) for g in got)
    with pytest.raises(ConnectionLost, match="the mixer is not open"):
        mixer.set(GAIN, 0.0)
    mixer.close()


def test_a_node_that_is_not_there_or_refuses_leaves_no_thread(running):
    with pytest.raises(NoConnection, match="start `stemrack run`"), Mixer("http://127.0.0.1:1"):
        pass
    with pytest.raises(Refused, match="the token is wrong"), Mixer(running.url, token="wrong"):
        pass
    with pytest.raises(ValueError, match="is no address of a node"):
        Mixer("http://")
    assert "stemrack-mixer" not in threads()
