import json
import signal
import subprocess
import sys

import pytest
from control_node import TOKENS, FakeNode, start_server
from processes import until
from typer import Typer
from typer.testing import CliRunner

from stemrack.clients.cli import add_commands

GAIN, MUTE = "stem/vocals/gain_db", "stem/vocals/mute"
WAIT_S = 60.0
top = Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
add_commands(top)


@pytest.fixture
def running(monkeypatch):
    monkeypatch.delenv("STEMRACK_TOKEN", raising=False)
    with start_server() as server:
        monkeypatch.setenv("STEMRACK_URL", f"{server.http_url}/#token={TOKENS['admin']}")
        yield server


def ctl(*words, code=0):
    """Return what a command says on stdout, or on stderr where it fails."""
    result = CliRunner().invoke(top, ["ctl", *words])
    assert result.exit_code == code, result.output
    if code:
        assert result.stderr.count("\n") == 1 or code == 2
        assert not result.stdout
        return result.stderr
    assert not result.stderr
    return result.stdout


def start(*words):
    program = "from stemrack.clients.cli import *; t = Typer(); add_commands(t); t()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# -- get, set, adjust --------------------------------------------------------------------------------------


def test_values_are_set_and_shown(running):
    assert ctl("set", GAIN, "-6.5") == "-6.5\n"
    assert running.node.mixer.vocals.gain_db == -6.5
    assert ctl("get", GAIN) == "-6.5\n"
    assert ctl("get", GAIN, MUTE) == f"{GAIN} = -6.5\n{MUTE} = off\n"
    assert ctl("adjust", GAIN, "-1", "--ramp-ms", "200") == "-7.5\n"
    assert running.node.mixer.vocals.ramp_ms == 200.0
    assert ctl("set", "--ramp-ms", "300", GAIN, "3") == "3\n"
    assert running.node.mixer.vocals.ramp_ms == 300.0
    assert ctl("set", MUTE, "on") == "on\n"
    assert ctl("set", "engine/profile", "studio") == "studio\n"
    assert len(ctl("get").splitlines()) == len(running.node.board.values)


def test_json_is_what_the_protocol_says(running):
    assert json.loads(ctl("set", GAIN, "-6", "--json")) == {GAIN: -6.0}
    assert json.loads(ctl("adjust", GAIN, "1", "--json")) == {GAIN: -5.0}
    assert json.loads(ctl("get", "--json")) == running.node.board.values
    assert json.loads(ctl("ping", "--json")).keys() == {"server", "role", "took_ms"}
    table = {row["path"]: row for row in json.loads(ctl("describe", "--json"))}
    assert table.keys() == {p.path for p in running.node.table}
    assert (table[GAIN]["lowest"], table[GAIN]["unit"]) == (-120.0, "dB")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", GAIN, "13"), "must be -120 to 12 dB (error 302, out_of_range)"),
        (("set", "no/such", "1"), "there is no parameter 'no/such'"),
        (("set", "no/such", "one"), "there is no parameter 'no/such'"),
        (("set", "scenes", "a"), "(error 303, read_only)"),
        (("set", MUTE, "on", "--ramp-ms", "-1"), "error 302"),
        (("get", "no/such"), "ask for the table with describe"),
        (("describe", "no/such"), "there is no parameter 'no/such'"),
        (("scene", "recall", "none"), "there is no scene 'none'"),
        (("scene", "store", "x", "--stem", "flute"), "there is no stem 'flute'"),
        (("midi", "unlearn", "no/such"), "error 300"),
    ],
)
def test_what_the_node_refuses_gives_1_and_one_line(running, words, said):
    assert said in ctl(*words, code=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", MUTE, "5"), "'5' must be on or off"),
        (("set", GAIN, "loud"), "'loud' must be a number"),
        (("set", GAIN, "nan"), "'nan' must be a finite number"),
        (("set", GAIN), "Missing argument"),
        (("set", GAIN, "1", "--rampms", "3"), "--rampms"),
        (("record", "pause"), "'pause'"),
        (("get", "--url", "ftp://desk"), "is no address of a node"),
        (("get", "--no-such"), "--no-such"),
    ],
)
def test_wrong_usage_gives_2(running, words, said):
    assert said in ctl(*words, code=2)
    assert running.node.board.revision == 0


def test_no_node_gives_3():
    assert "start `stemrack run`" in ctl("get", "--url", "http://127.0.0.1:1", code=3)


def test_a_wrong_token_gives_3_and_is_tried_once(running):
    assert "the token is wrong" in ctl("get", "--token", "wrong", code=3)
    assert running.counted["refused_token"] == running.counted["connections"] == 1
    assert "give the address with #token=" in ctl("get", "--url", running.http_url, code=3)


def test_a_connection_that_breaks_meanwhile_gives_3(monkeypatch):
    node = FakeNode(holds=True)
    with start_server(node) as running:
        monkeypatch.setenv("STEMRACK_TOKEN", TOKENS["admin"])
        process = start("ctl", "set", "engine/profile", "studio", "--url", running.http_url)
        until(lambda: node.changes, WAIT_S)
        running.stop()
        said = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 3
    assert "no answer came before the connection broke" in said
    assert said.count("\n") == 1


# -- scenes, recording, MIDI, describe, ping ---------------------------------------------------------------


def test_scenes(running):
    ctl("set", GAIN, "-6")
    assert ctl("scene", "store", "my song") == ""
    assert ctl("scene", "store", "voice", "--stem", "vocals") == ""
    assert ctl("scene", "list") == "my song\nvoice\n"
    assert json.loads(ctl("scene", "list", "--json")) == ["my song", "voice"]
    ctl("set", GAIN, "0")
    assert json.loads(ctl("scene", "recall", "my song", "--fade-ms", "250", "--json"))[GAIN] == -6.0
    assert running.node.mixer.vocals.ramp_ms == 250.0
    ctl("set", "stem/drums/gain_db", "-1")
    assert "drums" not in ctl("scene", "recall", "my song", "--stem", "vocals")
    assert running.node.mixer.drums.gain_db == -1.0
    assert ctl("scene", "delete", "my song") == ""
    assert ctl("scene", "list") == "voice\n"
    assert ctl("scene", "delete", "voice") + ctl("scene", "list") == ""


def test_recording(running):
    assert ctl("record", "start") == "on\n"
    assert [c[:2] for c in running.node.changes] == [("recording/active", True)]
    assert json.loads(ctl("record", "stop", "--json")) == {"recording/active": False}


def test_midi(running):
    assert ctl("midi", "learn", GAIN) == f"move the control for {GAIN} now\n"
    assert ctl("midi", "learn") == "waiting for no control\n"
    assert ctl("midi", "unlearn", GAIN) == ""
    assert (running.node.learned, running.node.unlearned) == ([GAIN, ""], [GAIN])


def test_the_table_is_shown(running):
    shown = ctl("describe")
    assert f"{GAIN}: -120 to 12 dB; Fader of vocals; -120 is silence.\n" in shown
    assert (
        "engine/profile: live | studio; What separates; another one is loaded first, then faded to.\n"
        in shown
    )
    assert f"{MUTE}: on | off; " in shown
    assert "engine/latency_ms: ms; " in shown
    assert len(shown.splitlines()) == len(list(running.node.table))
    assert ctl("describe", MUTE).startswith(MUTE)


# -- chains ------------------------------------------------------------------------------------------------


def test_a_chain_is_set_as_any_parameter(running):
    line = "stem/vocals/chain"
    assert ctl("set", line, "highpass_filter reverb") == "highpass_filter reverb\n"
    assert ctl("set", "stem/vocals/fx/reverb/room_size", "0.8") == "0.8\n"
    assert ctl("set", "stem/vocals/fx/reverb/bypass", "on") == "on\n"
    assert ctl("adjust", "stem/vocals/fx/reverb/room_size", "-9") == "0\n"
    assert ctl("get", line) == "highpass_filter reverb\n"
    assert [i.bypass for i in running.node.chains.vocals] == [False, True]
    assert "there is no effect 'kazoo'" in ctl("set", line, "kazoo", code=1)
    assert ctl("set", line, "") == "\n"
    assert running.node.chains.vocals == ()


def test_a_chain_is_shown_with_units_and_ranges(running):
    shown = ctl("chain", "vocals", "highpass_filter reverb ladder_filter")
    at = "stem/vocals/fx/"
    share = "dry_wet = 1 (0 to 1); Share of the effect: 0 what comes in, 1 what it makes of it."
    assert shown.splitlines() == [
        "stem/vocals/chain = highpass_filter reverb ladder_filter",
        f"  {at}highpass_filter/bypass = off (on | off); Whether the sound goes past it.",
        f"  {at}highpass_filter/{share}",
        f"  {at}highpass_filter/cutoff_frequency_hz = 50 Hz (20 to 20000 Hz); Where it begins.",
        f"  {at}reverb/bypass = off (on | off); Whether the sound goes past it.",
        f"  {at}reverb/{share}",
        f"  {at}reverb/room_size = 0.5 (0 to 1); Its size.",
        f"  {at}reverb/freeze = off (on | off); Whether it holds.",
        f"  {at}ladder_filter/bypass = off (on | off); Whether the sound goes past it.",
        f"  {at}ladder_filter/{share}",
        f"  {at}ladder_filter/mode = LPF12 (LPF12 | HPF12); Which side.",
        f"  {at}ladder_filter/drive = 1 (number); Without limits.",
    ]
    every = ctl("chain").splitlines()
    assert [row for row in every if not row.startswith("  ")] == [
        "stem/drums/chain = ",
        "stem/bass/chain = ",
        "stem/other/chain = ",
        "stem/vocals/chain = highpass_filter reverb ladder_filter",
    ]
    as_json = json.loads(ctl("chain", "vocals", "reverb", "--json"))
    assert as_json["stem/vocals/chain"] == "reverb"
    assert as_json[f"{at}reverb/room_size"] == 0.5
    assert len(as_json) == 5
    assert "there is no stem 'flute', but drums, bass, other, vocals" in ctl("chain", "flute", code=1)


def test_effects_are_listed(running):
    assert ctl("effects").splitlines() == [
        "highpass_filter: Takes the low end away.",
        "reverb: A room.",
        "ladder_filter: A synthesiser's filter.",
        "invert: Turns the sign round.",
    ]
    assert ctl("effects", "highpass_filter").splitlines() == [
        "highpass_filter: Takes the low end away.",
        "  cutoff_frequency_hz = 50 Hz (20 to 20000 Hz); Where it begins.",
    ]
    assert json.loads(ctl("effects", "--json"))[0]["key"] == "highpass_filter"
    assert "there is no effect 'kazoo'" in ctl("effects", "kazoo", code=1)


def test_ping_says_who_answers(running):
    said = ctl("ping", "--token", TOKENS["viewer"])
    assert said.startswith("stemrack test: ")
    assert said.endswith(" ms (role: viewer)\n")


# -- watch -------------------------------------------------------------------------------------------------


def test_watch_shows_what_is_and_ends_after_its_count(running):
    assert ctl("watch", "stem/vocals/*", "--count", "2") == f"0 - {GAIN} = 0\n0 - {MUTE} = off\n"
    (line,) = ctl("watch", "--json", "--count", "1").splitlines()
    assert json.loads(line) == {"revision": 0, "origin": "-", "values": running.node.board.values}


def test_watch_follows_through_a_restart(running):
    process = start("ctl", "watch", GAIN, "scenes")
    lines = [process.stdout.readline() for _ in range(2)]
    assert sorted(lines) == ["0 - scenes = \n", f"0 - {GAIN} = 0\n"]
    running.call(lambda: running.node.board.change({GAIN: -6.0, MUTE: True}, "midi"))
    assert process.stdout.readline() == f"1 midi {GAIN} = -6\n"
    running.call(lambda: running.node.board.change({"scenes": "a\nb"}, "c7"))
    assert process.stdout.readline() == "2 c7 scenes = a, b\n"
    running.restart(FakeNode(epoch="e2"))
    assert process.stdout.readline() == f"0 - {GAIN} = 0\n"
    process.stdout.close()  # as `| head` does
    until(lambda: any(p.session.is_identified for p in running.server._peers), WAIT_S)
    for n in range(3):
        running.call(lambda n=n: running.node.board.change({GAIN: -1.0 - n}, "midi"))
    process.wait(WAIT_S)
    said = process.stderr.read()
    process.stderr.close()
    assert (process.returncode, said) == (0, "")


def test_watch_counts_changes_too(running):
    process = start("ctl", "watch", GAIN, "--count", "2", "--json")
    assert json.loads(process.stdout.readline())["values"] == {GAIN: 0.0}
    running.call(lambda: running.node.board.change({MUTE: True}, "midi"))
    running.call(lambda: running.node.board.change({GAIN: -6.0}, "midi"))
    rest, said = process.communicate(timeout=WAIT_S)
    assert json.loads(rest) == {"revision": 2, "origin": "midi", "values": {GAIN: -6.0}}
    assert (process.returncode, said) == (0, "")


def test_an_interrupt_ends_it_without_a_traceback(running):
    process = start("ctl", "watch", GAIN)
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=WAIT_S) == ("", "")
    assert process.returncode == 130


# -- monitor, and how fast help comes ----------------------------------------------------------------------


def test_monitor_prints_frames(running):
    result = CliRunner().invoke(top, ["monitor", "--json", "--count", "8", "--rate-hz", "60"])
    assert result.exit_code == 0
    frames = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(frames) == 8
    assert frames[0]["type"] == "snapshot"
    assert frames[0]["values"] == running.node.board.values
    assert {f["type"] for f in frames[1:]} <= {"meters", "counters"}
    assert next(f for f in frames if f["type"] == "meters")["levels"]["bass"] == [-20, -20, -23, -23]


def test_monitor_needs_a_terminal_to_draw_on(running):
    result = CliRunner().invoke(top, ["monitor"])
    assert (result.exit_code, result.stderr) == (
        2,
        "stemrack: monitor draws on a terminal, and there is none: add --json\n",
    )


def test_help_loads_nothing_that_talks():
    program = (
        "import sys; from stemrack.clients.cli import ctl\n"
        "try: ctl(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'websockets', 'msgspec', 'asyncio', 'rich', 'numpy', 'numba', 'torch', 'ssl'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "recall faders and chains under a name" in done.stdout


def test_a_client_loads_no_mathematics():
    program = (
        "import sys; from stemrack.clients import cli, mixer, monitor, watch\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'numpy', 'numba', 'torch', 'sounddevice'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout == "[]\n"
