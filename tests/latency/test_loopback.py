"""Delays that are known, through everything a cable, a room and an interface do to a probe."""

import json

import numpy as np
import pytest

from stemrack.latency.loopback import FOUND_CONFIDENCE, PROBE_BAND_HZ, find_delay, probe_signal

RATE_HZ = 44_100
PROBE = probe_signal(RATE_HZ, 0.5)
N_HEARD = RATE_HZ


def delayed(delay, gain=1.0, n=N_HEARD):
    """The probe, late by a number of samples with a fraction, in n samples."""
    x = np.zeros(n + 5052)
    x[: len(PROBE)] = PROBE
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(x)) * delay)
    return gain * np.fft.irfft(np.fft.rfft(x) * turn, len(x))[:n]


def noise_at(snr_db, seed, n=N_HEARD):
    """White noise so many dB below the probe, both over the probe's length and all frequencies."""
    rms = np.sqrt(np.mean(PROBE.astype(np.float64) ** 2)) * 10 ** (-snr_db / 20)
    return rms * np.random.default_rng(seed).standard_normal(n)


def find(heard, **more):
    return find_delay(PROBE, heard, rate_hz=RATE_HZ, **more)


def test_probe_is_what_it_says():
    assert PROBE.dtype == np.float32
    assert np.abs(PROBE).max() == pytest.approx(10 ** (-12 / 20), rel=1e-6)
    assert abs(PROBE[0]) < 1e-4
    assert abs(PROBE[-1]) < 1e-4
    power = np.abs(np.fft.rfft(PROBE)) ** 2
    hz = np.fft.rfftfreq(len(PROBE), 1 / RATE_HZ)
    inside = (hz >= PROBE_BAND_HZ[0] - 100) & (hz <= PROBE_BAND_HZ[1] + 100)
    assert power[~inside].sum() < 1e-5 * power.sum()  # what the fades spread
    octaves = [power[(hz >= low) & (hz < low + 500)].mean() for low in range(500, 7000, 500)]
    assert max(octaves) / min(octaves) < 1.3
    np.testing.assert_array_equal(PROBE, probe_signal(RATE_HZ, 0.5, seed=1))
    assert np.abs(PROBE - probe_signal(RATE_HZ, 0.5, seed=2)).max() > 0.1


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000, 192_000])
def test_other_rates(rate_hz):
    probe = probe_signal(rate_hz, 0.5)
    heard = np.concatenate([np.zeros(777), probe, np.zeros(rate_hz // 2)])
    result = find_delay(probe, heard, rate_hz=rate_hz)
    assert result.delay_samples == pytest.approx(777, abs=1e-3)
    assert result.confidence > 0.9


@pytest.mark.parametrize("delay", [0, 1, 1536, 20_000, 0.5, 1536.25, 1535.9])
def test_clean(delay):
    result = find(delayed(delay))
    assert result.delay_samples == pytest.approx(delay, abs=1e-3)
    assert result.confidence > 0.95
    assert result.level_db == pytest.approx(0.0, abs=0.01)
    assert result.polarity == 1
    assert result.found


@pytest.mark.parametrize("snr_db", [20, 0, -10])
@pytest.mark.parametrize("seed", range(5))
def test_noise(snr_db, seed):
    result = find(delayed(1234.5) + noise_at(snr_db, seed))
    assert result.delay_samples == pytest.approx(1234.5, abs=0.1)
    assert result.confidence > 0.7
    assert result.level_db == pytest.approx(0.0, abs=0.7)


def test_confidence_falls_with_noise():
    confidences = [find(delayed(900) + noise_at(snr, 1)).confidence for snr in (40, 0, -10, -20)]
    assert confidences == sorted(confidences, reverse=True)
    assert confidences[0] - confidences[-1] > 0.2


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_not_found(seed):
    result = find(noise_at(0, seed))
    assert not result.found
    assert result.confidence < 0.2
    assert (result.delay_samples, result.level_db, result.polarity) == (None, None, 0)


def test_a_burst_of_noise_alone_is_not_found():
    heard = np.zeros(3 * RATE_HZ)
    heard[RATE_HZ : RATE_HZ + 2205] = noise_at(-20, 3, 2205)
    assert find(heard).confidence < 0.2


def test_a_tone_and_a_click_are_not_found():
    tone = 0.5 * np.sin(2 * np.pi * 1000 / RATE_HZ * np.arange(N_HEARD))
    assert not find(tone).found
    click = np.zeros(N_HEARD)
    click[9000] = 1.0
    assert not find(click).found


def test_inverted_and_quiet():
    result = find(delayed(700.25, gain=-0.01) + 1e-4 * noise_at(0, 1))
    assert result.delay_samples == pytest.approx(700.25, abs=0.01)
    assert result.polarity == -1
    assert result.level_db == pytest.approx(-40.0, abs=0.05)
    assert result.confidence > 0.95


def test_hum_is_not_seen():
    hum = 0.5 * np.sin(2 * np.pi * 50 / RATE_HZ * np.arange(N_HEARD))
    result = find(delayed(700, gain=0.1) + hum + 0.1)
    assert result.delay_samples == pytest.approx(700, abs=0.01)
    assert result.confidence > 0.9


def test_filters():
    taps = np.hanning(33)
    taps /= taps.sum()
    result = find(np.convolve(delayed(500), taps)[:N_HEARD])
    assert result.delay_samples == pytest.approx(500 + 16, abs=1e-3)  # linear phase: its delay, no more
    assert result.confidence > 0.85
    pole = 0.8  # a low pass at 1.5 kHz
    response = (1 - pole) * pole ** np.arange(200)
    result = find(np.convolve(delayed(500), response)[:N_HEARD])
    assert 500 <= result.delay_samples <= 504
    assert result.polarity == 1
    assert result.confidence > 0.8


def test_an_echo_takes_from_the_confidence_and_the_direct_sound_is_taken():
    result = find(delayed(500) + delayed(3000, gain=0.5))
    assert result.delay_samples == pytest.approx(500, abs=0.01)
    assert result.confidence == pytest.approx(0.5, abs=0.05)


def test_clocks_that_differ():
    fine = 8  # drift of 100 ppm by lines between samples eight times denser
    spectrum = np.zeros(fine * N_HEARD // 2 + 1, complex)
    spectrum[: N_HEARD // 2 + 1] = np.fft.rfft(delayed(500))
    dense = fine * np.fft.irfft(spectrum, fine * N_HEARD)
    drifted = np.interp(np.arange(N_HEARD) / (1 + 100e-6) * fine, np.arange(fine * N_HEARD), dense)
    result = find(drifted)
    assert result.delay_samples == pytest.approx(500 + 100e-6 * (500 + len(PROBE) / 2), abs=0.2)
    assert result.confidence > 0.95
    assert -1.0 < result.level_db < -0.4


def test_silence_is_not_found():
    result = find(np.zeros(N_HEARD))
    assert not result.found
    assert result.confidence == 0.0


@pytest.mark.parametrize("delay", [1001, 1005, 1300, 9000])
def test_beyond_the_range_is_not_found(delay):
    assert not find(delayed(delay), max_delay_samples=1000).found
    assert find(delayed(delay), max_delay_samples=delay).delay_samples == pytest.approx(delay, abs=1e-3)


def test_a_probe_cut_off_by_the_end_counts_while_half_of_it_is_heard():
    late = N_HEARD - len(PROBE) * 6 // 10
    result = find(delayed(late))
    assert result.delay_samples == pytest.approx(late, abs=0.01)
    assert result.level_db == pytest.approx(0.0, abs=0.1)
    assert not find(delayed(N_HEARD - len(PROBE) // 3)).found


def test_result_is_json():
    assert json.loads(json.dumps(find(delayed(5)).as_dict()))["polarity"] == 1
    assert json.loads(json.dumps(find(np.zeros(N_HEARD)).as_dict()))["delay_samples"] is None
    assert 0 < FOUND_CONFIDENCE < 1


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        (PROBE, np.zeros((2, 9))),
        (PROBE, np.zeros(0)),
        (PROBE, np.full(N_HEARD, np.nan)),
        (0 * PROBE, PROBE),
        (PROBE, PROBE[:100]),
    ],
)
def test_what_cannot_be_searched(sent, heard):
    with pytest.raises(ValueError, match=r"sent|heard|silent"):
        find_delay(sent, heard, rate_hz=RATE_HZ)


@pytest.mark.parametrize(("rate_hz", "seconds"), [(44_100, 0.01), (500, 1.0)])
def test_probes_that_cannot_be(rate_hz, seconds):
    with pytest.raises(ValueError, match="probe"):
        probe_signal(rate_hz, seconds)
