"""What the throw-away process finds out, with plugins of ours in place of pedalboard's."""

import base64
import json
import signal
import threading

import numpy as np
import pytest

from stemrack.rt import plugin_probe
from stemrack.rt.errors import ConfigError, EffectError
from stemrack.rt.plugin_probe import Refusal, Report, edit, measured, parameters_of, probe


class FakeParameter:
    def __init__(self, name, kind, values, here, label="", automatable=True, step=None):
        self.name, self.type, self.valid_values, self.here = name, kind, values, here
        self.label, self.is_automatable, self.step_size = label, automatable, step
        self.raw_value, self.string_value = 0.25, str(here)


class Dial(FakeParameter):
    """A number that the plugin takes and shows, and holds as a share of its range."""

    def __init__(self, name, lowest, highest, here):
        super().__init__(name, float, [lowest, highest], here)
        self.lowest, self.span = lowest, highest - lowest
        self.raw_value = (here - lowest) / self.span

    @property
    def value(self):
        return self.lowest + self.raw_value * self.span

    def get_raw_value_for_text(self, text):
        return (float(text) - self.lowest) / self.span

    def get_text_for_raw_value(self, raw):
        return f"{self.lowest + raw * self.span} %"


class Names(FakeParameter):
    """Names beyond what a choice takes, in even steps: it is set by a share."""

    def get_raw_value_for_text(self, text):
        return self.valid_values.index(text) / len(self.valid_values) if text in self.valid_values else 0.0

    def get_text_for_raw_value(self, raw):
        return self.valid_values[min(int(raw * len(self.valid_values)), len(self.valid_values) - 1)]


class FakePlugin:
    """A delay that is told to pedalboard's way: nothing comes out before it is over."""

    name, manufacturer_name, version, is_instrument = "Fake", "Nobody", "3", False

    def __init__(self, latency=0, delay=0, make=lambda y: y):
        self.latency, self.delay, self.make = latency, delay, make
        self.parameters = {}
        self.resets_on = set()
        self.raw_state = b"fresh"
        self.reset()

    def __getattr__(self, name):
        if isinstance(dial := self.__dict__["parameters"].get(name), Dial):
            return dial.value
        raise AttributeError(name)

    @property
    def _parameters(self):
        return list(self.parameters.values())

    def reset(self):
        self.resets_on.add(threading.current_thread() is threading.main_thread())
        self.held, self.line = self.latency, np.zeros((2, self.delay), np.float32)

    @property
    def reported_latency_samples(self):
        return self.latency

    def process(self, x, rate_hz, buffer_size, reset):
        both = np.concatenate([self.line, x], axis=1)
        y, self.line = both[:, : x.shape[1]], both[:, x.shape[1] :]
        dropped = min(self.held, y.shape[1])
        self.held -= dropped
        return self.make(y[:, dropped:])


def test_latency_is_what_is_held_back_and_what_comes_late():
    cases = {(0, 0): 0, (700, 700): 700, (0, 700): 700, (64, 128): 128, (60_000, 60_000): 60_000}
    for (latency, delay), samples in cases.items():
        found = measured(FakePlugin(latency=latency, delay=delay), 44_100)
        assert (found.reported_samples, found.latency_samples) == (latency, samples)
        assert 0 < found.block_us <= found.worst_us


def test_a_survey_ends_early_once_something_was_heard():
    blocks = []
    measured(FakePlugin(make=lambda y: blocks.append(y) or y), 44_100)
    early = len(blocks)
    blocks.clear()
    measured(FakePlugin(make=lambda y: blocks.append(y) or 0.0 * y), 44_100)
    assert (early, len(blocks)) == (1 + 44 + 17, 1 + 215 + 17)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda y: y * np.nan, "not finite, from block 1 on"),
        (lambda y: y[:1], "1 channels for 2"),
        (lambda y: y[0], "1 channels for 2"),
    ],
)
def test_what_cannot_be_used_is_refused(make, says):
    with pytest.raises(Refusal, match=says):
        measured(FakePlugin(make=make), 44_100)


def test_parameters_are_numbers_switches_and_choices():
    plugin = FakePlugin()
    many = [f"{n} kHz-ish" for n in range(65)]
    plugin.parameters = {
        "level_db": FakeParameter("Level", float, [-60.0, -30.0, 12.0], -1.4e-06, "dB", step=36.0),
        "gate": FakeParameter("Gate", float, [float("-inf"), -40.0, 0.0], -40.0, "dB"),
        "freeze": FakeParameter("Freeze", bool, [False, True], True),
        "mode": FakeParameter("Mode", str, ["hall", "room"], "room"),
        "tone": FakeParameter("Tone", str, many, many[3]),
        "fixed": FakeParameter("Fixed", float, [3.0], 3.0),
        "bypass": FakeParameter("Bypass", bool, [False, True], False),
        "latency_frames": FakeParameter("Latency", float, [0.0, 9.0], 0.0, automatable=False),
    }
    for name, parameter in plugin.parameters.items():
        setattr(plugin, name, parameter.here)
    found = {p.pop("name"): p for p in parameters_of(plugin)}
    assert found == {
        "level_db": {
            "doc": "Level",
            "kind": "number",
            "unit": "dB",
            "lowest": -60.0,
            "highest": 12.0,
            "step": 36.0,
            "default": 0.0,
        },
        "gate": {
            "doc": "Gate",
            "kind": "number",
            "unit": "dB",
            "lowest": -40.0,
            "highest": 0.0,
            "default": -40.0,
        },
        "freeze": {"doc": "Freeze", "kind": "switch", "default": True},
        "mode": {"doc": "Mode", "kind": "choice", "choices": ["hall", "room"], "default": "room"},
        "tone": {
            "doc": "Tone",
            "kind": "number",
            "unit": "",
            "lowest": 0.0,
            "highest": 1.0,
            "default": 0.25,
        },
        "fixed": {"doc": "Fixed", "kind": "choice", "choices": ["3.0"], "default": "3.0"},
    }


@pytest.fixture
def told(tmp_path):
    """A report, and what it holds."""
    report = Report(str(tmp_path / "report"))
    return report, lambda: [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]


def use(monkeypatch, plugin, names=("Fake",)):
    monkeypatch.setattr(plugin_probe, "names_in", lambda path: list(names))
    monkeypatch.setattr(plugin_probe, "opened", lambda path, name, limit_s: plugin)


def test_a_probe_tells_each_stage_and_all_at_the_end(monkeypatch, told):
    plugin = FakePlugin(latency=10)
    use(monkeypatch, plugin)
    probe("x.vst3", "", 20.0, told[0])
    *lines, last = told[1]()
    assert [line["stage"] for line in lines if "stage" in line] == [
        "loading",
        "reading its parameters",
        "processing at 44100 Hz",
        "processing at 48000 Hz",
        "being reset",
    ]
    assert lines[1] == {"names": ["Fake"]}
    facts = last["plugin"]
    assert (facts["name"], facts["maker"], facts["version"], facts["inner_name"]) == (
        "Fake",
        "Nobody",
        "3",
        "Fake",
    )
    assert [m["latency_samples"] for m in facts["measured"]] == [10, 10]
    assert facts["resets_anywhere"] is True
    assert plugin.resets_on == {True, False}


def test_a_plugin_that_can_be_reset_on_its_own_thread_only(monkeypatch, told):
    plugin = FakePlugin()
    plain = plugin.reset

    def reset():
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("must be reloaded on the main thread")
        plain()

    plugin.reset = reset
    use(monkeypatch, plugin)
    probe("x.vst3", "", 20.0, told[0])
    assert told[1]()[-1]["plugin"]["resets_anywhere"] is False


def test_a_file_with_several_plugins_tells_their_names_only(monkeypatch, told):
    use(monkeypatch, None, names=("One", "Two"))
    probe("x.vst3", "", 20.0, told[0])
    assert told[1]() == [{"stage": "loading"}, {"names": ["One", "Two"]}]


def test_a_file_without_and_an_instrument_are_refused(monkeypatch, told):
    use(monkeypatch, None, names=())
    with pytest.raises(Refusal, match="holds no plugin"):
        probe("x.vst3", "", 20.0, told[0])
    plugin = FakePlugin()
    plugin.is_instrument = True
    use(monkeypatch, plugin)
    with pytest.raises(Refusal, match="is an instrument"):
        probe("x.vst3", "Fake", 20.0, told[0])


def test_audio_units_elsewhere_than_on_macos():
    with pytest.raises(EffectError, match="on macOS only"):
        plugin_probe.names_in("x.component")


@pytest.fixture
def request_of(tmp_path):
    def make(**more):
        return {"path": "x.vst3", "name": "Fake", "state": "", "values": {}, "limit_s": 20.0, **more}

    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGALRM)}
    yield make
    signal.alarm(0)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_an_edit_begins_with_a_state_and_tells_the_one_at_the_end(monkeypatch, told, request_of):
    plugin = FakePlugin()
    plugin.parameters = {"mix": Dial("Mix", 0.0, 100.0, 50.0)}
    seen = []

    def show_editor(closed):
        seen.append((plugin.raw_state, plugin.mix, closed.is_set()))
        plugin.raw_state, plugin.parameters["mix"].raw_value = b"edited", 0.7
        signal.raise_signal(signal.SIGTERM)
        seen.append(closed.is_set())

    plugin.show_editor = show_editor
    use(monkeypatch, plugin)
    state = base64.b64encode(b"before").decode()
    edit(request_of(state=state, values={"mix": 25.0}), told[0])
    assert seen == [(b"before", 25.0, False), True]
    assert told[1]()[-1] == {"state": base64.b64encode(b"edited").decode(), "values": {"mix": 70.0}}


def test_an_edit_sets_values_as_the_live_host_does(monkeypatch, told, request_of):
    """Pedalboard's own way takes one of the names only, and of an unknown one it makes an attribute."""
    plugin = FakePlugin()
    names = [f"{n} kHz-ish" for n in range(65)]
    plugin.parameters = {"tone": Names("Tone", str, names, names[16])}
    plugin.show_editor = lambda closed: None
    use(monkeypatch, plugin)
    edit(request_of(values={"tone": 0.75}), told[0])
    assert plugin.parameters["tone"].raw_value == 0.75
    assert told[1]()[-1]["values"] == {"tone": 0.75}
    with pytest.raises(ConfigError, match="Fake has no parameter 'gone': it has tone"):
        edit(request_of(values={"gone": 0.75}), told[0])


def test_main_tells_why_nothing_came_of_it(monkeypatch, told, request_of, tmp_path):
    plugin = FakePlugin(make=lambda y: y * np.inf)
    use(monkeypatch, plugin)
    request = request_of(do="probe", report=str(tmp_path / "report"))
    with np.errstate(invalid="ignore"):
        assert plugin_probe.main([json.dumps(request)]) == 0
    assert "not finite" in told[1]()[-1]["refused"]

    def fail(closed):
        raise RuntimeError("Editor cannot be shown\nby far")

    plugin.show_editor = fail
    request["do"] = "edit"
    assert plugin_probe.main([json.dumps(request)]) == 0
    assert told[1]()[-1] == {"refused": "Editor cannot be shown"}
