"""Sound files: what is read is what was written, and what cannot be is said in one line."""

import errno
import os
import subprocess

import numpy as np
import pytest
import soundfile

from stemrack.rt import ffmpeg
from stemrack.rt.disk import PartFile, check_free_space, make_folders, output_error, remove_part
from stemrack.rt.errors import ConfigError, InputError, OutputError
from stemrack.rt.files import WAV_LIMIT_BYTES, AudioSink, AudioSource, SinkFormat, _soundfile_options

RATE = 44_100
NEEDS_FFMPEG = pytest.mark.skipif(ffmpeg.shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def noise(n_channels=2, n=10_000, peak=0.5):
    return np.random.default_rng(5).uniform(-peak, peak, (n_channels, n)).astype(np.float32)


def read(path, n=4_096):
    with AudioSource(path) as source:
        x = np.concatenate(list(source.blocks(n)), axis=1)
        return x, source


def write_sink(path, x, rate=RATE, **kwargs):
    with AudioSink(path, rate, x.shape[0], x.shape[1], SinkFormat(**kwargs)) as sink:
        sink.write(x)
        sink.finish()
        sink.commit()


def leftovers(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "ogg", "mp3", "au", "w64"])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_libsndfile_formats_are_read_to_the_sample(tmp_path, suffix, n_channels):
    x = noise(n_channels)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, x.T, RATE)
    y, source = read(path)
    assert (source.rate_hz, source.n_channels, source.n_samples) == (RATE, n_channels, 10_000)
    assert source.seconds == 10_000 / RATE
    assert y.shape == x.shape
    if suffix not in ("ogg", "mp3"):
        assert np.abs(y - x).max() <= 1 / 32768


@NEEDS_FFMPEG
@pytest.mark.parametrize("suffix", ["m4a", "mp4", "mkv", "webm", "wma"])
def test_other_formats_come_through_ffmpeg(tmp_path, suffix):
    rate = 48_000
    t = np.arange(rate) / rate
    tone = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, tone], axis=1), rate)
    path = tmp_path / f"odd name; %d.{suffix}"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-b:a", "192k", f"file:{path}"], check=True
    )
    y, source = read(path)
    assert (source.rate_hz, source.n_channels, source.n_samples) == (rate, 2, None)
    assert source.seconds == pytest.approx(1.0, abs=0.1)
    assert y.shape[1] == pytest.approx(rate, abs=4_096)  # codecs pad to whole frames
    level = np.sqrt(np.mean(y[:, 10_000:30_000] ** 2))
    assert level == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


@NEEDS_FFMPEG
def test_a_cut_mp4_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(2, 200_000).T, RATE)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-movflags", "faststart"]
    subprocess.run([*command, tmp_path / "a.m4a"], check=True)
    data = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "cut.m4a").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut short|ffmpeg failed"):
        read(tmp_path / "cut.m4a")


def test_without_ffmpeg_the_error_says_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x18ftypM4A nothing")
    monkeypatch.setattr(ffmpeg.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"a\.m4a: .*install ffmpeg"):
        AudioSource(tmp_path / "a.m4a")


def _make_bad(folder, kind):
    path = folder / f"{kind}.wav"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("these are words\n" * 500)
    elif kind == "six":
        soundfile.write(path, np.zeros((100, 6), np.float32), RATE)
    elif kind == "no_samples":
        soundfile.write(path, np.zeros((0, 2), np.float32), RATE)
    elif kind == "no_channels":
        soundfile.write(path, np.zeros((100, 1), np.int16), RATE)
        data = bytearray(path.read_bytes())
        data[22:24] = b"\0\0"
        path.write_bytes(data)
    elif kind == "slow":
        soundfile.write(path, np.zeros((100, 2), np.float32), 100)
    elif kind == "nan":
        x = np.zeros((9_000, 2), np.float32)
        x[5_000, 1] = np.nan
        soundfile.write(path, x, RATE, subtype="FLOAT")
    elif kind == "cut_flac":
        soundfile.write(path, noise(2, 50_000).T, RATE, format="FLAC")
        path.write_bytes(path.read_bytes()[:60_000])
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder: name the files in it"),
        ("empty", "is empty"),
        ("text", "not a sound file|install ffmpeg"),
        ("six", "has 6 channels: mix it down"),
        ("no_samples", "holds no samples"),
        ("no_channels", "not a sound file|no usable|install ffmpeg|0 channels"),
        ("slow", "rate of 100 Hz: 4000 to 768000 Hz"),
        ("nan", "sample 5000 is NaN or infinite"),
        ("cut_flac", "cut short"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, kind, reason):
    path = _make_bad(tmp_path, kind)
    with pytest.raises(InputError, match=reason) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.file == path


def test_a_cut_mp3_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.mp3", noise(2, 100_000).T, RATE)
    data = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut short: \d+ of 100000 samples"):
        read(tmp_path / "cut.mp3")


def test_a_cut_wav_is_read_with_a_warning(tmp_path):
    """What a recorder leaves that lost power is worth having; that it is not whole is said."""
    x = noise()
    soundfile.write(tmp_path / "a.wav", x.T, RATE, subtype="FLOAT")
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) - 8_000])
    y, source = read(tmp_path / "cut.wav")
    np.testing.assert_array_equal(y, x[:, :9_000])
    assert source.warnings == ["cut short: 72000 of 80000 promised bytes are there"]


@pytest.mark.parametrize("subtype", ["int16", "int24", "float32"])
def test_wav_keeps_what_is_written(tmp_path, subtype):
    x = noise(peak=1.0)
    if subtype == "float32":
        out = wanted = x * 3
    elif subtype == "int16":
        out = (x * 32767).astype(np.int16)
        wanted = out / 32768
    else:
        out = (x * 8388607).astype(np.int32) << 8
        wanted = (out >> 8) / 8388608
    write_sink(tmp_path / "new" / "deep" / "a.wav", out, subtype=subtype)
    y, _ = read(tmp_path / "new" / "deep" / "a.wav")
    np.testing.assert_array_equal(y, wanted.astype(np.float32))
    assert leftovers(tmp_path) == ["new", "new/deep", "new/deep/a.wav"]


def test_flac_keeps_24_bits(tmp_path):
    out = (noise() * 8388607).astype(np.int32) << 8
    write_sink(tmp_path / "a.flac", out, container="flac", subtype="int24")
    y, _ = read(tmp_path / "a.flac")
    np.testing.assert_array_equal(y, ((out >> 8) / 8388608).astype(np.float32))


@pytest.mark.parametrize("kbps", [64, 128, 192, 320])
def test_mp3_has_the_length_and_the_bit_rate(tmp_path, kbps):
    x = noise(2, 10 * RATE, peak=0.3)
    write_sink(tmp_path / "a.mp3", x, container="mp3", mp3_kbps=kbps)
    y, _ = read(tmp_path / "a.mp3")
    assert y.shape == x.shape
    size = (tmp_path / "a.mp3").stat().st_size
    assert size * 8 / 10 / 1000 == pytest.approx(kbps, rel=0.01)


def test_formats_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="flac holds integers only"):
        SinkFormat(container="flac", subtype="float32")
    with pytest.raises(ConfigError, match="mp3 has no sample size"):
        SinkFormat(container="mp3", subtype="int24")
    with pytest.raises(ConfigError, match="999 kbit/s"):
        SinkFormat(container="mp3", mp3_kbps=999)
    with pytest.raises(OutputError, match="mp3 cannot hold 96000 Hz"):
        AudioSink(tmp_path / "a.mp3", 96_000, 2, 10, SinkFormat(container="mp3"))
    with pytest.raises(OutputError, match="flac cannot hold 2 channels at 700000 Hz"):
        AudioSink(tmp_path / "x" / "a.flac", 700_000, 2, 10, SinkFormat(container="flac"))
    assert leftovers(tmp_path) == []


def test_four_gigabytes_turn_wav_into_rf64(tmp_path):
    n = WAV_LIMIT_BYTES // 8
    float32 = SinkFormat(subtype="float32")
    assert _soundfile_options(float32, RATE, 2, n)["format"] == "WAV"
    assert _soundfile_options(float32, RATE, 2, n + 1)["format"] == "RF64"
    assert _soundfile_options(float32, RATE, 2, None)["format"] == "RF64"
    x = noise()
    with AudioSink(tmp_path / "a.wav", RATE, 2, None, float32) as sink:
        sink.write(x)
        sink.finish()
        sink.commit()
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64"
    np.testing.assert_array_equal(read(tmp_path / "a.wav")[0], x)


def test_a_sink_that_is_given_up_leaves_nothing(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"older")
    with AudioSink(tmp_path / "a.wav", RATE, 2, 10, SinkFormat()) as sink:
        sink.write(noise(2, 10))
        assert (tmp_path / "a.wav.part").exists()
    with AudioSink(tmp_path / "b" / "c.wav", RATE, 2, 10, SinkFormat()) as sink:
        sink.write(noise(2, 10))
    assert leftovers(tmp_path) == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"older"


@pytest.mark.parametrize("container", ["wav", "flac", "mp3"])
def test_a_full_disk_is_said_with_the_remedy(tmp_path, container, monkeypatch):
    """The 100 000th byte finds the disk full; libsndfile itself would have lost the reason."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real = PartFile.write

    def write(self, data):
        if self.error is None and self.tell() + len(data) > 100_000:
            self.error = full
        return real(self, data)

    monkeypatch.setattr(PartFile, "write", write)
    with pytest.raises(OutputError, match=r"the disk is full: .* -o"):
        write_sink(tmp_path / "a.x", noise(2, 400_000), container=container)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [("file/below/a.wav", "a part of the path is a file"), ("folder", "a folder of this name is in the way")],
)
def test_a_target_that_cannot_be_is_refused(tmp_path, path, reason):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    before = leftovers(tmp_path)
    with pytest.raises(OutputError, match=reason):
        AudioSink(tmp_path / path, RATE, 2, 10, SinkFormat())
    assert leftovers(tmp_path) == before


def test_folders_made_are_known_and_removed_only_when_empty(tmp_path):
    made = make_folders(tmp_path / "a" / "b")
    assert made == [tmp_path / "a", tmp_path / "a" / "b"]
    assert make_folders(tmp_path / "a" / "b") == []
    (tmp_path / "a" / "b" / "x.wav.part").touch()
    (tmp_path / "a" / "other").touch()
    remove_part(tmp_path / "a" / "b" / "x.wav")
    assert leftovers(tmp_path) == ["a", "a/other"]


def test_too_little_space_is_refused_before_the_work(tmp_path):
    check_free_space(tmp_path / "not" / "there", 1)
    with pytest.raises(OutputError, match=r"needs 1000000000000\.0 MB, the disk has .* MB left: free some"):
        check_free_space(tmp_path, 10**18)


def test_an_unknown_refusal_keeps_the_systems_words(tmp_path):
    text = str(output_error(tmp_path, OSError(errno.EIO, os.strerror(errno.EIO))))
    assert text == f"{tmp_path}: could not be written ({os.strerror(errno.EIO)})"
