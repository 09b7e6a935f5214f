"""`stemrack ctl` and `stemrack monitor`: a node from the command line; typer's home among the clients.

Nothing that talks is imported before a command runs, so that help comes at once.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option, Typer

from .words import UsageError, shown, value_from

if TYPE_CHECKING:
    from .session import Session

EXIT_REFUSED, EXIT_USAGE, EXIT_NO_CONNECTION, EXIT_INTERRUPTED = 1, 2, 3, 130

ctl = Typer(
    help="Steer a running node: get, set, watch, chains, scenes, recording, MIDI.\n\n"
    "Exit code: 0 done, 1 the node said no, 2 wrong usage, 3 no connection or a wrong token.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
scene = Typer(help="Store and recall faders and chains under a name.", no_args_is_help=True)
midi = Typer(help="Bind MIDI controls to parameters.", no_args_is_help=True)
ctl.add_typer(scene, name="scene")
ctl.add_typer(midi, name="midi")

Url = Annotated[
    str | None,
    Option(
        "--url",
        envvar="STEMRACK_URL",
        help="Address as the node prints it, with #token=...; none: http://127.0.0.1:8137.",
    ),
]
Token = Annotated[
    str | None, Option("--token", help="In place of the address's; else STEMRACK_TOKEN is taken.")
]
CaFile = Annotated[Path | None, Option("--ca-file", help="Certificate of a node that signed its own.")]
AsJson = Annotated[bool, Option("--json", help="JSON on stdout.")]
RampMs = Annotated[float | None, Option("--ramp-ms", help="Length of the ramp; none: the parameter's own.")]
Stems = Annotated[
    list[str] | None, Option("--stem", help="Only this stem (repeatable); none: all, and the master.")
]
Count = Annotated[int | None, Option("--count", min=1, help="End after so many lines.")]
SCENE_NAME = Argument(metavar="NAME")
PATH = Argument(metavar="PATH")
NUMBERS = {"ignore_unknown_options": True}
"""So that -6 is a number and no option."""


class OnOff(StrEnum):
    """What `record` does."""

    start = "start"
    stop = "stop"


def run(
    work: Callable[[Session], Awaitable[None]],
    url: str | None,
    token: str | None,
    ca_file: Path | None,
    **options: Any,
) -> None:
    """Do something with a session, then exit with the code that `ctl` promises; errors in one line."""
    import asyncio

    from .address import find_address
    from .errors import RequestRefused, SessionError
    from .session import Session

    try:
        find_address(url, token)
    except ValueError as error:
        _say(str(error), EXIT_USAGE)

    async def talk() -> None:
        async with Session(url, token=token, ca_file=ca_file, name="stemrack ctl", **options) as session:
            await work(session)

    try:
        asyncio.run(talk())
        sys.stdout.flush()
    except RequestRefused as error:
        _say(str(error), EXIT_REFUSED)
    except SessionError as error:
        _say(str(error), EXIT_NO_CONNECTION)
    except UsageError as error:
        _say(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        raise Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:  # whoever read has gone, as in `| head`; nothing more can be written
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str, code: int) -> None:
    print(f"stemrack: {text}", file=sys.stderr)
    raise Exit(code)


# -- commands ----------------------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value), flush=True)


def _print_values(values: dict[str, Any], as_json: bool, only: str | None = None) -> None:
    """Print values by path; `only`: the one that was asked for, which then needs no name."""
    if as_json:
        _print_json(values)
    elif only is not None and set(values) == {only}:
        print(shown(values[only]))
    else:
        for path, value in values.items():
            print(f"{path} = {shown(value)}")


@ctl.command("get")
def get_command(
    paths: Annotated[list[str] | None, Argument(help="None: all.")] = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Show values; of one path the value alone."""
    asked = paths or []

    async def work(session: Session) -> None:
        _print_values(await session.get(*asked), as_json, asked[0] if len(asked) == 1 else None)

    run(work, url, token, ca_file, reconnects=False)


@ctl.command("set", context_settings=NUMBERS)
def set_command(
    path: Annotated[str, PATH],
    value: Annotated[str, Argument(metavar="VALUE", help="A number, on, off or a name.")],
    ramp_ms: RampMs = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Set a parameter; shows the value in force."""

    async def work(session: Session) -> None:
        wanted = value_from(value, session.values.get(path))
        _print_values({path: await session.set(path, wanted, ramp_ms)}, as_json, path)

    run(work, url, token, ca_file, reconnects=False)


@ctl.command("adjust", context_settings=NUMBERS)
def adjust_command(
    path: Annotated[str, PATH],
    by: Annotated[float, Argument(metavar="BY", help="A difference, as -3.")],
    ramp_ms: RampMs = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Move a number by a difference, within its range; shows the value in force."""

    async def work(session: Session) -> None:
        _print_values({path: await session.adjust(path, by, ramp_ms)}, as_json, path)

    run(work, url, token, ca_file, reconnects=False)


@ctl.command("watch")
def watch_command(
    patterns: Annotated[list[str] | None, Argument(help="As 'stem/*/gain_db'; none: all.")] = None,
    count: Count = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Show the values, then every change: revision, origin, path and value. Survives a node's restart."""
    from .watch import watch

    async def work(session: Session) -> None:
        await watch(session, tuple(patterns or ("*",)), as_json=as_json, count=count)

    run(work, url, token, ca_file)


@ctl.command("record")
def record_command(
    what: OnOff,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Start or stop a recording, into the folder that the node's configuration names."""
    path = "recording/active"

    async def work(session: Session) -> None:
        _print_values({path: await session.set(path, what is OnOff.start)}, as_json, path)

    run(work, url, token, ca_file, reconnects=False)


@ctl.command("describe")
def describe_command(
    paths: Annotated[list[str] | None, Argument(help="None: all.")] = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what can be set: unit, range, default and what it means."""
    from .watch import print_table

    async def work(session: Session) -> None:
        print_table(await session.describe(), paths or [], as_json=as_json)

    run(work, url, token, ca_file, reconnects=False)


@ctl.command("chain")
def chain_command(
    stem: Annotated[str, Argument(metavar="[STEM]", help="None: all.")] = "",
    line: Annotated[
        str | None, Argument(metavar="[CHAIN]", help="Its new inserts, as 'highpass_filter reverb'.")
    ] = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a chain and all that its effects have, with units and ranges; set it first if one is given."""
    from .watch import print_chains

    async def work(session: Session) -> None:
        if line is not None:
            await session.set(f"stem/{stem}/chain", line)
        print_chains(await session.describe(), session.values, stem, as_json=as_json)

    run(work, url, token, ca_file, reconnects=False)


@ctl.command("effects")
def effects_command(
    keys: Annotated[list[str] | None, Argument(metavar="[EFFECT]...", help="With all they have.")] = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what can be put into a chain."""
    from .watch import print_effects

    async def work(session: Session) -> None:
        print_effects(await session.effects(), keys or [], as_json=as_json)

    run(work, url, token, ca_file, reconnects=False)


@ctl.command("ping")
def ping_command(
    url: Url = None, token: Token = None, ca_file: CaFile = None, as_json: AsJson = False
) -> None:
    """Ask whether the node lives; shows how long its answer took."""

    async def work(session: Session) -> None:
        took_ms = 1000.0 * await session.ping()
        if as_json:
            _print_json({"server": session.server_name, "role": session.role, "took_ms": round(took_ms, 3)})
        else:
            print(f"{session.server_name}: {took_ms:.1f} ms (role: {session.role})")

    run(work, url, token, ca_file, reconnects=False)


@scene.command("store")
def store_command(
    name: Annotated[str, SCENE_NAME],
    stem: Stems = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
) -> None:
    """Keep faders and chains under a name; an older scene of that name is replaced, but for a preset."""
    run(lambda session: session.store_scene(name, stem or ()), url, token, ca_file, reconnects=False)


@scene.command("recall")
def recall_command(
    name: Annotated[str, SCENE_NAME],
    fade_ms: Annotated[
        float, Option("--fade-ms", min=0, help="Length of the fade; 0: each parameter's own.")
    ] = 0.0,
    stem: Stems = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Set faders and chains as they were stored, or as a preset has them; shows what is in force."""

    async def work(session: Session) -> None:
        _print_values(await session.recall_scene(name, fade_ms, stem or ()), as_json)

    run(work, url, token, ca_file, reconnects=False)


@scene.command("delete")
def delete_command(
    name: Annotated[str, SCENE_NAME], url: Url = None, token: Token = None, ca_file: CaFile = None
) -> None:
    """Forget a scene."""
    run(lambda session: session.delete_scene(name), url, token, ca_file, reconnects=False)


@scene.command("list")
def list_command(
    url: Url = None, token: Token = None, ca_file: CaFile = None, as_json: AsJson = False
) -> None:
    """Show the names of the scenes and presets."""

    async def work(session: Session) -> None:
        names = str(session.values.get("scenes") or "").splitlines()
        if as_json:
            _print_json(names)
        else:
            print("".join(f"{name}\n" for name in names), end="")

    run(work, url, token, ca_file, reconnects=False)


@midi.command("learn")
def learn_command(
    path: Annotated[str, Argument(metavar="[PATH]", help="None: wait for no control any more.")] = "",
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
) -> None:
    """Bind the next MIDI control that is moved to a parameter."""

    async def work(session: Session) -> None:
        await session.learn(path)
        print(f"move the control for {path} now" if path else "waiting for no control")

    run(work, url, token, ca_file, reconnects=False)


@midi.command("unlearn")
def unlearn_command(
    path: Annotated[str, PATH], url: Url = None, token: Token = None, ca_file: CaFile = None
) -> None:
    """Take a parameter's MIDI controls away."""
    run(lambda session: session.unlearn(path), url, token, ca_file, reconnects=False)


def monitor_command(
    rate_hz: Annotated[
        float, Option("--rate-hz", min=1, max=60, help="Frames of the meters a second.")
    ] = 20.0,
    count: Count = None,
    url: Url = None,
    token: Token = None,
    ca_file: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Show meters, faders, counters and events live; waits for a node that is not there."""
    from . import monitor

    if not as_json and not monitor.can_draw():
        _say("monitor draws on a terminal, and there is none: add --json", EXIT_USAGE)

    async def work(session: Session) -> None:
        if as_json:
            await monitor.print_frames(session, count)
        else:
            await monitor.draw(session, count)

    options = {"subscribe": monitor.subscriptions(rate_hz), "is_patient": not as_json}
    run(work, url, token, ca_file, **options)


def add_commands(top: Typer) -> None:
    """Put `ctl` and `monitor` into a command line."""
    top.add_typer(ctl, name="ctl")
    top.command("monitor")(monitor_command)
