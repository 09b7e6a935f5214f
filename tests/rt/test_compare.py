"""`stemrack compare` and `train blend` with separators whose errors are known, and once with a real one."""

import csv
import json
import math

import numpy as np
import pytest
import signals
import soundfile
import torch
from small_profile import write_small_profile

from stemrack.models.bundles import load_network
from stemrack.models.danna import Ensemble
from stemrack.models.stems import MODEL_RATE_HZ, STEMS
from stemrack.models.train.shards import write_shard
from stemrack.rt import app_compare
from stemrack.rt.app_compare import blend_command, compare_command, fit_profile, print_fitted
from stemrack.rt.compare import (
    ablations_of,
    checked_songs,
    compare,
    systems_of,
    whole_answer,
    without_consistency,
)
from stemrack.rt.compare_report import facts, print_comparison, write_csv
from stemrack.rt.errors import ConfigError, InputError, OutputError
from stemrack.rt.evaluate import find_multitracks, piped
from stemrack.rt.separate import Ablation, load_separator

SECONDS = 12
N = SECONDS * MODEL_RATE_HZ
THREE = """
name = "three"
fast = ["unet", "demucs"]
[windows]
analysis_samples = 1024
synthesis_samples = 256
hop = 128
[bands]
share = 0.05
top_bin = 372
[xumx]
hidden = 12
weights = "x"
[unet]
weights = "u"
[demucs]
channels = 4
depth = 3
look_ahead_samples = 64
weights = "d"
[wiener]
forget_s = 0.5
"""
A_DEAF = 0.5


class Sides:
    """Drums are left, vocals are right; a share `a` of each goes to the other: half in the first second.

    The error of each stem is then `a` times both sides: an SDR of -10 lg(2 a^2) where sides are alike.
    """

    hop, latency_samples = 512, 512

    def __init__(self, a, scale=1.0):
        self.a, self.scale = a, scale

    def init_state(self):
        return {"past": np.zeros((2, self.latency_samples), np.float32), "at": -self.latency_samples}

    def run(self, x, state):
        heard = np.concatenate([state["past"], x], axis=1)
        state["past"] = heard[:, x.shape[1] :].copy()
        late = heard[:, : x.shape[1]] * np.float32(self.scale)
        at = np.arange(state["at"], state["at"] + x.shape[1])
        a = np.where(at < MODEL_RATE_HZ, A_DEAF, self.a).astype(np.float32)
        state["at"] += x.shape[1]
        stems = np.zeros((4, *x.shape), np.float32)
        stems[0] = late * np.stack([1 - a, a])
        stems[3] = late * np.stack([a, 1 - a])
        return stems, state

    step = run


def sdr_db(a):
    return -10 * math.log10(2 * a * a)


A = {"xumx": 0.2, "unet": 0.15, "demucs": 0.1, "unet+demucs": 0.05, "": 0.02}


class Loader:
    """Makes `Sides` whose error says what was asked for; remembers that."""

    def __init__(self):
        self.asked = []

    def __call__(self, profile, runner, weights, *, ablation=None):
        selection = profile.partition(":")[2]
        self.asked.append((selection, runner, ablation))
        a = A[selection]
        if ablation is not None:
            a = 0.3 if not ablation.wiener else 0.02 + 0.01 * ablation.forget_s
        if runner == "onnx-cpu":
            a = 0.01
        return Sides(a, scale=0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two songs of 12 s: drums left and vocals right, alike in level in every second; one without vocals."""
    folder = tmp_path_factory.mktemp("songs")
    noise = np.sign(np.random.default_rng(5).standard_normal(N)).astype(np.float32)
    for name, stems in (("both", ("drums", "vocals")), ("drums", ("drums",))):
        (folder / name).mkdir()
        for stem in stems:
            x = np.zeros((2, N), np.float32)
            x[0 if stem == "drums" else 1] = 0.1 * (noise if stem == "drums" else np.roll(noise, 999))
            soundfile.write(folder / name / f"{stem}.wav", x.T, MODEL_RATE_HZ, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def toml(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "three.toml"
    path.write_text(THREE)
    return str(path)


@pytest.fixture(scope="module")
def found(folder, toml):
    songs = find_multitracks(folder)[:1]
    return compare(songs, [toml], load=Loader(), ablate=True)


class TestRows:
    def test_each_network_fast_and_the_whole(self, toml):
        load = Loader()
        systems = systems_of(toml, None, "auto", load)
        assert [s.name for s in systems] == ["xumx", "unet", "demucs", "fast", "blend"]
        assert load.asked == []  # nothing is loaded before its turn
        for system in systems:
            system.separate()
        assert [asked[0] for asked in load.asked] == ["xumx", "unet", "demucs", "unet+demucs", ""]

    def test_a_profile_of_one_or_two_networks_has_no_row_twice(self, toml):
        assert [s.name for s in systems_of(f"{toml}:xumx", None, "auto", Loader())] == ["xumx"]
        two = systems_of(f"{toml}:unet+demucs", None, "auto", Loader())
        assert [s.name for s in two] == ["unet", "demucs", "blend"]

    def test_one_file_cannot_be_the_weights_of_three_networks(self, toml, tmp_path):
        with pytest.raises(ConfigError, match="needs a folder"):
            systems_of(toml, tmp_path / "x.safetensors", "auto", Loader())

    def test_scores_are_those_of_the_known_errors(self, found):
        # the separator says 0.9 of it; consistency gives each stem a quarter of what is missing
        rows = {row.system: row.mean.sdr_db for row in found.rows}
        assert list(rows) == ["xumx", "unet", "demucs", "fast", "blend", "mixture", "oracle"]
        for system, selection in (("xumx", "xumx"), ("fast", "unet+demucs"), ("blend", "")):
            a = A[selection]
            assert rows[system][0] == pytest.approx(expected_db(a), abs=0.02)
            assert rows[system][1:3] == (None, None)
        assert rows["mixture"][0] == pytest.approx(0.0, abs=0.01)
        assert rows["oracle"][0] > 20

    def test_the_state_is_carried_through_the_song_and_fresh_for_the_next(self, folder):
        songs = find_multitracks(folder)
        both = compare(songs, ["live"], load=lambda *_, **__: Sides(0.1))
        first, second = both.rows[0].songs
        assert [s.score.song for s in (first, second)] == ["both", "drums"]
        power = (A_DEAF**2 + (SECONDS - 1) * 0.1**2) / SECONDS
        assert second.score.stems[0].sdr_db == pytest.approx(-10 * math.log10(power), abs=0.01)
        assert second.score.stems[3].leakage_db == pytest.approx(10 * math.log10(power), abs=0.01)


def expected_db(a, scale=0.9, quarter=0.25):
    """Return the SDR of the drums in a whole song of `Sides(a, scale)`."""

    def power(a):
        rest = quarter * (1 - scale)
        return (1 - scale * (1 - a) - rest) ** 2 + (scale * a + rest) ** 2

    return -10 * math.log10((power(A_DEAF) + (SECONDS - 1) * power(a)) / SECONDS)


class TestCloser:
    def test_sdr_rises_a_second_after_the_reset(self, folder):
        songs = find_multitracks(folder)[:1]
        found = compare(songs, ["live"], load=lambda *_, **__: Sides(0.1))
        since = found.since_reset["live"]
        assert since.n_restarts == 3
        expected = [sdr_db(A_DEAF), *[sdr_db(0.1)] * 3]
        for stem in (0, 3):
            np.testing.assert_allclose(since.sdr_db[:4, stem], expected, atol=0.05)
            loss_db = sdr_db(A_DEAF) - sdr_db(0.1)
            np.testing.assert_allclose(since.gain_db[:4, stem], [loss_db, 0, 0, 0], atol=0.05)
        assert np.isnan(since.sdr_db[4:]).all()  # the song has no 4 s more than 8 s after any restart
        assert np.isnan(since.sdr_db[:, 1:3]).all()

    def test_leakage_is_the_level_of_what_is_not_there(self, folder):
        found = compare(find_multitracks(folder), ["live"], load=lambda *_, **__: Sides(0.1))
        instrumental, vocals = found.leakage["live"]  # of the song that has both
        assert (instrumental.song, instrumental.heard, vocals.heard) == ("both", "instrumental", "vocals")
        level = 20 * math.log10(0.1) - 10 * math.log10(2)  # one side of two sounds
        assert instrumental.level_dbfs == pytest.approx(level, abs=0.01)
        power = (A_DEAF**2 + (SECONDS - 1) * 0.1**2) / SECONDS
        assert instrumental.leaks_dbfs == {"vocals": pytest.approx(level + 10 * math.log10(power), abs=0.01)}
        assert vocals.leaks_dbfs["drums"] == pytest.approx(level + 10 * math.log10(power), abs=0.01)
        assert vocals.leaks_dbfs["bass"] < -130  # nothing but what rounding leaves for consistency
        assert set(vocals.leaks_dbfs) == {"drums", "bass", "other"}


class TestAblations:
    def test_what_is_changed(self, toml):
        load = Loader()
        systems = ablations_of(toml, None, "auto", load)
        for system in systems:
            system.separate()
        assert [s.name for s in systems] == [
            "no Wiener filter",
            "forgetting time 1 s",  # 0.5 s is the profile's own
            "forgetting time 2 s",
            "forgetting time 4 s",
            "no int8",
            "no consistency",
        ]
        assert load.asked == [
            ("", "auto", Ablation(wiener=False)),
            ("", "auto", Ablation(forget_s=1.0)),
            ("", "auto", Ablation(forget_s=2.0)),
            ("", "auto", Ablation(forget_s=4.0)),
            ("", "onnx-cpu", None),
            ("", "auto", None),
        ]

    def test_what_a_profile_cannot_change_is_left_out(self, toml):
        of_samples = ablations_of(f"{toml}:demucs", None, "auto", Loader())
        assert [s.name for s in of_samples] == ["no consistency"]
        names = [s.name for s in ablations_of(f"{toml}:xumx", None, "onnx-cpu", Loader())]
        assert "int8" in names
        assert "no int8" not in names

    def test_scores(self, found, toml):
        rows = {row.system: row.mean.sdr_db[0] for row in found.ablations[toml]}
        assert next(iter(rows)) == "blend"
        assert list(rows)[-1] == "fast"
        assert rows["no Wiener filter"] == pytest.approx(expected_db(0.3), abs=0.02)
        assert rows["forgetting time 2 s"] == pytest.approx(expected_db(0.04), abs=0.02)
        assert rows["no int8"] == pytest.approx(expected_db(0.01), abs=0.02)
        assert rows["no consistency"] == pytest.approx(expected_db(0.02, quarter=0.0), abs=0.02)

    def test_without_consistency_every_sample_is_there_in_its_place(self):
        rng = np.random.default_rng(2)
        for n in (100, 512, 5000, 6 * MODEL_RATE_HZ + 17):
            x = rng.standard_normal((2, n)).astype(np.float32)
            bare = np.concatenate(list(without_consistency(Sides(0.1))(x, MODEL_RATE_HZ)), axis=-1)
            assert bare.shape == (4, 2, n)
            projected = np.concatenate(list(piped(Sides(0.1))(x, MODEL_RATE_HZ)), axis=-1)
            np.testing.assert_allclose(bare, projected, atol=1e-6)  # they sum to the mixture as they are

    def test_songs_that_consistency_cannot_be_left_out_of_are_refused_first(self, tmp_path):
        (tmp_path / "a").mkdir()
        soundfile.write(tmp_path / "a" / "drums.wav", np.zeros((800, 2)), 8000)
        assert len(checked_songs(tmp_path, None, ablate=False)) == 1
        with pytest.raises(InputError, match="--ablate"):
            checked_songs(tmp_path, None, ablate=True)
        with pytest.raises(ValueError, match="stereo"):
            list(without_consistency(Sides(0.1))(np.zeros((2, 800), np.float32), 8000))


class TestReports:
    def test_json_holds_all_and_no_nan(self, found, toml):
        told = json.loads(json.dumps(facts(found, {"runner": "auto"}), allow_nan=False))
        assert told["runner"] == "auto"
        assert [row["system"] for row in told["rows"]][-2:] == ["mixture", "oracle"]
        (song,) = told["rows"][0]["songs"]
        assert song["stems"]["drums"]["sdr_db"] == pytest.approx(expected_db(0.2), abs=0.02)
        assert told["since_reset"][toml]["sdr_db"]["bass"] == [None] * 6
        assert told["leakage_dbfs"][toml][0]["heard"] == "instrumental"
        assert len(told["ablations"][toml]) == 8

    def test_csv_has_a_line_a_system_and_stem(self, found, toml, tmp_path):
        write_csv(tmp_path / "new" / "all.csv", found)
        rows = list(csv.DictReader((tmp_path / "new" / "all.csv").open()))
        assert len(rows) == 4 * (7 + 6)  # blend and fast stand in both tables, and once here
        line = next(r for r in rows if (r["system"], r["stem"]) == ("fast", "drums"))
        assert float(line["sdr_db"]) == pytest.approx(expected_db(0.05), abs=0.02)
        (tmp_path / "full").write_text("")
        with pytest.raises(OutputError, match="another place"):
            write_csv(tmp_path / "full" / "all.csv", found)

    def test_tables(self, found, capsys):
        print_comparison(found)
        said = " ".join(capsys.readouterr().out.split())
        assert "Global SDR in dB, mean of 1 songs" in said
        assert f"{found.rows[4].mean.sdr_db[0]:.2f}" in said
        assert "since a reset, mean of 3 restarts" in said
        difference = found.ablations[next(iter(found.ablations))][1].mean.mean_sdr_db
        assert f"{difference - found.rows[4].mean.mean_sdr_db:+.2f}" in said


class TestRealSeparator:
    def test_without_the_wiener_filter_the_masks_are_gains(self, tmp_path):
        profile, toml, weights = write_small_profile(tmp_path)
        x = signals.noise(128 * 60, 1, 0.05) * np.array([[1.0], [0.3]], np.float32)
        x[:, ::1500] += 0.4
        filtered, bare = (
            whole_answer(load_separator(str(toml), "torch-cpu", weights, ablation=ablation))(x)
            for ablation in (None, Ablation(wiener=False))
        )
        reference = Ensemble(profile, {"xumx": load_network(profile.member("xumx"), weights)})
        with torch.no_grad():
            X = reference.analysis(torch.from_numpy(x)[None])
            gains = reference._masks(reference.of_frames[0](reference._features(X))) ** 2
            expected = reference.synthesis(gains * X[:, None])[0].numpy()
        known = slice(0, -128)  # what is whole knows nothing of frames that begin after the end
        np.testing.assert_allclose(bare[..., known], expected[..., known], atol=1e-5)
        assert np.abs(filtered - bare).max() > 1e-3

    def test_forgetting_time(self, tmp_path):
        _, toml, weights = write_small_profile(tmp_path)
        x = signals.noise(128 * 60, 1, 0.05) * np.array([[1.0], [0.3]], np.float32)
        own, same, longer = (
            whole_answer(load_separator(str(toml), "torch-cpu", weights, ablation=ablation))(x)
            for ablation in (None, Ablation(forget_s=0.5), Ablation(forget_s=4.0))
        )
        np.testing.assert_array_equal(own, same)
        assert np.abs(own - longer).max() > 1e-4

    def test_command(self, folder, tmp_path, capsys):
        _, toml, _ = write_small_profile(tmp_path)
        compare_command(
            folder, [str(toml)], tmp_path, "torch-cpu", tmp_path / "all.json", tmp_path / "all.csv", limit=1
        )
        told = json.loads((tmp_path / "all.json").read_text())
        assert [row["system"] for row in told["rows"]] == ["xumx", "mixture", "oracle"]
        assert list(told["weights_sha256"][str(toml)]) == ["xumx"]
        assert told["rows"][2]["mean_sdr_db"] > told["rows"][0]["mean_sdr_db"]
        assert "Leakage" in capsys.readouterr().out


class TestBlend:
    @pytest.fixture
    def shards(self, tmp_path):
        """Songs whose drums are left and whose vocals are right; bass and other are very quiet."""
        rng = np.random.default_rng(1)
        audio = {}
        for stem in STEMS:
            x = 0.1 * rng.standard_normal((2, 3 * MODEL_RATE_HZ))
            if stem in ("drums", "vocals"):
                x[1 if stem == "drums" else 0] = 0.0
            audio[stem] = x
        song = {stem: audio[stem] for stem in STEMS[:3]}
        write_shard(tmp_path, "s", song, pool="songs", split="valid", sources=())
        write_shard(tmp_path, "v", {"vocals": audio["vocals"]}, pool="voices", split="valid", sources=())
        return tmp_path

    def test_shares_go_to_the_network_that_is_right(self, shards, toml, capsys):
        load = Loader()
        fitted = fit_profile(toml, shards, weights=None, runner="auto", n_mixtures=3, seconds=1.5, load=load)
        assert load.asked == [(kind, "auto", None) for kind in ("xumx", "unet", "demucs")]
        assert [len(f.networks) for f in fitted] == [1, 1, 1, 2, 2, 2, 3]
        whole = np.array(fitted[-1].shares)
        np.testing.assert_allclose(whole.sum(axis=0), 1.0)
        assert fitted[-1].mean_sdr_db >= max(f.mean_sdr_db for f in fitted[:3]) - 0.01
        print_fitted(fitted, 3)
        said = capsys.readouterr().out
        assert '[blend."xumx+unet+demucs"]' in said
        assert f"{fitted[-1].mean_sdr_db - fitted[0].mean_sdr_db:+.2f}" in said

    def test_json(self, shards, toml, capsys, monkeypatch):
        own = app_compare.fit_profile
        monkeypatch.setattr(app_compare, "fit_profile", lambda *a, **k: own(*a, **k, load=Loader()))
        blend_command(shards, toml, batches=1, seconds=1.0, as_json=True)
        told = json.loads(capsys.readouterr().out)
        assert told["n_mixtures"] == app_compare.MIXTURES
        assert told["blends"][3]["networks"] == ["xumx", "unet"]
        assert len(told["blends"][3]["shares"]) == 2

    def test_one_network_is_no_blend(self, shards, toml):
        with pytest.raises(ConfigError, match="nothing to blend"):
            fit_profile(
                f"{toml}:unet", shards, weights=None, runner="auto", n_mixtures=1, seconds=1.0, load=Loader()
            )
