"""VST3 plugins for the tests: real ones of Debian's dpf-plugins and hostile ones of our own, built once."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent / "vst3"
PACKAGE = "dpf-plugins"
ARCHIVE = "dpf-plugins_1.6+ds.orig.tar.xz"
ARCHIVE_SHA256 = "15492ec9693f09e676e6a18e7e35f8861c6340e70ecb53e1404d0b803bf1f98a"
REAL = ("MVerb", "PingPongPan", "SoulForce")
HOSTILE = ("Crasher", "Sleeper", "Nanner", "LoadHang", "Latent", "LoadCrash")
"""In the order of `Kind` in Hostile.cpp."""
OPTIONS = ("HAVE_OPENGL=false", "UI_TYPE=none")
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCE_LIST = Path("/etc/apt/sources.list.d/stemrack-tests-source.sources")
LIMIT_S = 600


class NotToBeHad(Exception):
    """The source package cannot be had here; the text says why."""


def real_plugins() -> dict[str, Path]:
    """Return the bundles of the real plugins by name, built where need be; skips where they cannot be."""
    return _bundles(REAL)


def hostile_plugins() -> dict[str, Path]:
    """Return the bundles of the hostile plugins by name, built where need be; skips where they cannot be.

    Crasher aborts in its 1000th process call; Sleeper sleeps 200 ms in each; Nanner returns NaN from the
    200th after it was activated; LoadHang never loads; Latent delays by the 2048 samples that it reports;
    LoadCrash aborts while loading.
    """
    return _bundles(HOSTILE)


def _bundles(names: tuple[str, ...]) -> dict[str, Path]:
    try:
        folder = _built()
    except NotToBeHad as error:
        pytest.skip(str(error))
    return {name: folder / f"{name}.vst3" for name in names}


@functools.cache
def _built() -> Path:
    """Return the folder of all bundles, built by the first process that asks.  Raises: NotToBeHad."""
    home = cache_folder()
    home.mkdir(parents=True, exist_ok=True)
    done = home / f"vst3-{_fingerprint()}"
    with _locked(home / "lock"):
        if not done.is_dir():
            with tempfile.TemporaryDirectory(dir=home) as work:
                bundles = _build(Path(work), _archive(home))
                bundles.rename(done)
    return done


def cache_folder() -> Path:
    """Return where sources and plugins are kept between runs of the tests."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "stemrack-tests"


def _fingerprint() -> str:
    """Return a hash over all that the plugins are built from."""
    parts = [ARCHIVE_SHA256.encode(), *(name.encode() for name in (*REAL, *HOSTILE, *OPTIONS))]
    parts += [path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.is_file()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _archive(home: Path) -> Path:
    """Return the source package's archive, fetched where need be.  Raises: NotToBeHad."""
    archive = home / ARCHIVE
    if not archive.is_file() or hashlib.sha256(archive.read_bytes()).hexdigest() != ARCHIVE_SHA256:
        fetch(home)
    if (found := hashlib.sha256(archive.read_bytes()).hexdigest()) != ARCHIVE_SHA256:
        raise ValueError(
            f"{archive}: sha256 {found} is not the {ARCHIVE_SHA256} that the tests were written for"
        )
    return archive


def fetch(home: Path) -> None:
    """Fetch the source package's archive into a folder by apt-get.  Raises: NotToBeHad."""
    if shutil.which("apt-get") is None:
        raise NotToBeHad(f"no apt-get here to fetch the source of {PACKAGE} with")
    said = _apt("source", "--download-only", "--tar-only", PACKAGE, folder=home)
    if not (home / ARCHIVE).is_file():
        if os.geteuid() != 0:
            raise NotToBeHad(
                f"apt-get source {PACKAGE}: {_last(said)}; .ci/system-packages, as root, enables it"
            )
        _enable_sources()
        _apt("update", folder=home)
        said = _apt("source", "--download-only", "--tar-only", PACKAGE, folder=home)
    if not (home / ARCHIVE).is_file():
        raise NotToBeHad(f"apt-get source {PACKAGE} fetches no {ARCHIVE}: {_last(said)}")


def _enable_sources() -> None:
    """Name Debian's source packages to apt, beside what its own lists name, where that is Debian."""
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    text = "\n".join(p.read_text() for p in lists if p.suffix in (".list", ".sources") and p.is_file())
    if KEYS.exists() and not re.search(r"^(deb-src|Types:.*deb-src)", text, re.MULTILINE):
        SOURCE_LIST.write_text(
            "Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: main\n"
            f"Signed-By: {KEYS}\n"
        )


def _apt(*words: str, folder: Path) -> str:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=600", *words]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return ran.stderr + ran.stdout


def _last(said: str) -> str:
    errors = [line for line in said.splitlines() if line.startswith("E:")]
    return errors[-1] if errors else "it failed without a word"


def _build(work: Path, archive: Path) -> Path:
    """Build all plugins and return the folder of their bundles.  Raises: NotToBeHad without a compiler."""
    if missing := [tool for tool in ("make", "g++", "pkg-config", "xz") if shutil.which(tool) is None]:
        raise NotToBeHad(f"no {missing[0]} here to build VST3 plugins with: see .ci/system-packages")
    tree, own, bundles = work / "source", work / "own", work / "bundles"
    tree.mkdir()
    wanted = [f"*/plugins/{name}" for name in REAL]
    _run("tar", "-xf", str(archive), "--strip-components=1", "--wildcards", "*/dpf", *wanted, folder=tree)
    shutil.copytree(SOURCES, own)
    for name in REAL:
        _run("make", "vst3", *OPTIONS, f"DPF_TARGET_DIR={bundles}", folder=tree / "plugins" / name)
    for kind, name in enumerate(HOSTILE, start=1):
        settings = (f"NAME={name}", f"KIND={kind}", f"DPF={tree / 'dpf'}", f"TARGET={bundles}")
        _run("make", "vst3", *OPTIONS, *settings, folder=own)
    if missing := [name for name in (*REAL, *HOSTILE) if not (bundles / f"{name}.vst3").is_dir()]:
        raise FileNotFoundError(f"make left no {missing[0]}.vst3 in {bundles}")
    return bundles


def _run(*command: str, folder: Path) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)} in {folder} failed:\n{(ran.stderr + ran.stdout)[-2000:]}")
