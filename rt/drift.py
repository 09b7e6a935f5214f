"""The drift follower: brings samples of another clock onto the engine's, inside the callback.

A capture device fills a ring at its own pace; the callback draws from it through a windowed sinc whose step
is steered so that the ring stays at a target fill. The fill is taken as a continuous quantity (what was
written plus the time since), because two devices with equal blocks beat at a fraction of a hertz otherwise.

    fill' = fs (drift - step_error),  step_error = KP (fill - target) + integral,  |step_error| <= 0.5 %
    two poles in a double zero of damping: KP = 2 W / fs, KI = W^2 / fs

Measured at 44.1 kHz with a target of 2048 samples, by tests/rt/test_drift.py:
- `test_pass_band...`: within 0.0005 dB to 18 kHz at every fraction; the transition is above that.
- `test_a_sine_at_300_ppm`, settled: signal to noise 109 dB at 1 kHz, 110 at 5, 105 at 10, 107 at 15, 100 at
  18; no image or alias above -119 dB.
- `test_a_minute_of_drift`, from a cold start: at 300 ppm the fill strays by 20 samples and the pitch is
  within 0.1 cent after 7 s; at 4000 ppm by 261 samples, after 19 s. After a minute the pitch moves by less
  than 2e-4 cent.
- `test_blocks_that_come_up_to_2_ms_late...`: those bend the pitch by less than a third of a cent.
- `test_what_a_block_costs -s`: 30 us for 256 samples on one core of the development machine.

Source of the loop: the second-order delay-locked loop of Adriaensen 2005, Using a DLL to filter time.
"""

from __future__ import annotations

import numpy as np

from ..models.jit import njit

N_TAPS = 64
N_PHASES = 512
CUTOFF = 0.91
"""Middle of the transition band, of the Nyquist frequency."""
KAISER_BETA = 9.0
HALF = N_TAPS // 2

LIMIT = 0.005
NATURAL_RAD_S = 0.3
"""W: slow, so that what the loop does to the pitch is no vibrato."""
SMOOTHING_RAD_S = 3.0
"""Two poles on the measured fill take off the jitter of scheduling."""
FADE_SAMPLES = 256
FADE_OUT_STEP = 2
"""It fades out in half the time."""
RESERVE_SAMPLES = FADE_SAMPLES // FADE_OUT_STEP + 2
"""What every draw leaves in the ring: when no more comes, this is what it fades out over."""

NEVER_BEGAN, DRAWING, FADING_OUT, STOPPED = 0.0, 1.0, 2.0, -1.0
"""Values of RUNNING: silence while it waits for the first time is not missing, later it is."""

TARGET, RUNNING, READ, FRACTION, FAST, SLOW, INTEGRAL, ERROR, JUMPED, FADE, RATE = range(11)
"""Places in the state, float64."""


def make_taps() -> np.ndarray:
    """Return the interpolator, float32 (N_PHASES + 1, N_TAPS): rows are delays in steps of 1 / N_PHASES."""
    n = np.arange(N_TAPS) - (HALF - 1)
    rows = []
    for phase in range(N_PHASES + 1):
        t = n - phase / N_PHASES
        inside = np.clip(1.0 - (t / HALF) ** 2, 0.0, 1.0)
        taps = np.sinc(CUTOFF * t) * np.i0(KAISER_BETA * np.sqrt(inside)) / np.i0(KAISER_BETA)
        rows.append(taps / taps.sum())
    return np.array(rows, np.float32)


TAPS = make_taps()


def start_follower(state: np.ndarray, target_samples: int, rate_hz: int) -> None:
    """Make `state` that of a follower which has drawn nothing and waits for `target_samples`.

    The target must hold a block of the other device, n of `follow_into` and N_TAPS + RESERVE_SAMPLES, and
    whatever the other device may be late; a quarter of the ring must hold twice the target.
    """
    state[:] = 0.0
    state[TARGET], state[RATE] = target_samples, rate_hz


def drift_ppm(state: np.ndarray) -> float:
    """Return how much faster the other clock runs than the engine's, in millionths, as learnt so far."""
    return 1e6 * float(state[INTEGRAL])


def fill_samples(state: np.ndarray) -> float:
    """Return how far the read position is behind the other device, smoothed; the target once settled."""
    return float(state[SLOW])


def read_position(state: np.ndarray) -> float:
    """Return the position in the ring that the next sample is taken at."""
    return float(state[READ] + state[FRACTION])


def jumped_samples(state: np.ndarray) -> int:
    """Return how many samples were passed over, after overfills and underruns, since the start."""
    return int(state[JUMPED])


@njit
def _steer(state, fill, n):
    dt = n / state[RATE]
    smoothing = SMOOTHING_RAD_S * dt / (1.0 + SMOOTHING_RAD_S * dt)
    state[FAST] += smoothing * (fill - state[FAST])
    state[SLOW] += smoothing * (state[FAST] - state[SLOW])
    off = state[SLOW] - state[TARGET]
    kp, ki = 2.0 * NATURAL_RAD_S / state[RATE], NATURAL_RAD_S**2 / state[RATE]
    wanted = state[INTEGRAL] + kp * off
    if abs(wanted) < LIMIT or wanted * off < 0.0:  # at the limit it would learn how long it has been there
        state[INTEGRAL] = max(-LIMIT, min(LIMIT, state[INTEGRAL] + ki * off * dt))
    state[ERROR] = max(-LIMIT, min(LIMIT, state[INTEGRAL] + kp * off))


@njit
def _begin(state, write, age_samples):
    """Put the read position where the fill, with the time since the newest block, is the target."""
    start = write + age_samples * (1.0 + state[INTEGRAL]) - state[TARGET]
    whole = np.floor(start)
    if state[RUNNING] == STOPPED:
        state[JUMPED] += whole - state[READ]
    state[RUNNING], state[READ], state[FRACTION] = DRAWING, whole, start - whole
    state[FAST] = state[SLOW] = state[TARGET]
    state[FADE] = 0.0


@njit
def _draw(capture, state, out, n, fade_step):
    mask = capture.shape[1] - 1
    step = 1.0 + state[ERROR]
    for i in range(n):
        read = np.int64(state[READ])
        phase = state[FRACTION] * N_PHASES
        row = np.int64(phase)
        mix = np.float32(phase - row)
        left = right = np.float32(0.0)
        for k in range(N_TAPS):
            tap = TAPS[row, k] + mix * (TAPS[row + 1, k] - TAPS[row, k])
            at = (read - (HALF - 1) + k) & mask
            left += tap * capture[0, at]
            right += tap * capture[1, at]
        gain = np.float32(state[FADE] / FADE_SAMPLES)
        state[FADE] = max(0.0, min(FADE_SAMPLES, state[FADE] + fade_step))
        out[0, i], out[1, i] = gain * left, gain * right
        moved = state[FRACTION] + step
        whole = np.int64(moved)
        state[READ] += whole
        state[FRACTION] = moved - whole


@njit
def follow_into(
    capture: np.ndarray, write: int, age_samples: float, state: np.ndarray, out: np.ndarray, n: int
) -> int:
    """Fill out[:, :n] with the next n samples on the engine's clock; returns how many are missing (silent).

    capture: float32 (2, power of two); write: its position; age_samples: time since it was written, at the
    nominal rate.  It fades out when the ring runs low or over, waits for the target fill, goes on from there
    without repeating a sample, and fades in. Silence before the first fill is not missing.
    Thread: audio.  Latency: the target fill.
    """
    needed = n * (1.0 + LIMIT) + HALF + 1 + RESERVE_SAMPLES
    if state[RUNNING] != DRAWING and state[RUNNING] != FADING_OUT:
        first = state[READ] if state[RUNNING] == STOPPED else N_TAPS
        if write - first < state[TARGET] or state[TARGET] - age_samples < needed:
            out[:, :n] = 0.0
            return n if state[RUNNING] == STOPPED else 0
        _begin(state, write, age_samples)
    ahead = write - state[READ] - state[FRACTION]
    there = n
    if ahead < needed:
        there = max(0, min(n, int((ahead - HALF - 1) / (1.0 + LIMIT))))
    elif ahead > capture.shape[1] - needed:  # lapped: what it would fade out with is overwritten
        there = 0
    if ahead < needed or ahead > 4.0 * state[TARGET] + 2 * n:
        state[RUNNING] = FADING_OUT
    fading = state[RUNNING] == FADING_OUT
    if fading:
        there = min(there, int(np.ceil(state[FADE] / FADE_OUT_STEP)))
    _steer(state, ahead + age_samples * (1.0 + state[INTEGRAL]), n)  # its clock has run on at its own pace
    _draw(capture, state, out, there, -FADE_OUT_STEP if fading else 1)
    out[:, there:n] = 0.0
    if fading and (there < n or state[FADE] == 0.0):
        state[RUNNING] = STOPPED
    return n - there
