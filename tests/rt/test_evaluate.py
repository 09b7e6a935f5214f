"""`stemrack evaluate` on small songs made here, with separators whose answer is known."""

import csv
import json

import numpy as np
import pytest
import soundfile
from fake_separator import OneStem

from stemrack.models.stems import STEMS
from stemrack.rt.errors import InputError, OutputError
from stemrack.rt.evaluate import evaluate_command, find_multitracks, load_multitrack

RATE_HZ = 8000


def noise(seed, n=RATE_HZ):
    return (np.random.default_rng(seed).standard_normal((2, n)) * 0.05).astype(np.float32)


def write_song(folder, stems=STEMS, n=RATE_HZ, suffix="wav", mixture=None, rate_hz=RATE_HZ):
    folder.mkdir(parents=True)
    audio = {stem: noise(STEMS.index(stem) + len(folder.name), n) for stem in stems}
    for stem, x in audio.items():
        subtype = "FLOAT" if suffix == "wav" else None
        soundfile.write(folder / f"{stem}.{suffix}", x.T, rate_hz, subtype=subtype)
    if mixture is not None:
        soundfile.write(folder / f"mixture.{suffix}", mixture.T, rate_hz, subtype="FLOAT")
    return audio


def quarter(mixture, rate_hz):
    """Give every stem a quarter of the mixture, in three uneven pieces."""
    estimates = np.broadcast_to(0.25 * mixture, (len(STEMS), *mixture.shape))
    yield from np.split(estimates, [1, mixture.shape[-1] // 3], axis=-1)


def expected_sdr_db(reference, estimate):
    return 10 * np.log10(np.sum(reference**2.0) / np.sum((reference - estimate) ** 2.0))


class TestFinding:
    def test_subfolders_sorted_whatever_else_lies_there(self, tmp_path):
        write_song(tmp_path / "b", suffix="flac")
        write_song(tmp_path / "a", stems=("drums", "bass"))
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "readme.txt").write_text("no song")
        songs = find_multitracks(tmp_path)
        assert [s.name for s in songs] == ["a", "b"]
        assert list(songs[0].stems) == ["drums", "bass"]
        assert songs[1].stems["vocals"].name == "vocals.flac"

    def test_one_song_given_itself(self, tmp_path):
        write_song(tmp_path / "song")
        assert [s.name for s in find_multitracks(tmp_path / "song")] == ["song"]

    def test_musdb_root_means_its_test_half(self, tmp_path):
        write_song(tmp_path / "train" / "x", mixture=noise(0))
        write_song(tmp_path / "test" / "y", mixture=noise(0))
        (song,) = find_multitracks(tmp_path)
        assert (song.name, song.mixture.name) == ("y", "mixture.wav")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(InputError, match="holds no song"):
            find_multitracks(tmp_path)
        with pytest.raises(InputError, match="not a folder"):
            find_multitracks(tmp_path / "missing")


class TestLoading:
    def test_mixture_is_the_sum_where_there_is_no_file(self, tmp_path):
        audio = write_song(tmp_path / "a", stems=("drums", "vocals"))
        _, mixture, rate_hz = load_multitrack(find_multitracks(tmp_path)[0])
        np.testing.assert_array_equal(mixture, (audio["drums"].astype(float) + audio["vocals"]).astype("f4"))
        assert rate_hz == RATE_HZ

    def test_mixture_file_is_taken_where_there_is_one(self, tmp_path):
        given = noise(77)
        write_song(tmp_path / "a", mixture=given)
        np.testing.assert_array_equal(load_multitrack(find_multitracks(tmp_path)[0])[1], given)

    @pytest.mark.parametrize("other", [{"n": 100}, {"n": RATE_HZ, "rate_hz": 11025}])
    def test_files_of_one_song_must_agree(self, tmp_path, other):
        write_song(tmp_path / "a", stems=("drums",))
        write_song(tmp_path / "b", stems=("bass",), **other)
        (tmp_path / "b" / "bass.wav").rename(tmp_path / "a" / "bass.wav")
        with pytest.raises(InputError, match="must agree"):
            load_multitrack(find_multitracks(tmp_path)[0])


class TestCommand:
    def test_reports_hold_the_figures_of_the_separator(self, tmp_path, capsys):
        first = write_song(tmp_path / "in" / "first", stems=STEMS)
        second = write_song(tmp_path / "in" / "second", stems=("drums", "bass", "other"))
        mean = evaluate_command(
            tmp_path / "in",
            profile="live",
            json_path=tmp_path / "out" / "report.json",
            csv_path=tmp_path / "out" / "report.csv",
            separate=quarter,
        )
        wanted = [
            [expected_sdr_db(song[stem], 0.25 * sum(song.values())) for stem in song]
            for song in (first, second)
        ]
        assert mean.sdr_db[0] == pytest.approx((wanted[0][0] + wanted[1][0]) / 2, abs=1e-3)
        assert mean.sdr_db[3] == pytest.approx(wanted[0][3], abs=1e-3)
        assert mean.leakage_db[3] == pytest.approx(20 * np.log10(0.25), abs=1e-4)

        data = json.loads((tmp_path / "out" / "report.json").read_text())
        assert data["profile"] == "live"
        assert data["means"]["sdr_db"]["bass"] == pytest.approx(mean.sdr_db[1])
        assert [s["song"] for s in data["songs"]] == ["first", "second"]
        assert data["songs"][1]["stems"]["vocals"]["sdr_db"] is None
        assert data["songs"][0]["stems"]["other"]["sdr_db"] == pytest.approx(wanted[0][2], abs=1e-3)
        assert data["songs"][0]["seconds"] == 1.0

        with (tmp_path / "out" / "report.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 8
        assert float(rows[3]["sdr_db"]) == pytest.approx(wanted[0][3], abs=1e-3)
        assert (rows[7]["sdr_db"], rows[7]["stem"]) == ("", "vocals")
        assert float(rows[7]["leakage_db"]) == pytest.approx(-12.0412, abs=1e-3)

        shown = capsys.readouterr().out
        assert f"{mean.mean_sdr_db:.2f}" in shown
        assert "(-12.0)" in shown

    @pytest.mark.parametrize("live", [False, True])
    def test_engine_is_the_pipeline_of_render(self, tmp_path, monkeypatch, live):
        """A separator that gives all to one stem, through the real pipeline: aligned to the sample."""
        asked = []
        monkeypatch.setattr(
            "stemrack.rt.separate.load_separator", lambda *given: asked.append(given) or OneStem()
        )
        stem = STEMS[-1]
        write_song(tmp_path / "a", stems=(stem,), n=3001, rate_hz=44_100)
        write_song(tmp_path / "b", stems=(stem,), n=1, rate_hz=44_100)
        mean = evaluate_command(tmp_path, profile="club", runner="torch-cpu", live=live)
        assert asked == [("club", "torch-cpu", None)]
        assert mean.sdr_db[-1] > 40

    def test_limit_takes_the_first_songs(self, tmp_path):
        for name in "abc":
            write_song(tmp_path / name, stems=("drums",), n=50)
        assert evaluate_command(tmp_path, separate=quarter, limit=2).n_songs == 2

    def test_every_sample_must_come_back(self, tmp_path):
        write_song(tmp_path / "a", n=50)
        with pytest.raises(ValueError, match=r"estimates are \(4, 2, 49\)"):
            evaluate_command(tmp_path, separate=lambda x, rate_hz: iter([np.zeros((4, 2, 49))]))

    def test_report_that_cannot_be_written(self, tmp_path):
        write_song(tmp_path / "in" / "a", n=50)
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="choose another place"):
            evaluate_command(tmp_path / "in", separate=quarter, json_path=tmp_path / "file" / "report.json")
