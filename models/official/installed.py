"""The models' home: converted checkpoints with their manifests, put there by pull or import, and loaded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from .catalogue import NONE_STATED, Entry, Kind, Licence, RemoteFile
from .download import Download, Limits, Progress
from .isolated import Bounds, convert
from .pins import PINS_FILE, Pins

if TYPE_CHECKING:  # torch takes seconds to import, and a list of models needs none of it
    from torch import nn

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DOWNLOADS = "downloads"
GIVEN_HERE = Licence(name=NONE_STATED, stated_at="imported from a file; its owner knows")


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A converted checkpoint: its safetensors file and what its manifest says."""

    name: str
    path: Path
    manifest: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """Which network it is."""
        return Kind(self.manifest["kind"])

    @property
    def architecture(self) -> dict[str, Any]:
        """Sizes of the network: the fields of its configuration."""
        return self.manifest["architecture"]


def installed_model(home: Path, name: str) -> InstalledModel:
    """Return the model of a name in a models' home.

    Raises: WeightsError when there is none, or its manifest is damaged.
    """
    path = _path(home, name)
    if not path.is_file():
        raise WeightsError(f"model '{name}' is not installed: `stemrack models pull {name}`, or import it")
    manifest = path.with_suffix(".json")
    try:
        facts = json.loads(manifest.read_text(encoding="utf-8"))
        sound = Kind(facts["kind"]) and isinstance(facts["architecture"], dict) and facts["sha256"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{manifest} cannot be read ({error!r}): pull or import '{name}' anew") from error
    if not sound:
        raise WeightsError(f"{manifest} says too little: pull or import '{name}' anew")
    return InstalledModel(name, path, facts)


def installed_names(home: Path) -> list[str]:
    """Return the names of the models in a models' home."""
    return sorted(path.stem for path in home.glob("*.safetensors") if NAME.fullmatch(path.stem))


def load_official(model: InstalledModel) -> nn.Module:
    """Return the network of an installed model with its weights, in float32, ready to run.

    Xumx, Unet, Demucs, TdcVocals or OpenUnmix, by its kind.
    Raises: WeightsError when the file is not what its manifest says.
    """
    from .layouts import fill, network_of
    from .tensor_files import read_tensors

    if _sha256(model.path) != model.manifest["sha256"]:
        raise WeightsError(f"{model.path} is not the file its manifest describes: pull or import it anew")
    try:
        return fill(network_of(model.kind, model.architecture), read_tensors(model.path))
    except WeightsError as error:
        raise WeightsError(f"model '{model.name}': {error}") from error


def pull(
    entry: Entry,
    home: Path,
    *,
    date: str,
    progress: Callable[[RemoteFile], Progress] = lambda file: lambda done, total: None,
    limits: Limits | None = None,
) -> InstalledModel:
    """Fetch an entry's files, convert them and return what was installed; the originals are deleted.

    Units: date as YYYY-MM-DD.
    Raises: DownloadError and WeightsError, with what to do next.
    """
    pins = Pins(home)
    pins.read()
    fetched, originals = {}, []
    for file in entry.files:
        # by address: what an interrupted pull of another file left is never mixed in
        folder = home / DOWNLOADS / hashlib.sha256(file.url.encode()).hexdigest()[:16]
        download = Download(
            file.url,
            folder / file.filename,
            sha256=file.sha256,
            n_bytes=file.n_bytes,
            progress=progress(file),
            limits=limits or Limits(),
        )
        if not download.target.is_file():
            download.fetch()
        try:
            sha256 = _sha256(download.target)
            pins.check(file.url, sha256)
        except WeightsError:
            download.target.unlink()
            raise
        fetched[file.part] = download.target
        originals.append({"file": file.filename, "url": file.url, "sha256": sha256})
    try:
        return _install(
            entry.name,
            entry.kind,
            home,
            fetched,
            what=entry.what,
            licence=entry.licence,
            originals=originals,
            date=date,
        )
    finally:
        for path in fetched.values():
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty: another pull is at it
                path.parent.rmdir()


def import_files(
    files: Mapping[str, Path],
    kind: Kind,
    home: Path,
    *,
    name: str,
    date: str,
    entry: Entry | None = None,
    bounds: Bounds | None = None,
) -> InstalledModel:
    """Convert local files, by stem or under "", and return what was installed; the files stay.

    With the entry that they belong to, its hashes are held to and its licence goes into the manifest.
    Raises: WeightsError when they are not what they should be.
    """
    originals = []
    published = {file.part: file for file in entry.files} if entry else {}
    for part, path in files.items():
        sha256 = _sha256(path)
        known = published.get(part)
        if known and not sha256.startswith(known.sha256):
            raise WeightsError(
                f"{path}: not the published {known.filename}: its sha256 is {sha256}, "
                f"the published one's begins with {known.sha256}; import it by its kind instead ({kind})"
            )
        originals.append({"file": path.name, "url": known.url if known else "", "sha256": sha256})
    return _install(
        name,
        kind,
        home,
        files,
        what=entry.what if entry else "imported from a file",
        licence=entry.licence if entry else GIVEN_HERE,
        originals=originals,
        date=date,
        bounds=bounds,
    )


def _install(
    name: str,
    kind: Kind,
    home: Path,
    files: Mapping[str, Path],
    *,
    what: str,
    licence: Licence,
    originals: list[dict[str, str]],
    date: str,
    bounds: Bounds | None = None,
) -> InstalledModel:
    path = _path(home, name)
    unfinished = home / f".{name}.{secrets.token_hex(4)}.unfinished"
    try:
        home.mkdir(parents=True, exist_ok=True)
        facts = convert(kind, files, unfinished, bounds)
        manifest = {
            "name": name,
            "kind": kind.value,
            "what": what,
            "form": facts["form"],
            "architecture": facts["architecture"],
            "licence": licence.name,
            "licence_stated_at": licence.stated_at,
            "originals": originals,
            "left_out": facts["left_out"],
            "converted": date,
            "sha256": _sha256(unfinished),
        }
        manifest_file = unfinished.with_suffix(".json")
        manifest_file.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, path)
        os.replace(manifest_file, path.with_suffix(".json"))
    except OSError as error:
        raise WeightsError(f"{home}: the model cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
            unfinished.with_suffix(".json").unlink(missing_ok=True)
    return installed_model(home, name)


def _path(home: Path, name: str) -> Path:
    if not NAME.fullmatch(name) or f"{name}.json" == PINS_FILE:
        raise WeightsError(f"'{name}' is no name of a model: small letters, digits, dot, dash, underscore")
    return home / f"{name}.safetensors"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
