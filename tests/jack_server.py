"""A JACK server of one's own for a test.

It needs the packages jackd2 and libportaudio2; under it PortAudio sees one device, `system`.
"""

import importlib.util
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from ctypes.util import find_library
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
N_PORTS_OF_SERVER = 256
"""jackd's own default of 2048 locks 107 MB of memory."""
NO_ALSA_DEVICES = "</usr/share/alsa/alsa.conf>\n!@hooks []\n"
"""Without its hooks ALSA reads no conf.d: its `jack` device would open JACK clients while PortAudio looks."""

_counter = itertools.count()


def missing_for_jack():
    """Return what is missing for a JACK server of our own, '' if nothing is."""
    missing = [program for program in ("jackd",) if shutil.which(program) is None]
    missing += [library for library in ("jack", "portaudio") if find_library(library) is None]
    missing += [] if importlib.util.find_spec("jack") else ["JACK-Client"]
    return f"not installed: {', '.join(missing)}" if missing else ""


def wait_until(condition, timeout_s, step_s=0.02):
    """Return the first true value of `condition()`, or the last one when time is up."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(step_s)
    return value


def _listens(name):
    # A socket file alone may be that of a killed server, which refuses.
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(SHARED_MEMORY / f"jack_{name}_{os.getuid()}_0"))
        except OSError:
            return False
    return True


def _dead_servers():
    """Names in JACK's table of servers that are of our making and that nobody answers to."""
    table = (SHARED_MEMORY / "jack-shm-registry").read_bytes()
    names = {name.decode() for name in re.findall(rb"jack-\d+:(stemrack_\d+_\d+):", table)}
    return sorted(name for name in names if not _listens(name))


def _free_place_of(name):
    """Remove all that a killed server has left behind.

    JACK's table has 8 places. That of a killed server is freed, with its shared memory, only by another one
    of the same name that ends well.
    """
    command = ["jackd", "-n", name, "-r", "-d", "dummy"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:
        wait_until(lambda: _listens(name) or process.poll() is not None, 5)
        process.terminate()
    uid = os.getuid()
    for pattern in (f"jack_sem.{uid}_{name}_*", f"jack_{name}_{uid}_*"):
        for path in SHARED_MEMORY.glob(pattern):
            path.unlink(missing_ok=True)


class JackServer:
    """A jackd with the dummy driver and a name of its own; a context manager.

    `realtime` says whether its threads really have real-time priority: jackd goes on without where that
    is not permitted.
    """

    def __init__(
        self,
        name=None,
        rate_hz=44_100,
        period=256,
        n_capture=2,
        n_playback=8,
        realtime=True,
        synchronous=False,
    ):
        self.name = name or f"stemrack_{os.getpid()}_{next(_counter)}"
        self.rate_hz, self.period = rate_hz, period
        self.folder = tempfile.TemporaryDirectory(prefix="jack-")
        self._log = Path(self.folder.name) / "jackd.log"
        alsa = Path(self.folder.name) / "alsa.conf"
        alsa.write_text(NO_ALSA_DEVICES, encoding="utf-8")
        self.environment = {
            "JACK_DEFAULT_SERVER": self.name,
            "JACK_NO_START_SERVER": "1",
            "ALSA_CONFIG_PATH": str(alsa),
        }
        priority = ["-R", "-P", "20"] if realtime else ["-r"]
        waits = ["-S"] if synchronous else []
        self._command = ["jackd", "-n", self.name, *priority, *waits, "-p", str(N_PORTS_OF_SERVER)]
        self._command += ["-d", "dummy", "-r", str(rate_hz), "-p", str(period)]
        self._command += ["-C", str(n_capture), "-P", str(n_playback)]
        self._process = None
        self.realtime = False

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self.folder.cleanup()

    @property
    def pid(self):
        return self._process.pid

    @property
    def log(self):
        """All that the server has said, over its restarts."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    @property
    def n_late_wakes(self):
        """How often the server itself woke too late, from its log; every client is told of an xrun then."""
        return len(re.findall(r"XRun", self.log))

    def start(self, timeout_s=10):
        """Start the server and return when it takes clients."""
        said = len(self.log)
        self._launch(timeout_s)
        if not _listens(self.name) and "Too many servers" in self.log[said:]:
            for name in _dead_servers():
                _free_place_of(name)
            self._launch(timeout_s)
        if not _listens(self.name):
            self._end(signal.SIGKILL)
            raise RuntimeError(f"{' '.join(self._command)} did not come up; it said:\n{self.log[-2000:]}")
        self.realtime = bool(wait_until(self._has_realtime_thread, 1.0 if "-R" in self._command else 0))

    def _launch(self, timeout_s):
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: _listens(self.name) or self._process.poll() is not None, timeout_s)

    def stop(self):
        """End the server; nothing of it is left in shared memory."""
        self._end(signal.SIGTERM)

    def kill(self):
        """End the server as a crash would: its shared memory stays until `restart` or the context ends."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self):
        """Kill the server if it runs, and start it anew under the same name."""
        self.kill()
        self.start()

    def _end(self, number):
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._process.returncode == -signal.SIGKILL:
            _free_place_of(self.name)

    def _has_realtime_thread(self):
        try:
            threads = [int(t.name) for t in Path(f"/proc/{self.pid}/task").iterdir()]
            return any(os.sched_getscheduler(t) in (os.SCHED_FIFO, os.SCHED_RR) for t in threads)
        except (FileNotFoundError, ProcessLookupError):
            return False
