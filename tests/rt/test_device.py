"""Which device a name means, and what is said of one that cannot be used.  No device is needed."""

import json
import subprocess

import pytest

from stemrack.rt.asking import ask_devices
from stemrack.rt.errors import DeviceError

try:
    from stemrack.rt import device
except OSError as error:  # sounddevice looks for PortAudio when it is imported
    pytest.skip(f"PortAudio cannot be loaded: {error}", allow_module_level=True)

from stemrack.rt.device import DeviceInfo, StreamSpec, choose, open_stream, with_own_names


def info(index, name, n_inputs=2, n_outputs=2, host_api="ALSA"):
    return DeviceInfo(
        index=index,
        name=name,
        host_api=host_api,
        n_inputs=n_inputs,
        n_outputs=n_outputs,
        rate_hz=44_100.0,
        low_latency_ms=(1.0, 1.0),
        high_latency_ms=(10.0, 10.0),
    )


RACK = [
    info(0, "USB Audio"),
    info(1, "USB Audio 2"),
    info(2, "Microphone", n_outputs=0),
    info(3, "Loudspeaker", n_inputs=0),
    info(4, "Groß: Interface"),
]


@pytest.mark.parametrize(
    ("wanted", "kind", "index"),
    [
        (1, "input", 1),
        ("1", "output", 1),
        ("USB Audio", "input", 0),
        ("USB Audio 2", "input", 1),
        ("micro", "input", 2),
        ("LOUD", "output", 3),
        ("interface", "output", 4),
    ],
)
def test_a_device_is_meant_by_number_name_or_part(wanted, kind, index):
    assert choose(RACK, wanted, kind, -1).index == index


@pytest.mark.parametrize(("default", "kind", "index"), [(4, "input", 4), (-1, "input", 0), (3, "output", 3)])
def test_default_is_the_systems_or_the_first_that_can(default, kind, index):
    assert choose(RACK, "default", kind, default).index == index


def test_without_a_default_the_first_of_the_kind_is_taken():
    assert choose(RACK[2:], "default", "output", -1).index == 3


def refusal(devices, wanted, kind, default=-1):
    with pytest.raises(DeviceError) as caught:
        choose(devices, wanted, kind, default)
    assert caught.value.device == str(wanted)
    return str(caught.value)


def test_a_part_of_several_names_lists_them():
    said = refusal(RACK, "usb", "output")
    assert said == (
        "device 'usb' means more than one output: 0 'USB Audio', 1 'USB Audio 2'; "
        "give its number or its whole name"
    )


@pytest.mark.parametrize("wanted", ["cowbell", "", " ", "²", -1, 99, "99"])
def test_what_is_not_there_lists_what_is(wanted):
    said = refusal(RACK, wanted, "output")
    assert said == (
        f"device '{wanted}' is not among the outputs: 0 'USB Audio', 1 'USB Audio 2', 3 'Loudspeaker', "
        "4 'Groß: Interface'; see `stemrack devices`"
    )


def test_an_empty_name_means_nothing_even_with_one_device():
    assert "is not among the inputs" in refusal(RACK[:1], "", "input")


@pytest.mark.parametrize("wanted", [2, "2"])
def test_a_number_never_means_another_device_by_its_name(wanted):
    assert "device '2' is 'Microphone' and has no outputs" in refusal(RACK, wanted, "output")


@pytest.mark.parametrize("wanted", ["default", 0, "anything"])
def test_with_no_device_at_all_that_is_said(wanted):
    assert "is not among the inputs: none at all" in refusal([], wanted, "input")


def test_every_name_means_one_device_of_a_kind():
    devices = [
        info(0, "Codec", n_outputs=0),  # as macOS lists a headset: a name for the microphone,
        info(1, "Codec", n_inputs=0),  # and the same for the other half
        info(2, "Speakers", host_api="MME"),
        info(3, "Speakers", host_api="WASAPI"),
        info(4, "Twin"),
        info(5, "Twin"),
    ]
    named = with_own_names(devices)
    assert [d.name for d in named] == [
        "Codec",
        "Codec",
        "Speakers, MME",
        "Speakers, WASAPI",
        "Twin, ALSA #1",
        "Twin, ALSA #2",
    ]
    for d in named:
        for kind in ("input", "output"):
            if d.has(kind):
                assert choose(named, d.name, kind, -1).index == d.index
    assert "means more than one input: 2 'Speakers, MME', 3" in refusal(named, "Speakers", "input")


def test_the_list_survives_json_and_a_process_of_its_own():
    found = ask_devices()
    assert set(found) == {"devices", "default"}
    assert set(found["default"]) == {"input", "output"}
    assert [d["index"] for d in found["devices"]] == list(range(len(found["devices"])))


def test_a_portaudio_that_fails_or_hangs_is_a_device_error(monkeypatch):
    def fail(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "a trace\nOSError: no PortAudio\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(DeviceError, match="device 'PortAudio' cannot be used, saying: OSError: no PortAudio"):
        ask_devices()

    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(DeviceError, match="did not answer in 15 s"):
        ask_devices()


class FakeSounddevice:
    """PortAudio that refuses everything but 48 kHz."""

    PortAudioError = device.sounddevice.PortAudioError

    class _ffi:
        @staticmethod
        def cast(kind, address):
            return address

    opens = True

    def __init__(self, rates_hz):
        self.rates_hz, self.asked = rates_hz, []

    def _StreamBase(self, **options):
        self.asked.append(options)
        if options["samplerate"] not in self.rates_hz or not self.opens:
            raise self.PortAudioError("Invalid sample rate", -9997)
        return FakeStream(self)

    def query_devices(self, index):
        return {"name": f"Fake {index}"}

    def check_output_settings(self, index, channels, dtype, samplerate):
        if samplerate not in self.rates_hz:
            raise self.PortAudioError("Invalid sample rate", -9997)

    check_input_settings = check_output_settings


class FakeStream:
    latency = 0.002, 0.004

    def __init__(self, library):
        self._library = library

    def start(self):
        raise self._library.PortAudioError("Device unavailable", -9985)

    def close(self):
        raise self._library.PortAudioError("Internal error", -9986)


def spec(**values):
    return StreamSpec(
        **{"input": 1, "output": 2, "rate_hz": 48_000, "block_samples": 64, "n_inputs": 2, "n_outputs": 8}
        | values
    )


@pytest.fixture
def library(monkeypatch):
    fake = FakeSounddevice([48_000])
    monkeypatch.setattr(device, "sounddevice", fake)
    return fake


@pytest.mark.parametrize(
    ("given", "kind", "devices", "channels"),
    [({}, "duplex", (1, 2), (2, 8)), ({"output": None}, "input", 1, 2), ({"input": None}, "output", 2, 8)],
)
def test_a_stream_is_opened_as_specified_and_untouched(library, given, kind, devices, channels):
    stream = open_stream(spec(**given), 1234, 5678)
    (asked,) = library.asked
    assert (asked["kind"], asked["device"], asked["channels"]) == (kind, devices, channels)
    assert (asked["callback"], asked["userdata"], asked["dtype"]) == (1234, 5678, "float32")
    assert (asked["samplerate"], asked["blocksize"], asked["latency"]) == (48_000, 64, "low")
    assert asked["clip_off"]
    assert asked["dither_off"]
    assert stream.reported_latency_ms == pytest.approx([2.0, 4.0])


def test_a_rate_that_is_refused_names_those_that_are_taken(library):
    with pytest.raises(
        DeviceError, match=r"'Fake 2' does not open \(Invalid sample rate.*\); it takes 48000 Hz"
    ):
        open_stream(spec(rate_hz=44_100), 0, 0)
    library.rates_hz = []
    with pytest.raises(DeviceError, match="it takes no common rate with these channels"):
        open_stream(spec(), 0, 0)


def test_the_rate_is_not_blamed_where_it_is_taken(library):
    library.opens = False
    with pytest.raises(DeviceError, match="48000 Hz it takes: is it in use"):
        open_stream(spec(), 0, 0)


@pytest.mark.parametrize("what", ["start", "close"])
def test_what_portaudio_says_later_is_a_device_error_too(library, what):
    stream = open_stream(spec(input=None), 0, 0)
    with pytest.raises(DeviceError, match=f"device 'Fake 2' does not {what} \\("):
        getattr(stream, what)()


def test_print_devices_prints_one_line_of_json(capsys, monkeypatch):
    monkeypatch.setattr(device, "list_devices", lambda: RACK[:1])
    monkeypatch.setattr(device, "default_index", lambda kind: {"input": 0, "output": -1}[kind])
    device.print_devices()
    found = json.loads(capsys.readouterr().out)
    assert found["default"] == {"input": 0, "output": -1}
    assert (
        DeviceInfo(
            **found["devices"][0]
            | {k: tuple(found["devices"][0][k]) for k in ("low_latency_ms", "high_latency_ms")}
        )
        == RACK[0]
    )
