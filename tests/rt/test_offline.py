"""Rendering one file: its length, rate and channels kept, stems that sum, nothing half-written."""

import subprocess

import numpy as np
import pytest
import soundfile
from fake_separator import FakeSeparator

from stemrack.models.stems import STEMS
from stemrack.rt.app_effects import effects_of
from stemrack.rt.chains import Chains, insert_of
from stemrack.rt.config import Config
from stemrack.rt.effect_builtin import BUILT_IN
from stemrack.rt.errors import ConfigError, EffectError, InputError, OutputError
from stemrack.rt.files import SinkFormat
from stemrack.rt.offline import RenderSettings, render_file
from stemrack.rt.preset_sound import PresetSound, sound_of
from stemrack.rt.presets import shipped_presets

FLOAT32 = SinkFormat(subtype="float32")
MINUS_110_DBFS = 10 ** (-110 / 20)


def targets_in(folder, settings, ext="wav"):
    return {name: folder / f"{name}.{ext}" for name in settings.names}


def song(path, n=30_000, rate=44_100, n_channels=2, peak=0.4, subtype="PCM_16"):
    x = np.random.default_rng(11).uniform(-peak, peak, (n, n_channels))
    soundfile.write(path, x, rate, subtype=subtype)
    return path


def render_song(path, folder, settings, separator=None, ext="wav"):
    report = render_file(path, targets_in(folder, settings, ext), separator or FakeSeparator(), settings)
    stems = [soundfile.read(report.targets[name], always_2d=True)[0] for name in settings.names]
    return report, np.stack(stems)


def leftovers(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_float32_stems_sum_to_the_file(tmp_path, rate, n_channels):
    for n in [1, 511, 1_024, 8_193]:
        path = song(tmp_path / "a.wav", n, rate, n_channels, subtype="FLOAT", peak=1.0)
        report, stems = render_song(path, tmp_path / "out", RenderSettings(sink_format=FLOAT32))
        x = soundfile.read(path, always_2d=True)[0]
        assert stems.shape == (4, n, n_channels)
        assert (report.n_samples, report.rate_hz, report.n_channels) == (n, rate, n_channels)
        assert soundfile.info(report.targets["bass"]).samplerate == rate
        assert np.abs(stems.sum(axis=0) - x).max() < MINUS_110_DBFS
        assert set(report.gains_db.values()) == {0.0}


@pytest.mark.parametrize("container", ["wav", "flac"])
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_16_bit_stems_sum_to_a_16_bit_file_bit_for_bit(tmp_path, container, rate):
    path = song(tmp_path / "a.wav", rate=rate)
    settings = RenderSettings(sink_format=SinkFormat(container=container))
    report, _ = render_song(path, tmp_path / "out", settings, ext=container)
    x = soundfile.read(path, dtype="int16")[0].astype(np.int64)
    stems = [soundfile.read(report.targets[name], dtype="int16")[0].astype(np.int64) for name in STEMS]
    np.testing.assert_array_equal(sum(stems), x)
    assert report.n_saturated == 0


@pytest.mark.parametrize("bits", [16, 24])
def test_loud_stems_are_turned_down_together(tmp_path, bits):
    path = song(tmp_path / "a.wav", peak=0.99)
    settings = RenderSettings(sink_format=SinkFormat(subtype=f"int{bits}"))
    report, stems = render_song(path, tmp_path / "out", settings, FakeSeparator(gain=3.0))
    x = soundfile.read(path)[0]
    gain_db = report.gains_db["drums"]
    assert set(report.gains_db.values()) == {gain_db}
    assert gain_db == pytest.approx(-max(report.peaks_db.values()), abs=1e-3)
    assert gain_db < -6
    assert np.abs(stems).max() > 0.999
    # half a step, and the rounding of float32 stems that reach beyond 4
    assert np.abs(stems.sum(axis=0) - 10 ** (gain_db / 20) * x).max() <= 0.51 * 2 ** (1 - bits) + 1e-7


def test_clip_modes(tmp_path):
    path = song(tmp_path / "a.wav", peak=0.99)
    x = soundfile.read(path)[0]

    def rendered(mode, sink_format):
        settings = RenderSettings(sink_format=sink_format, clip_mode=mode)
        return render_song(path, tmp_path / mode, settings, FakeSeparator(gain=3.0))

    report, exact = rendered("none", FLOAT32)
    assert np.abs(exact).max() > 2
    assert np.abs(exact.sum(axis=0) - x).max() < MINUS_110_DBFS
    peak_db = report.peaks_db["other"]
    assert 10 ** (peak_db / 20) == pytest.approx(np.abs(exact[2]).max(), rel=1e-6)
    _, clamped = rendered("clamp", FLOAT32)
    np.testing.assert_array_equal(clamped, np.clip(exact, -1, 1))
    report, saturated = rendered("none", SinkFormat())
    n_over = np.count_nonzero((exact > 32767.5 / 32768) | (exact < -1))
    assert report.n_saturated == pytest.approx(n_over, rel=0.02)
    assert np.abs(saturated - np.clip(exact, -1, 1)).max() < 1.1 / 32768
    report, rescaled = rendered("rescale", SinkFormat())
    assert report.gains_db["other"] == pytest.approx(-peak_db, abs=1e-3)
    assert report.gains_db["drums"] > report.gains_db["other"]
    assert np.abs(rescaled[2]).max() > 0.999


def test_two_stems(tmp_path):
    path = song(tmp_path / "a.wav", subtype="FLOAT")
    _, four = render_song(path, tmp_path / "four", RenderSettings(sink_format=FLOAT32))
    settings = RenderSettings(sink_format=FLOAT32, two_stems="vocals")
    report, two = render_song(path, tmp_path / "two", settings)
    assert leftovers(tmp_path / "two") == ["no_vocals.wav", "vocals.wav"]
    assert list(report.targets) == ["vocals", "no_vocals"]
    np.testing.assert_array_equal(two[0], four[3])
    np.testing.assert_allclose(two[1], four[:3].sum(axis=0), atol=1e-6)
    settings = RenderSettings(two_stems="bass")
    report, _ = render_song(song(tmp_path / "b.wav"), tmp_path / "two", settings)
    both = [soundfile.read(target, dtype="int16")[0].astype(np.int64) for target in report.targets.values()]
    np.testing.assert_array_equal(sum(both), soundfile.read(tmp_path / "b.wav", dtype="int16")[0])


def test_live_and_fast_files_agree(tmp_path):
    path = song(tmp_path / "a.wav", 60_001, 48_000, subtype="FLOAT")
    _, fast = render_song(path, tmp_path / "fast", RenderSettings(sink_format=FLOAT32))
    _, live = render_song(path, tmp_path / "live", RenderSettings(sink_format=FLOAT32, live=True))
    assert np.abs(fast - live).max() < 1e-4


def shipped(name):
    effects = effects_of(Config())
    return sound_of(shipped_presets(effects.table)[name], effects.table, effects.impulses)


def chain(effect, **values):
    return (insert_of(BUILT_IN, {"effect": effect, **BUILT_IN[effect].neutral, **values}),)


def rendered_with(sound, path, folder, **more):
    settings = RenderSettings(sink_format=FLOAT32, sound=sound, **more)
    report, stems = render_song(path, folder, settings)
    return report, dict(zip(settings.names, stems, strict=True))


@pytest.mark.parametrize("sink_format", [SinkFormat(), FLOAT32])
def test_a_preset_that_does_nothing_changes_no_bit(tmp_path, sink_format):
    path = song(tmp_path / "a.wav", 48_000, 48_000)
    for sound in (PresetSound(), PresetSound(chains=Chains(bass=chain("gain")))):
        files = []
        for folder, given in (("with", sound), ("without", None)):
            report, _ = render_song(
                path, tmp_path / folder, RenderSettings(sink_format=sink_format, sound=given)
            )
            files.append([target.read_bytes() for target in report.targets.values()])
        assert files[0] == files[1]


@pytest.mark.parametrize(("rate", "n_channels"), [(44_100, 2), (48_000, 1), (22_050, 2)])
def test_latent_effects_leave_stems_in_time_and_as_long(tmp_path, rate, n_channels):
    path = song(tmp_path / "a.wav", 20_001, rate, n_channels, subtype="FLOAT")
    sound = PresetSound(chains=Chains(drums=chain("brickwall_limiter"), other=chain("gain", gain_db=-6.0)))
    _, dry = rendered_with(None, path, tmp_path / "dry")
    report, wet = rendered_with(sound, path, tmp_path / "wet")
    assert (report.n_samples, report.rate_hz, report.n_channels) == (20_001, rate, n_channels)
    assert wet["drums"].shape == dry["drums"].shape
    np.testing.assert_allclose(wet["drums"], dry["drums"], atol=1e-6)
    np.testing.assert_allclose(wet["other"], 10 ** (-6 / 20) * dry["other"], atol=1e-6)
    for stem in ("bass", "vocals"):
        np.testing.assert_array_equal(wet[stem], dry[stem])


@pytest.mark.parametrize("name", ["acapella-room", "monitor-safe"])
def test_live_and_fast_files_agree_behind_effects(tmp_path, name):
    path = song(tmp_path / "a.wav", 60_001, 48_000, subtype="FLOAT")
    _, fast = rendered_with(shipped(name), path, tmp_path / "fast")
    _, live = rendered_with(shipped(name), path, tmp_path / "live", live=True)
    for stem, samples in fast.items():
        assert np.abs(samples - live[stem]).max() < 1e-4
    assert np.abs(fast["vocals"]).max() > 0.01


def test_karaoke_and_its_mix(tmp_path):
    path = song(tmp_path / "a.wav", subtype="FLOAT")
    _, dry = rendered_with(None, path, tmp_path / "dry", with_mix=True)
    x = soundfile.read(path, always_2d=True)[0]
    assert np.abs(dry["mix"] - x).max() < MINUS_110_DBFS
    report, wet = rendered_with(shipped("karaoke"), path, tmp_path / "wet", with_mix=True)
    assert leftovers(tmp_path / "wet") == sorted(f"{name}.wav" for name in (*STEMS, "mix"))
    assert report.targets["mix"] == tmp_path / "wet" / "mix.wav"
    np.testing.assert_allclose(wet["vocals"], 10 ** (-24 / 20) * dry["vocals"], atol=1e-7)
    np.testing.assert_array_equal(wet["drums"], dry["drums"])
    assert 0.4 < wet["other"].std() / dry["other"].std() < 0.95
    np.testing.assert_allclose(wet["mix"], sum(wet[stem] for stem in STEMS), atol=1e-6)
    _, two = rendered_with(shipped("karaoke"), path, tmp_path / "two", with_mix=True, two_stems="vocals")
    assert list(two) == ["vocals", "no_vocals", "mix"]
    np.testing.assert_array_equal(two["mix"], wet["mix"])
    np.testing.assert_allclose(two["no_vocals"], wet["mix"] - wet["vocals"], atol=1e-6)


@pytest.mark.parametrize("mode", ["attenuate", "none"])
def test_the_mix_in_16_bits_is_the_sum_of_its_stems(tmp_path, mode):
    path = song(tmp_path / "a.wav")
    settings = RenderSettings(clip_mode=mode, with_mix=True, sound=shipped("dj-wash-out"))
    report, _ = render_song(path, tmp_path / "out", settings)
    whole = {n: soundfile.read(t, dtype="int16")[0].astype(np.int64) for n, t in report.targets.items()}
    assert len(set(report.gains_db.values())) == 1
    assert report.n_saturated == 0
    assert np.abs(sum(whole[stem] for stem in STEMS) - whole["mix"]).max() <= 1


def test_an_effect_that_cannot_work_leaves_nothing(tmp_path):
    path = song(tmp_path / "a.wav", rate=8_000)
    sound = PresetSound(chains=Chains(bass=chain("lowpass_filter", cutoff_frequency_hz=4_001.0)))
    settings = RenderSettings(sound=sound)
    with pytest.raises(EffectError, match="bass/lowpass_filter: cutoff_frequency_hz = 4001 is above half"):
        render_file(path, targets_in(tmp_path / "new", settings), FakeSeparator(), settings)
    assert leftovers(tmp_path) == ["a.wav"]


def test_the_report_tells_time_and_level(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((88_200, 2)), 44_100)
    seconds = []
    settings = RenderSettings()
    report = render_file(path, targets_in(tmp_path, settings), FakeSeparator(), settings, seconds.append)
    assert report.audio_s == 2.0
    assert report.times_real_time == pytest.approx(2.0 / report.taken_s)
    assert set(report.peaks_db.values()) == {-np.inf}
    assert sum(seconds) == pytest.approx(2.0)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="no stem 'guitar': choose one of drums, bass, other, vocals"):
        RenderSettings(two_stems="guitar")
    with pytest.raises(ConfigError, match="no clip mode 'loud'"):
        RenderSettings(clip_mode="loud")


@pytest.mark.parametrize("sink_format", [SinkFormat(), FLOAT32])
def test_input_that_breaks_in_the_middle_leaves_nothing(tmp_path, sink_format):
    x = np.zeros((400_000, 2), np.float32)
    x[399_000] = np.inf
    soundfile.write(tmp_path / "a.wav", x, 44_100, subtype="FLOAT")
    settings = RenderSettings(sink_format=sink_format)
    with pytest.raises(InputError, match="sample 399000 is NaN or infinite"):
        render_file(tmp_path / "a.wav", targets_in(tmp_path / "new", settings), FakeSeparator(), settings)
    assert leftovers(tmp_path) == ["a.wav"]


def test_the_input_is_never_overwritten(tmp_path):
    path = song(tmp_path / "drums.wav")
    before = path.read_bytes()
    settings = RenderSettings()
    with pytest.raises(OutputError, match="is the input itself"):
        render_file(path, targets_in(tmp_path, settings), FakeSeparator(), settings)
    assert path.read_bytes() == before
    assert leftovers(tmp_path) == ["drums.wav"]


@pytest.mark.parametrize("settings", [RenderSettings(), RenderSettings(sink_format=FLOAT32)])
def test_a_disk_that_is_too_small_is_found_out_first(tmp_path, small_disk, settings):
    path = song(tmp_path / "a.wav")
    with pytest.raises(OutputError, match=r"needs .* MB, the disk has 0\.3 MB left"):
        render_file(path, targets_in(small_disk / "new", settings), FakeSeparator(), settings)
    assert leftovers(small_disk) == []


@pytest.mark.parametrize("settings", [RenderSettings(), RenderSettings(sink_format=FLOAT32)])
def test_a_disk_that_fills_up_leaves_nothing(tmp_path, small_disk, settings, monkeypatch):
    """As when another program takes the space meanwhile: the estimate was fine."""
    monkeypatch.setattr("stemrack.rt.offline.check_free_space", lambda folder, n_bytes: None)
    path = song(tmp_path / "a.wav")
    with pytest.raises(OutputError, match="the disk is full: free some space"):
        render_file(path, targets_in(small_disk / "new", settings), FakeSeparator(), settings)
    assert leftovers(small_disk) == []
    assert leftovers(tmp_path / "disk") == []


def test_a_read_only_disk_is_said(tmp_path, small_disk):
    path = song(tmp_path / "a.wav", 100)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    settings = RenderSettings()
    with pytest.raises(OutputError, match="the file system is read-only: choose another folder with -o"):
        render_file(path, targets_in(small_disk / "new", settings), FakeSeparator(), settings)
    with pytest.raises(OutputError, match="the file system is read-only"):
        render_file(path, targets_in(small_disk, settings), FakeSeparator(), settings)


def test_a_rename_that_fails_takes_the_others_back(tmp_path, monkeypatch):
    path = song(tmp_path / "a.wav", 100)
    settings = RenderSettings()
    targets = targets_in(tmp_path / "new", settings)
    from stemrack.rt.files import AudioSink

    commit = AudioSink.commit

    def refuse(self):
        if self.target == targets["other"]:
            raise OutputError(self.target, "could not be written")
        commit(self)

    monkeypatch.setattr(AudioSink, "commit", refuse)
    with pytest.raises(OutputError):
        render_file(path, targets, FakeSeparator(), settings)
    assert leftovers(tmp_path) == ["a.wav"]
