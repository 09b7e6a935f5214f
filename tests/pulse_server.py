"""A PulseAudio server of one's own for a test, with null sinks that PortAudio sees by name.

It needs the packages pulseaudio, pulseaudio-utils, libasound2-plugins and libportaudio2. For a sink `a`
PortAudio's ALSA devices are `a` (what is played there) and `a_monitor` (the same, to be heard).
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from ctypes.util import find_library
from pathlib import Path

import numpy as np
from jack_server import NO_ALSA_DEVICES, wait_until

N_CHANNELS = 2


def missing_for_pulse():
    """Return what is missing for a PulseAudio server of our own, '' if nothing is."""
    programs = ("pulseaudio", "pactl", "paplay", "parec")
    missing = [program for program in programs if shutil.which(program) is None]
    missing += [] if find_library("portaudio") else ["portaudio"]
    plugin = "libasound_module_pcm_pulse.so"
    folders = [Path(f) for f in ("/usr/lib", "/usr/lib64")]
    plugins = [p for f in folders for p in (*f.glob(f"alsa-lib/{plugin}"), *f.glob(f"*/alsa-lib/{plugin}"))]
    missing += [] if plugins else [plugin]
    return f"not installed: {', '.join(missing)}" if missing else ""


class PulseServer:
    """A pulseaudio with null sinks, and nothing of the system's or the user's; a context manager.

    `sinks` gives the rate of each name. Every sink has 2 channels of float32, so samples pass unchanged.
    """

    def __init__(self, sinks=None):
        self.sinks = sinks or {"stemrack_a": 44_100, "stemrack_b": 44_100}
        self._folder = tempfile.TemporaryDirectory(prefix="pulse-")
        folder = Path(self._folder.name)
        self._log, self._socket = folder / "log", folder / "native"
        self.environment = {
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_COOKIE": str(folder / "cookie"),
            "ALSA_CONFIG_PATH": str(folder / "alsa.conf"),
            # PortAudio would start a JACK server by itself.
            "JACK_NO_START_SERVER": "1",
            "JACK_DEFAULT_SERVER": "stemrack_none",
        }
        pulse = f'type pulse server "unix:{self._socket}" device'
        devices = [
            f'pcm.{s} {{ {pulse} "{s}" }}\npcm.{s}_monitor {{ {pulse} "{s}.monitor" }}\n' for s in self.sinks
        ]
        (folder / "alsa.conf").write_text(NO_ALSA_DEVICES + "".join(devices), encoding="utf-8")
        self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self._folder.cleanup()

    @property
    def pid(self):
        return self._process.pid

    @property
    def log(self):
        """All that the server has said, over its restarts."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    @property
    def _whole_environment(self):
        # With HOME elsewhere too, nothing is read from or left in the user's folders.
        folder = self._folder.name
        private = {
            "HOME": folder,
            "XDG_RUNTIME_DIR": folder,
            "XDG_CONFIG_HOME": folder,
            "PULSE_STATE_PATH": folder,
        }
        return os.environ | self.environment | private

    def start(self, timeout_s=10):
        """Start the server and return when all its sinks are there."""
        self._socket.unlink(missing_ok=True)
        modules = [f"module-native-protocol-unix socket={self._socket} auth-anonymous=1"]
        form = f"format=float32le channels={N_CHANNELS}"
        modules += [f"module-null-sink sink_name={s} rate={rate} {form}" for s, rate in self.sinks.items()]
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        command += ["--log-target=stderr", *(f"--load={module}" for module in modules)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._whole_environment
            )
        wait_until(lambda: self._listens() or self._process.poll() is not None, timeout_s)
        there = self._ask("list", "short", "sinks") if self._process.poll() is None else ""
        if not all(f"\t{sink}\t" in there for sink in self.sinks):
            self.stop()
            raise RuntimeError(f"{' '.join(command)} did not come up; it said:\n{self.log[-2000:]}")

    def stop(self):
        """End the server."""
        self._end(signal.SIGTERM)

    def kill(self):
        """End the server as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self):
        """Kill the server if it runs, and start it anew: the same names, at the same place."""
        self.kill()
        self.start()

    def play(self, wav, sink):
        """Return the process that plays a sound file into a sink; it ends with the file."""
        command = ["paplay", f"--device={sink}", str(wav)]
        return subprocess.Popen(command, env=self._whole_environment)

    def record(self, sink, rate_hz=None):
        """Return a `Recording` of what is played into a sink, at the sink's rate if none is given."""
        return Recording(self, sink, rate_hz or self.sinks[sink])

    def _listens(self):
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._socket))
            except OSError:
                return False
        return True

    def _ask(self, *words):
        command, environment = ["pactl", *words], self._whole_environment
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=5, check=False
        )
        return done.stdout

    def _end(self, number):
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Recording:
    """What a sink plays, from now on; a context manager that waits until sound is being written."""

    def __init__(self, server, sink, rate_hz):
        self.rate_hz = rate_hz
        self._path = Path(server._folder.name) / f"{sink}-{id(self)}.raw"
        form = ["--raw", "--format=float32le", f"--rate={rate_hz}", f"--channels={N_CHANNELS}"]
        command = ["parec", f"--device={sink}.monitor", "--latency-msec=20", *form, str(self._path)]
        self._process = subprocess.Popen(command, env=server._whole_environment)
        if not wait_until(lambda: self._path.exists() and self._path.stat().st_size, 5):
            self.stop()
            raise RuntimeError(f"{' '.join(command)} records nothing; the server said:\n{server.log[-2000:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """End the recording."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(5)

    @property
    def samples(self):
        """What has been written so far.  Shape: (channel, sample)."""
        raw = np.fromfile(self._path, "<f4")
        return raw[: raw.size - raw.size % N_CHANNELS].reshape(-1, N_CHANNELS).T
