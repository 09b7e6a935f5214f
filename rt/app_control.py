"""Commands and parts of commands around the control protocol: what `stemrack run` offers to others."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app_profile import ProfileDesk
    from .live import Listen, Served


def server_settings(config: Any) -> Any:
    """Return the settings of the control server that a configuration describes."""
    from .control.auth import Gate, is_loopback
    from .control.server import ServerSettings

    control = config.control
    own = [] if is_loopback(control.host) else [socket.gethostname(), f"{socket.gethostname()}.local"]
    tls = (Path(control.tls_certificate), Path(control.tls_key)) if control.tls_certificate else None
    return ServerSettings(
        host=control.host,
        port=control.port,
        gate=Gate.around(control.host, (*own, *control.names), control.origins),
        needs_token=control.token,
        tls=tls,
        max_clients=control.max_clients,
    )


def node_settings(
    config: Any, engine: Any, latency_ms: Callable[[], float], profiles: ProfileDesk | None = None
) -> Any:
    """Return what the node shows and does for others; profiles: for changing to another.

    Raises: ConfigError for unusable files.
    """
    from importlib.metadata import version

    from .app_effects import presets_of
    from .control.auth import Tokens, load_tokens
    from .control.node import NodeSettings
    from .state_folder import state_folder

    control = config.control
    if control.token:
        tokens = load_tokens(
            Path(control.token_file) if control.token_file else state_folder() / "tokens.json"
        )
    else:
        tokens = Tokens({}, everybody="admin")
    found = engine.resolved
    return NodeSettings(
        name=f"stemrack {version('stemrack')}",
        tokens=tokens,
        recording=config.recording,
        profile=config.engine.profile,
        latency_ms=latency_ms,
        ramp_ms=config.mixer.ramp_ms,
        inputs=_choices(control.inputs, found.input),
        outputs=_choices(control.outputs, found.output),
        scene_file=state_folder() / "scenes.json",
        presets=presets_of(config, engine.effects.table),
        profiles=profiles.choices if profiles else (),
        change_profile=profiles.change if profiles else None,
    )


def _choices(named: tuple[str, ...], present: str | None) -> tuple[str, ...]:
    """Return the devices a client may choose: those of the configuration, and the present one."""
    return tuple(dict.fromkeys((*named, *([present] if present else []))))


def lend_own_token(environment: MutableMapping[str, str]) -> None:
    """Let `ctl` and `monitor` use the token of the node that this user runs here, unless one is given."""
    from .control.auth import load_tokens
    from .state_folder import state_folder

    path = state_folder() / "tokens.json"
    if "STEMRACK_TOKEN" not in environment and "STEMRACK_URL" not in environment and path.exists():
        environment["STEMRACK_TOKEN"] = load_tokens(path).by_role["admin"]


@contextmanager
def control_for(
    config: Any,
    engine: Any,
    listen: Listen,
    latency_ms: Callable[[], float],
    profiles: ProfileDesk | None = None,
) -> Iterator[Served]:
    """Serve the protocol for as long as the context lasts; gives where. profiles: for changing to another.

    Raises: EngineStateError if the port is taken; ConfigError.
    """
    from importlib.resources import files

    from .live import Served

    if not config.control.port:
        yield Served()
        return
    from .control.auth import own_address
    from .control.node import EngineNode
    from .control.pages import load_pages
    from .control.service import ControlService
    from .state_folder import state_folder

    settings = node_settings(config, engine, latency_ms, profiles)
    node = EngineNode(engine, settings)
    web = Path(str(files("stemrack.clients"))) / "web"
    service = ControlService(node, server_settings(config), load_pages(web))
    with contextlib.ExitStack() as stack:
        address = service.start()
        stack.callback(service.stop)
        if config.midi.ports:
            from .midi.desk import MidiDesk

            mapping = Path(config.midi.mapping) if config.midi.mapping else state_folder() / "midi.toml"
            desk = MidiDesk(node, config.midi.ports, mapping, config.midi.api)
            service.post(desk.start)
            stack.callback(desk.stop)
        listen(node.note)
        token = settings.tokens.by_role.get("operator", "")
        lines = [f"  mixer: {address.url(token)}"]
        if service.is_open_to_others:
            lines.append(f"  from other machines: {replace(address, host=own_address()).url(token)}")
        if config.control.token:
            lines.append("  (that address lets people move faders; roles viewer and admin: tokens.json)")
        if config.control.announce and service.is_open_to_others:
            from .control.announce import announced

            stack.enter_context(announced(settings.name, address.port, tls=address.tls))
        yield Served(tuple(lines), address.url(), token)
