"""A folder of training material of a few seconds, as `prepare` reads it; and how to measure a pitch."""

import json

import numpy as np
import soundfile

RATE_HZ = 44_100


def vowel(f0_hz, seconds, seed=0, rate_hz=RATE_HZ):
    """Return a vowel-like tone (n,): harmonics under three formants, with a little breath."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    x = np.zeros(len(t))
    for k in range(1, int(4000 / f0_hz)):
        f = k * f0_hz
        gain = sum(
            a / (1.0 + ((f - c) / b) ** 2) for a, c, b in ((1, 650, 120), (0.5, 1100, 150), (0.2, 2600, 250))
        )
        x += gain * np.sin(2 * np.pi * f * t + k)
    x += 0.003 * np.random.default_rng(seed).standard_normal(len(t))
    return (0.3 * x / np.abs(x).max()).astype(np.float32)


def phrase(f0_hz, n_syllables=6, seed=0):
    """Return syllables of 0.3 s with pauses of 0.1 s between them (n,)."""
    ramp = np.minimum(1.0, np.minimum(np.arange(13230), np.arange(13230)[::-1]) / 1500).astype(np.float32)
    rng = np.random.default_rng(seed)
    quiet = (1e-5 * rng.standard_normal(4410)).astype(np.float32)
    pieces = []
    for i in range(n_syllables):
        pieces += [vowel(f0_hz * (1.0 + 0.02 * i), 0.3, seed + i) * ramp, quiet]
    return np.concatenate(pieces)


def pitch_hz(x, low_hz=60.0, high_hz=1000.0):
    """Return the pitch of a steady mono tone from the highest peak of its autocorrelation."""
    x = x * np.hanning(len(x))
    n = 1 << int(2 * len(x) - 1).bit_length()
    r = np.fft.irfft(np.abs(np.fft.rfft(x, n)) ** 2)[: len(x) // 2]
    # Fewer samples overlap at long lags: undo it, or the octave above wins.
    r = r / np.fft.irfft(np.abs(np.fft.rfft(np.hanning(len(x)), n)) ** 2)[: len(r)]
    a, b = int(RATE_HZ / high_hz), min(int(RATE_HZ / low_hz), len(r) - 2)
    peaks = [i for i in range(a, b) if r[i] >= r[i - 1] and r[i] > r[i + 1]]
    best = max(r[i] for i in peaks)
    i = next(i for i in peaks if r[i] > 0.95 * best)
    shift = 0.5 * (r[i - 1] - r[i + 1]) / (r[i - 1] - 2 * r[i] + r[i + 1])
    return RATE_HZ / (i + shift)


def cents(a_hz, b_hz):
    """Return the interval from b to a in cents."""
    return 1200.0 * np.log2(a_hz / b_hz)


def tone(hz, seconds, rate_hz=RATE_HZ, gain=0.2):
    """Return a sine (n,)."""
    return (gain * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


class Material:
    """Writes files and the rows of their index."""

    def __init__(self, root):
        self.root, self.rows = root, []

    def add(self, file, x, rate_hz=RATE_HZ, **row):
        """Write x (n,) or (2, n) as a file; facts of its row by keyword."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, x.T, rate_hz)
        facts = {
            "file": file,
            "dur": x.shape[-1] / rate_hz,
            "licence": "CC0 1.0",
            "attribution": f"maker of {file}",
        }
        self.rows.append(facts | {"category": file.split("/")[0], "source": file.split("/")[-2]} | row)

    def save(self):
        """Write the index."""
        (self.root / "index.json").write_text(json.dumps(self.rows))
        return self.root


def add_voices(material, n=12):
    """Add singers and speakers of 3.2 s each, every one by a maker of its own (all with one sound)."""
    x = phrase(150.0, 8)
    for i in range(n):
        for category in ("vocals_singing", "vocals_speech"):
            name = f"{category[7:]}{i}"
            sex = "m" if i % 2 else "f"
            file = f"{category}/set_{name}/a.wav"
            material.add(file, x, voice=name, sex=sex, floor_db=-50.0)


def add_songs(material, n=8, seconds=1.0):
    """Add songs with drums, bass and other of steady tones; the first is one whose bass is in `other`."""
    for i in range(n):
        stems = {"drums": 1000.0, "bass": 80.0, "other": 400.0}
        note = ""
        if i == 0:
            del stems["bass"]
            note = "may hold the bass line"
        folder = f"multitrack/song_{i}"
        for stem, hz in stems.items():
            path = material.root / folder / f"{stem}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(hz, seconds), RATE_HZ)
        row = {"file": folder, "dur": seconds, "category": "multitrack", "source": f"repo_{i}"}
        row |= {"composer": f"composer {i}", "doubt": note, "licence": "MIT", "attribution": f"by {i}"}
        material.rows.append(row)


def add_sheet(material, keys=(60, 62, 64, 65, 67), beats=1.0):
    """Add a lead sheet whose melody is the keys, one beat each, ten times over."""
    notes = [[i * beats, beats, int(k), ""] for i, k in enumerate(list(keys) * 10)]
    sheet = {"title": "Scale", "tempo": 100.0, "time": [[0.0, "4", "4"]], "melody": notes}
    sheet |= {"chords": [[0.0, 0, "major"]], "beats": len(notes) * beats}
    path = material.root / "midi_songs" / "sheets" / "scale.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sheet))
    row = {
        "file": "midi_songs/sheets/scale.json",
        "category": "midi_songs",
        "source": "sheets",
        "notes": len(notes),
    }
    material.rows.append(row | {"licence": "public domain", "attribution": "nobody"})
