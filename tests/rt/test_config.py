"""stemrack.toml: what is read, what is refused and in which words, and the way back to text."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stemrack.models.stems import STEMS
from stemrack.rt.config import (
    Config,
    DeviceConfig,
    EngineConfig,
    FaderConfig,
    MixerConfig,
    OutputsConfig,
    config_text,
    load_config,
    parse_config,
    with_overrides,
)
from stemrack.rt.errors import ConfigError
from stemrack.rt.params import Fader
from stemrack.rt.recording import RecordSettings


def test_an_empty_file_is_the_default():
    assert parse_config("", "x.toml") == Config()


def test_values_reach_their_fields():
    config = parse_config(
        """
        [engine]
        profile = "live"
        threads = 1
        realtime = false
        [device]
        input = 3
        output = "USB Audio"
        rate_hz = 48000
        block_samples = 64
        latency = 0.01
        input_channels = [2]
        [outputs]
        main = []
        vocals = [7, 8]
        cue = [3]
        [mixer]
        ramp_ms = 20
        [mixer.bass]
        gain_db = "-inf"
        solo = true
        pan = -0.5
        [recording]
        folder = "takes"
        stems = true
        """,
        "x.toml",
    )
    assert config.engine == EngineConfig(threads=1, realtime=False)
    assert config.device == DeviceConfig(
        input=3, output="USB Audio", rate_hz=48_000, block_samples=64, latency=0.01, input_channels=(2,)
    )
    assert config.outputs.bus_channels == {"vocals": (6, 7), "cue": (2, 2)}
    assert config.outputs.n_channels == 8
    assert config.mixer.state.bass == Fader(gain_db=-math.inf, solo=True, pan=-0.5, ramp_ms=20.0)
    assert config.mixer.state.drums.ramp_ms == config.mixer.state.cue_ramp_ms == 20.0
    assert config.recording == RecordSettings(folder=Path("takes"), stems=True)


REFUSED = [
    ("[device]\nblock_samples = -3", "[device] block_samples = -3: must be 0 to 8192"),
    ("[device]\nblock_samples = 8193", "[device] block_samples = 8193: must be 0 to 8192"),
    ("[device]\nrate_hz = 7999", "[device] rate_hz = 7999: must be 8000 to 192000"),
    ("[device]\nrate_hz = 44100.5", "[device] rate_hz = 44100.5: must be a whole number"),
    ("[device]\ninput = true", "[device] input = True: must be text or a whole number"),
    ("[device]\noutput = -1", "[device] output = -1: must be 0 to 9999"),
    ("[device]\ninput = ' '", "[device] input = ' ': must be a device's name or number, default or none"),
    ("[device]\nlatency = 'swift'", "[device] latency = 'swift': must be 'low', 'high' or seconds"),
    ("[device]\nlatency = -0.1", "[device] latency = -0.1: must be 0 to 2"),
    ("[device]\nlatency = nan", "[device] latency = nan: must be 0 to 2"),
    ("[device]\nlatency = inf", "[device] latency = inf: must be 0 to 2"),
    (
        "[device]\ninput_channels = []",
        "[device] input_channels = []: must be one or two channels, counted from 1",
    ),
    ("[engine]\nthreads = 0", "[engine] threads = 0: must be 1 to 64"),
    ("[engine]\nallowance_samples = 65537", "[engine] allowance_samples = 65537: must be 0 to 65536"),
    ("[engine]\nrealtime = 1", "[engine] realtime = 1: must be true or false"),
    ("[outputs]\nmain = 3", "[outputs] main = 3: must be a list of channels"),
    ("[midi]\nports = '*'", "[midi] ports = '*': must be a list of texts"),
    ("[control]\nport = 70000", "[control] port = 70000: must be 0 to 65535"),
    ("[control]\ntls_key = 'k'", "[control] tls_certificate and tls_key: give both files, or none"),
    (
        "[control]\nhost = '0.0.0.0'\ntoken = false",
        "[control] token = false: only with a loopback host, not 0.0.0.0; anybody could steer",
    ),
    ("[outputs]\nmain = [true]", "[outputs] main = [True]: must be a list of channels"),
    ("[outputs]\ncue = [0, 1]", "[outputs] cue = [0, 1]: must be one or two channels, counted from 1"),
    ("[outputs]\ncue = [3, 4, 5]", "[outputs] cue = [3, 4, 5]: must be one or two channels, counted from 1"),
    ("[outputs]\ncue = [3, 2]", "[outputs] cue = [3, 2]: channel 2 is main's: choose others, or main = []"),
    ("[outputs]\nmain = []", "[outputs] main = []: at least one bus must have channels"),
    ("[mixer]\nceiling_db = 0.1", "[mixer] ceiling_db = 0.1: must be -60 to 0 dB of full scale"),
    ("[mixer]\nramp_ms = nan", "[mixer] ramp_ms = nan: must be 0 to 60000 ms"),
    ("[mixer.drums]\ngain_db = 12.5", "[mixer.drums] gain_db = 12.5: must be -inf to 12 dB"),
    ("[mixer.drums]\ngain_db = 'loud'", "[mixer.drums] gain_db = 'loud': must be a number"),
    ("[mixer.drums]\npan = 2", "[mixer.drums] pan = 2.0: must be -1 to 1 (left to right)"),
    ("[recording]\nsubtype = 'int8'", "[recording] subtype = 'int8': must be one of int16, int24, float32"),
    ("[recording]\nfolder = 3", "[recording] folder = 3: must be text"),
    ("[mixer]\ndrums = 3", "mixer.drums = 3: must be a table, [mixer.drums]"),
    ("engine = 3", "engine = 3: must be a table, [engine]"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_a_refusal_names_file_key_value_and_limit(text, said):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "my/stemrack.toml")
    assert str(caught.value) == f"my/stemrack.toml: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[device]\nblocksize = 3", "[device] has no key 'blocksize': it knows block_samples, file, input,"),
        ("[mixer.drums]\ngain = 3", "[mixer.drums] has no key 'gain': it knows gain_db, mute, pan, solo"),
        ("[mixer.cowbell]\nmute = true", "[mixer] has no key 'cowbell': it knows bass, ceiling_db,"),
        (
            "[speakers]",
            "there is no table 'speakers': it knows control, device, effects, engine, midi, mixer, outputs,",
        ),
        ("rate_hz = 48000", "there is no table 'rate_hz'"),
    ],
)
def test_unknown_keys_are_errors_that_list_the_known(text, said):
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "stemrack.toml")
    assert str(caught.value).startswith(f"stemrack.toml: {said}")


def test_the_command_line_is_checked_alike_and_named():
    config = with_overrides(
        Config(),
        {"device.output": "none", "device.rate_hz": None, "outputs.cue": (5, 6), "mixer.drums.pan": 1},
    )
    assert config == replace(
        Config(),
        device=DeviceConfig(output="none"),
        outputs=OutputsConfig(cue=(5, 6)),
        mixer=MixerConfig(drums=FaderConfig(pan=1.0)),
    )
    with pytest.raises(ConfigError) as caught:
        with_overrides(config, {"device.block_samples": -3})
    assert str(caught.value) == "command line: [device] block_samples = -3: must be 0 to 8192"
    assert config.device.block_samples == 0


def test_what_cannot_be_read_is_one_error(tmp_path):
    path = tmp_path / "stemrack.toml"
    with pytest.raises(ConfigError, match=r"stemrack\.toml: cannot be read \(No such file"):
        load_config(path)
    path.write_bytes(b'[device]\ninput = "\xff"\n')
    with pytest.raises(ConfigError, match=r"stemrack\.toml: is not text in UTF-8"):
        load_config(path)
    path.write_text("[device\n")
    with pytest.raises(ConfigError, match=r"stemrack\.toml is not TOML: .*line 1"):
        load_config(path)
    path.write_text('[engine]\nprofile = "höher"\n', encoding="utf-8")
    assert load_config(path).engine.profile == "höher"


def test_the_text_has_every_table_with_its_comment():
    lines = config_text(Config()).splitlines()
    heads = [line for line in lines if line.startswith("[")]
    stems = [f"[mixer.{stem}]" for stem in ("drums", "bass", "other", "vocals")]
    assert heads == [
        *("[engine]", "[device]", "[outputs]", "[mixer]"),
        *stems,
        *("[recording]", "[control]", "[midi]", "[effects]"),
    ]
    for head in heads:
        assert lines[lines.index(head) - 1].startswith("# ")


# TOML is UTF-8: half a surrogate pair is in no file.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
GAIN = st.just(-math.inf) | st.floats(-300.0, 12.0)
FADER = st.builds(FaderConfig, gain_db=GAIN, mute=st.booleans(), solo=st.booleans(), pan=st.floats(-1.0, 1.0))
DEVICE = TEXT.filter(str.strip) | st.integers(0, 9_999)


@example(
    engine=EngineConfig(profile='"\\\x7f\x00\n\t', weights="\U0001f941\u2028"),
    device=DeviceConfig(input="3", latency=0.0),
    mixer=MixerConfig(drums=FaderConfig(gain_db=-math.inf)),
    folder="a b",
)
@settings(deadline=None, max_examples=50)
@given(
    engine=st.builds(EngineConfig, profile=TEXT, weights=TEXT, threads=st.integers(1, 64)),
    device=st.builds(
        DeviceConfig,
        input=DEVICE,
        output=DEVICE,
        file=TEXT,
        latency=st.sampled_from(["low", "high"]) | st.floats(0.0, 2.0),
    ),
    mixer=st.builds(
        MixerConfig, master_db=GAIN, ramp_ms=st.floats(0.0, 2000.0), **dict.fromkeys(STEMS, FADER)
    ),
    folder=TEXT.filter(lambda text: "\0" not in text),
)
def test_text_and_back_is_the_same(engine, device, mixer, folder):
    recording = RecordSettings(folder=Path(folder), stems=True, container="wav", subtype="float32")
    outputs = OutputsConfig(main=(3,), cue=(1, 2))
    config = Config(engine=engine, device=device, outputs=outputs, mixer=mixer, recording=recording)
    assert parse_config(config_text(config), "x.toml") == config
