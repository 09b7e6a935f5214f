"""Commands about published checkpoints: models import, pull, list, info."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .command_line import Argument, AsJson, Option, Typer
from .errors import ConfigError
from .state_folder import bundles_home, models_home

if TYPE_CHECKING:
    from ..models.official.catalogue import Entry, Kind
    from ..models.official.installed import InstalledModel
    from .screen import Job

models = Typer(
    help="Published checkpoints: pull or import them, converted once to safetensors.", no_args_is_help=True
)

NOT_PARAMETERS = (".running_mean", ".running_var", "_sample.kernel")
"""Endings of tensors that were not trained: statistics and filters."""

ModelName = Annotated[str, Argument(metavar="NAME", help="A name that `models list` shows.")]


@models.command("pull")
def pull_command(
    name: ModelName,
    accept_licence: Annotated[
        bool, Option("--accept-licence", help="Accept the licence that is shown, without being asked.")
    ] = False,
    again: Annotated[bool, Option("--again", help="Pull it even if it is installed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a checkpoint from its publisher and convert it. An interrupted pull resumes.

    Exit code: 0 installed, 1 failed, 2 an unknown name or a licence that was not accepted.
    """
    from ..models.official.installed import installed_model, installed_names, pull

    entry = _entry(name)
    home = models_home()
    if name in installed_names(home) and not again:
        print(f"{name} is installed already; --again pulls it anew", file=sys.stderr)
        _report(installed_model(home, name), as_json)
        return
    _accept(entry, accept_licence)
    from .screen import job_progress

    with job_progress(name, 0) as job:
        model = pull(entry, home, date=_today(), progress=_shown(job))
    _report(model, as_json)


@models.command("import")
def import_command(
    files: Annotated[list[Path], Argument(metavar="FILE", help="The checkpoint; four files for umx.")],
    kind: Annotated[
        str | None,
        Option(
            "--as", metavar="KIND", help="xumx, unet, demucs, tdc or umx; or a name that `models list` shows."
        ),
    ] = None,
    name: Annotated[
        str | None,
        Option("--name", help="What to call it; default: the name given by --as, else the file's."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a local checkpoint: TorchScript, an asteroid pickle, state dicts, or X-UMX as ONNX.

    A file NAME.bundle.toml (or .json) is the manifest of a streaming ONNX network: it is checked and
    installed as the profile bundle:NAME.
    Files of Open-Unmix are told apart by their names, which begin with the stem's.
    Exit code: 0 installed, 1 the file was refused, 2 wrong usage.
    """
    from ..models.official.installed import NAME, import_files
    from ..models.streaming_bundle import import_bundle, is_bundle
    from .screen import print_lines

    if len(files) == 1 and is_bundle(files[0].name):
        report = import_bundle(files[0], bundles_home())
        facts = asdict(report)
        if as_json:
            print(json.dumps(facts))
        else:
            print_lines([f"{key.replace('_', ' '):<16} {value}" for key, value in facts.items() if value])
        return
    if kind is None:
        raise ConfigError("--as says what kind of checkpoint it is: xumx, unet, demucs, tdc, umx, or a name")
    network, entry = _kind(kind)
    parts = _parts(files, network)
    called = name or (entry.name if entry else files[0].stem.lower().replace(" ", "-"))
    if not NAME.fullmatch(called):
        raise ConfigError(f"'{called}' is no name of a model: give one with --name")
    model = import_files(parts, network, models_home(), name=called, date=_today(), entry=entry)
    _report(model, as_json)


@models.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List what can be pulled, and what is installed."""
    from ..models.official.catalogue import ENTRIES
    from ..models.official.installed import installed_model, installed_names

    home = models_home()
    installed = {name: installed_model(home, name) for name in installed_names(home)}
    rows: list[dict[str, Any]] = [
        {
            "name": e.name,
            "kind": e.kind.value,
            "installed": e.name in installed,
            "licence": e.licence.name,
            "what": e.what,
        }
        for e in ENTRIES
    ]
    known = {e.name for e in ENTRIES}
    rows += [
        {
            "name": name,
            "kind": model.kind.value,
            "installed": True,
            "licence": model.manifest.get("licence", ""),
            "what": model.manifest.get("what", ""),
        }
        for name, model in installed.items()
        if name not in known
    ]
    if as_json:
        print(json.dumps(rows))
        return
    from .screen import print_table

    heads = ("name", "kind", "installed", "licence", "what")
    print_table("Checkpoints", heads, [[_cell(row[head]) for head in heads] for row in rows])


@models.command("info")
def info_command(name: ModelName, as_json: AsJson = False) -> None:
    """Show a checkpoint's licence, source and hashes; of an installed one its tensors and size too.

    Exit code: 2 for a name that is neither known nor installed.
    """
    from ..models.official.installed import installed_model, installed_names

    home = models_home()
    facts = (
        _facts(installed_model(home, name)) if name in installed_names(home) else _known_facts(_entry(name))
    )
    if as_json:
        print(json.dumps(facts))
        return
    from .screen import print_lines

    originals = facts.pop("originals")
    lines = [f"{key.replace('_', ' '):<18} {_cell(value)}" for key, value in facts.items()]
    for original in originals:
        lines.append(f"{'original':<18} {original['file']}  sha256 {original['sha256'] or 'not known'}")
        lines.append(f"{'':<18} {original['url'] or 'a local file'}")
    print_lines(lines)


def add_commands(cli: Typer) -> None:
    """Add the group of this file to the command line."""
    cli.add_typer(models, name="models")


def _entry(name: str) -> Entry:
    from ..models.errors import SpecError
    from ..models.official.catalogue import entry_named

    try:
        return entry_named(name)
    except SpecError as error:
        raise ConfigError(str(error)) from error


def _kind(said: str) -> tuple[Kind, Entry | None]:
    from ..models.official.catalogue import Kind

    if said in set(Kind):
        return Kind(said), None
    try:
        entry = _entry(said)
    except ConfigError as error:
        raise ConfigError(
            f"--as {said}: give one of {', '.join(Kind)}, or a name of `models list`"
        ) from error
    return entry.kind, entry


def _parts(files: Sequence[Path], kind: Kind) -> dict[str, Path]:
    """Return files by the stem they are for; a file for all stems under an empty name."""
    from ..models.official.catalogue import Kind
    from ..models.stems import STEMS

    if missing := [path for path in files if not path.is_file()]:
        raise ConfigError(f"{missing[0]}: there is no such file")
    if kind is not Kind.umx:
        if len(files) != 1:
            raise ConfigError(f"{kind} is one file, got {len(files)}")
        return {"": files[0]}
    parts = {stem: [path for path in files if path.name.lower().startswith(stem)] for stem in STEMS}
    if len(files) != len(STEMS) or any(len(found) != 1 for found in parts.values()):
        raise ConfigError(f"umx is {len(STEMS)} files, whose names begin with {', '.join(STEMS)}")
    return {stem: found[0] for stem, found in parts.items()}


def _accept(entry: Entry, accepted: bool) -> None:
    """Show an entry's licence and ask for consent on a terminal.

    Raises: ConfigError when it is not given.
    """
    sources = ", ".join(file.url for file in entry.files)
    print(f"{entry.name}: {entry.what}\nfrom {sources}\nlicence: {entry.licence}", file=sys.stderr)
    if accepted:
        return
    if not sys.stdin.isatty():
        raise ConfigError("no one to ask here: give --accept-licence to accept this licence")
    print("Accept, and pull it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("the licence was not accepted: nothing was pulled")


def _shown(job: Job) -> Callable[[Any], Callable[[int, int | None], None]]:
    """Return what makes a file's progress, for `installed.pull`, move a bar."""

    def of_file(file: Any) -> Callable[[int, int | None], None]:
        job.describe(file.filename)
        return lambda done, total: job.progress.update(job.task, completed=done, total=total)

    return of_file


def _facts(model: InstalledModel) -> dict[str, Any]:
    from ..models.official.tensor_files import tensor_sizes

    sizes = tensor_sizes(model.path)
    return model.manifest | {
        "installed": True,
        "path": str(model.path),
        "tensors": len(sizes),
        "parameters": sum(n for name, n in sizes.items() if not name.endswith(NOT_PARAMETERS)),
        "bytes": model.path.stat().st_size,
    }


def _known_facts(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind.value,
        "what": entry.what,
        "form": entry.form,
        "licence": entry.licence.name,
        "licence_stated_at": entry.licence.stated_at,
        "installed": False,
        "originals": [{"file": f.filename, "url": f.url, "sha256": f.sha256} for f in entry.files],
    }


def _report(model: InstalledModel, as_json: bool) -> None:
    facts = _facts(model)
    if as_json:
        print(json.dumps(facts))
    else:
        print(
            f"{model.name}: {facts['tensors']} tensors, {facts['parameters']} parameters, "
            f"{facts['bytes'] / 2**20:.1f} MiB in {model.path}"
        )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
