"""Commands about third parties' plugins: plugins scan, list, edit."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .command_line import Argument, AsJson, ConfigFile, Option, Typer
from .errors import ConfigError, OutputError
from .plugin_scan import LIMIT_S

if TYPE_CHECKING:
    from .plugin_registry import Plugin, Registry

plugins = Typer(help="Plugins of third parties (VST3, on macOS Audio Units too).", no_args_is_help=True)

MOST_NAMES = 4
"""Parameters that the table names; the others are counted."""


@plugins.command("scan")
def scan_command(
    folders: Annotated[
        list[Path] | None,
        Argument(metavar="FOLDER", help="Where to look; default: [effects] plugin_folders, else the usual."),
    ] = None,
    limit_s: Annotated[
        float, Option("--limit", metavar="SECONDS", min=1.0, help="Time that each plugin has.")
    ] = LIMIT_S,
    again: Annotated[bool, Option("--all", help="Open files that have not changed, too.")] = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Open each plugin in a process of its own, try it, and enter it, or why it is refused.

    Exit code: 0 even if plugins are refused; 2 for a folder that is not there.
    """
    from .plugin_registry import load_registry, registry_file, save_registry
    from .plugin_scan import plugin_files, scan, usual_folders
    from .screen import job_progress

    if missing := [folder for folder in folders or () if not folder.expanduser().exists()]:
        raise ConfigError(f"{missing[0]}: there is no such folder")
    places = folders or _configured(config_file) or usual_folders()
    path = registry_file()
    with job_progress("plugins", len(plugin_files(places))) as job:

        def show(file: Path, done: int, total: int) -> None:
            job.describe(file.stem)
            job.progress.update(job.task, completed=done, total=total)

        registry = scan(load_registry(path), places, limit_s=limit_s, again=again, progress=show)
    try:
        save_registry(path, registry)
    except OSError as error:
        raise OutputError(path, f"cannot be written ({error.strerror})") from error
    _show(registry, as_json)


def _configured(config_file: Path | None) -> list[Path]:
    from .config import Config, load_config

    config = load_config(config_file) if config_file else Config()
    return [Path(folder) for folder in config.effects.plugin_folders]


@plugins.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the plugins that were scanned, and why some are refused."""
    from .plugin_registry import load_registry, registry_file

    _show(load_registry(registry_file()), as_json)


@plugins.command("edit")
def edit_command(
    key: Annotated[str, Argument(metavar="KEY", help="A plugin, as `plugins list` names it.")],
    state: Annotated[
        Path | None,
        Option("--state", metavar="FILE", help="Begin with this .json or .toml, if it is there; write it."),
    ] = None,
) -> None:
    """Show a plugin's own window; when it is closed, write its state, as presets hold it (else: print it).

    Exit code: 2 for a plugin that cannot be used, has no window or crashes, and where there is no display.
    """
    from .plugin_registry import load_registry, registry_file
    from .plugin_scan import edited

    plugin = load_registry(registry_file()).plugin(key)
    if state is not None and state.suffix.lower() not in (".json", ".toml"):
        raise ConfigError(f"{state}: give it the ending .json or .toml")
    before = _read(state, plugin) if state is not None and state.exists() else {}
    if not has_display(os.environ, sys.platform):
        said = "there is no display here: run it where windows can be shown, and copy its --state file over"
        raise ConfigError(f"{key}: {said}")
    now = edited(plugin, before)
    text = state_text(now, "toml" if state is not None and state.suffix.lower() == ".toml" else "json")
    if state is None:
        print(text, end="")
        return
    try:
        state.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(state, f"cannot be written ({error.strerror})") from error
    print(f"{key}: written to {state}", file=sys.stderr)


def add_commands(cli: Typer) -> None:
    """Add the group of this file to the command line."""
    cli.add_typer(plugins, name="plugins")


def has_display(environment: Mapping[str, str], platform: str) -> bool:
    """Return whether windows can be shown.

    >>> has_display({}, "linux"), has_display({"DISPLAY": ":0"}, "linux"), has_display({}, "darwin")
    (False, True, True)
    """
    return platform in ("darwin", "win32") or bool(environment.get("DISPLAY"))


def state_text(insert: Mapping[str, Any], form: str) -> str:
    """Return an insert's plain values as the text of a file, JSON or TOML.

    >>> print(state_text({"effect": "MVerb", "mix": 50.0}, "toml"), end="")
    effect = "MVerb"
    mix = 50.0
    """
    if form == "toml":
        from .presets import toml_text

        return toml_text(insert)
    return json.dumps(insert, indent=1) + "\n"


def _read(path: Path, plugin: Plugin) -> dict[str, Any]:
    """Return the plain values of an insert of this plugin.  Raises: ConfigError."""
    from .chains import insert_of
    from .effect_table import EffectTable

    try:
        text = path.read_text(encoding="utf-8")
        values = _toml(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except RecursionError:  # of JSON
        raise ConfigError(f"{path}: cannot be read (lists are nested too deep)") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no state of {plugin.key}")
    try:
        insert_of(EffectTable([plugin.effect]), values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return values


def _toml(text: str) -> dict[str, Any]:
    from .presets import toml_values  # compiled: not for those who have no such file

    return toml_values(text)


def _show(registry: Registry, as_json: bool) -> None:
    from .plugin_registry import plugin_values

    if as_json:
        print(json.dumps([plugin_values(plugin) for plugin in registry.plugins]))
        return
    from .screen import print_lines, print_table

    used = [p for p in registry.plugins if not p.refused]
    heads = ("plugin", "name", "maker", "latency", "block of 512", "load", "parameters")
    print_table("Plugins", heads, [_row(plugin) for plugin in used])
    if refused := [p for p in registry.plugins if p.refused]:
        print_lines(["Refused:", *(f"  {p.key:<20} {p.refused}   ({p.path})" for p in refused)])


def _row(plugin: Plugin) -> Sequence[str]:
    names = [p.name for p in plugin.parameters]
    more = f" and {len(names) - MOST_NAMES}" if len(names) > MOST_NAMES else ""
    changed = "" if plugin.is_unchanged else " (changed: scan again)"
    return (
        plugin.key,
        plugin.name + changed,
        plugin.maker,
        f"{plugin.latency_samples}",
        f"{plugin.block_us / 1e3:.2f} ms",
        f"{plugin.load_ms:.0f} ms",
        ", ".join(names[:MOST_NAMES]) + more,
    )
