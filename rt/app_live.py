"""Commands around the live node: run, devices, doctor. With `app_latency`, the top of everything."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from .command_line import AsJson, ConfigFile, Exit, Input, KeepAwake, Option, Output, Typer
from .errors import ConfigError

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".m4a", ".mp4")
"""Of names that are meant as files even where there is none; a device may be called `USB 2.0`."""


def overridden(config_file: Path | None, values: dict[str, Any]) -> Any:
    """Return the configuration of a file, or the default one, with what the command line says."""
    from .config import Config, load_config, with_overrides

    config = load_config(config_file) if config_file else Config()
    return with_overrides(config, values)


def input_overrides(given: str | None) -> dict[str, Any]:
    """Return what --input changes: a name that is a file's plays the file."""
    if given is None:
        return {}
    if Path(given).is_file():
        return {"device.file": given}
    suffix = Path(given).suffix.lower()
    if suffix and ("/" in given or suffix in SOUND_SUFFIXES):
        raise ConfigError(f"--input {given}: no such file")
    return {"device.input": given, "device.file": ""}


def engine_settings(config: Any, slots: int = 0) -> Any:
    """Return the settings of the engine that a configuration describes.

    slots: hop of the slots of an engine that runs; 0: what suits the profile.
    Raises: ConfigError for what no engine has to be started to know; ModelError for profile and weights.
    """
    from .app_effects import effects_of, find_preset, with_faders
    from .audio import AUTO, DeviceChoice
    from .chains import Chains
    from .engine import EngineSettings
    from .profile_kinds import find_files, profile_facts
    from .runner_choice import CPU
    from .worker import WorkerSettings, load_from_profile

    engine, device = config.engine, config.device
    profile = profile_facts(engine.profile)
    weights = Path(engine.weights) if engine.weights else None
    find_files(profile.name, weights)
    if profile.is_whole:
        raise ConfigError(f"profile '{profile.name}' needs the whole track: it renders, and cannot play live")
    _check(config)
    wants_input = not device.file and device.input != "none"
    output: Any = None if device.output == "none" else device.output
    if output == "default" and device.file:
        output = AUTO
    effects = effects_of(config)
    chains, mixer = Chains(), config.mixer.state
    if config.effects.preset:
        preset = find_preset(config, effects.table, config.effects.preset)
        chains, mixer = preset.chains, with_faders(mixer, preset)
    return EngineSettings(
        hop=profile.hop,
        worker=WorkerSettings(
            load=partial(load_from_profile, engine.profile, engine.runner, weights, engine.threads),
            realtime=engine.realtime,
            runner=engine.runner if profile.may_use_cuda else "",
            on_cpu=partial(load_from_profile, engine.profile, CPU, weights, engine.threads),
        ),
        devices=DeviceChoice(
            input=device.input if wants_input else None,
            output=output,
            rate_hz=device.rate_hz,
            block_samples=device.block_samples,
            latency=device.latency,
            keeps_awake=engine.keep_awake,
        ),
        plan_for=lambda resolved: stream_plan(config, resolved, slots),
        mixer=mixer,
        input_file=Path(device.file) if device.file else None,
        effect_table=effects.table,
        impulses=effects.impulses,
        chains=chains,
        effects_allowance_samples=config.effects.allowance_samples,
    )


def _check(config: Any) -> None:
    """Refuse what would show only after the processes have been started, or as silence."""
    from .awake import why_not_awake
    from .separate import RUNNERS

    engine, device = config.engine, config.device
    if engine.keep_awake and (why := why_not_awake()):
        raise ConfigError(f"[engine] keep_awake: {why}; leave it out")
    if engine.runner not in RUNNERS:
        raise ConfigError(f"[engine] runner = {engine.runner!r}: must be one of {', '.join(RUNNERS)}")
    if device.file and not Path(device.file).is_file():
        raise ConfigError(f"[device] file = {device.file!r}: no such file")
    if device.output == "none" and not device.file and device.input not in ("default", "none"):
        said = "with output none there is no input either: name an output device, or a file as the input"
        raise ConfigError(f"[device] input = {device.input!r}: {said}")


def budget_for(config: Any, resolved: Any, slots: int = 0, effects: tuple[int, int] = (0, 0)) -> Any:
    """Return the latency budget on the devices that were found; slots: as for `engine_settings`.

    effects: latency of the chains and time for them, in samples.
    """
    from ..latency.budget import Budget
    from .block import slot_hop
    from .limiter import limiter_latency
    from .pipeline import grid_hop, live_latency_samples
    from .profile_kinds import profile_facts

    profile = profile_facts(config.engine.profile)
    slots = slots or slot_hop(profile.hop)
    grid = grid_hop(profile.hop, resolved.rate_hz, slots)
    return Budget(
        rate_hz=resolved.rate_hz,
        hop=max(profile.hop, slots),
        grid_samples=grid,
        block_samples=resolved.block_samples,
        largest_block=resolved.largest_block,
        separator_samples=live_latency_samples(profile.hop, profile.latency_samples, resolved.rate_hz, grid),
        allowance_samples=config.engine.allowance_samples,
        effects_samples=effects[0],
        effects_allowance_samples=effects[1],
        limiter_samples=limiter_latency(LIMITER_LOOKAHEAD) if config.mixer.true_peak else 0,
        follower_samples=capture_target(resolved) if resolved.separate_input else 0,
        window_ms=profile.window_latency_ms,
    )


def capture_target(resolved: Any) -> int:
    """Return the fill of the capture ring: a block of each device, and one of either being late."""
    return 4 * max(resolved.block_samples, resolved.largest_block, 256) + CAPTURE_RESERVE


CAPTURE_RESERVE = 512
"""More than the drift follower's own reach (`drift.N_TAPS`, `RESERVE_SAMPLES`)."""
LIMITER_LOOKAHEAD = 64
"""Samples; 1.5 ms at 44.1 kHz."""


def stream_plan(config: Any, resolved: Any, slots: int = 0) -> Any:
    """Return the stream's plan on the devices found.  Raises: ConfigError for missing channels."""
    from .block import INPUT_FROM_CAPTURE, INPUT_FROM_DEVICE
    from .config import pair_of
    from .stream import StreamPlan

    n_outputs = config.outputs.n_channels
    if n_outputs > resolved.n_outputs:
        name = resolved.output or "virtual clock"
        raise ConfigError(f"[outputs] wants channel {n_outputs}, '{name}' has {resolved.n_outputs}")
    heard = pair_of(config.device.input_channels)
    n_inputs = max(heard) + 1 if resolved.input else 0
    if n_inputs > resolved.n_inputs:
        raise ConfigError(
            f"[device] input_channels wants {n_inputs}, '{resolved.input}' has {resolved.n_inputs}"
        )
    return StreamPlan(
        rate_hz=resolved.rate_hz,
        delay_samples=budget_for(config, resolved, slots).delay_samples,
        n_in_channels=n_inputs,
        n_out_channels=n_outputs,
        input_source=INPUT_FROM_CAPTURE if resolved.separate_input else INPUT_FROM_DEVICE,
        input_channels=heard,
        capture_target_samples=capture_target(resolved),
        bus_channels=config.outputs.bus_channels,
        limiter_samples=LIMITER_LOOKAHEAD if config.mixer.true_peak else 0,
    )


def head_lines(config: Any, engine: Any) -> list[str]:
    """Return what runs, and the latency budget."""
    from ..latency.budget import budget_rows, worker_time_samples

    found = engine.resolved
    budget = budget_for(config, found, effects=engine.effects.planned_parts)
    source = config.device.file or found.input or "silence"
    if config.device.file:
        source += " (looped)"
    block = str(found.block_samples) if found.block_samples else f"changing, up to {found.largest_block}"
    priority = "yes" if engine.is_realtime else "no"
    awake = ", processors kept awake" if config.engine.keep_awake else ""
    lines = [
        f"stemrack: {source} -> {config.engine.profile} -> {found.output or 'no device (virtual clock)'}",
        f"  {found.rate_hz} Hz, blocks of {block}, real-time priority: {priority}{awake}",
        "",
    ]
    lines += [
        f"  {name:<26}{n:>8}  {ms:>6}{' ms' if n != 'unknown' else ''}" for name, n, ms in budget_rows(budget)
    ]
    total = budget.total_samples
    time_samples = worker_time_samples(budget)
    lines += [
        f"  {'input to output':<26}{total:>8}  {budget.ms(total):>6.1f} ms",
        f"  (papers would say {budget.window_ms:.1f} ms, the window; the worker has "
        f"{budget.ms(time_samples):.1f} ms a hop)",
    ]
    return lines


def run_command(
    config_file: ConfigFile = None,
    source: Input = None,
    output: Output = None,
    profile: Annotated[str | None, Option("-n", "--profile", help="Profile, by name or .toml.")] = None,
    runner: Annotated[
        str | None, Option(help="Engine of the networks: auto, cpu, int8-cpu, onnx-cpu, torch-cpu or cuda.")
    ] = None,
    weights: Annotated[str | None, Option(help="Weights in place of the profile's own.")] = None,
    rate_hz: Annotated[int | None, Option("--rate", help="Sample rate; 0: the device's own.")] = None,
    block: Annotated[int | None, Option(help="Samples a block; 0: as the device likes.")] = None,
    allowance: Annotated[int | None, Option(help="Samples of time for the worker; 0: the least.")] = None,
    keep_awake: KeepAwake = None,
    preset: Annotated[
        str | None, Option(help="Faders and effects to begin with: a name, or a .toml.")
    ] = None,
    record: Annotated[Path | None, Option(help="Record the mix below this folder.")] = None,
    record_stems: Annotated[bool, Option("--record-stems", help="Record the stems too.")] = False,
    control_log: Annotated[Path | None, Option(help="Write all fader moves to this file.")] = None,
    host: Annotated[str | None, Option(help="Where the mixer listens; 0.0.0.0: all networks.")] = None,
    port: Annotated[int | None, Option(help="Port of mixer and protocol; 0: none.")] = None,
    midi: Annotated[
        list[str] | None, Option(help="MIDI ports to listen to, as '*' or 'nanoKONTROL*' (repeatable).")
    ] = None,
    seconds: Annotated[float | None, Option(min=0.0, help="Stop after this time.")] = None,
    print_config: Annotated[
        bool, Option("--print-config", help="Print all settings as TOML and exit.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Separate live: from an audio interface or a looped file to an interface, until Ctrl-C."""
    values = {
        "device.output": output,
        "engine.profile": profile,
        "engine.runner": runner,
        "engine.weights": weights,
        "device.rate_hz": rate_hz,
        "device.block_samples": block,
        "engine.allowance_samples": allowance,
        "engine.keep_awake": keep_awake,
        "effects.preset": preset,
        "control.host": host,
        "control.port": port,
        "midi.ports": midi or None,
        "recording.folder": None if record is None else str(record),
        "recording.stems": record_stems or None,
    }
    config = overridden(config_file, values | input_overrides(source))
    if control_log and not control_log.absolute().parent.is_dir():
        raise ConfigError(f"--control-log {control_log}: its folder is not there; make it first")
    if print_config:
        from .config import config_text

        print(config_text(config), end="")
        return
    if not as_json:
        print(
            "stemrack: loading (the first time, compiling: about a minute) ...", file=sys.stderr, flush=True
        )
    from .live import RunOptions, run

    options = RunOptions(
        head=partial(head_lines, config),
        as_json=as_json,
        seconds=seconds,
        control_log=control_log,
        record=config.recording if record or record_stems else None,
        control=partial(_control, config),
    )
    raise Exit(run(engine_settings(config), options))


def _control(config: Any, engine: Any, listen: Any) -> Any:
    from .app_control import control_for
    from .app_profile import ProfileDesk

    desk = ProfileDesk(config, engine, engine_settings)
    return control_for(config, engine, listen, lambda: latency_ms(desk.config, engine), desk)


def latency_ms(config: Any, engine: Any) -> float:
    """Return what the budget says on the devices that the engine has now."""
    budget = budget_for(config, engine.resolved, engine.slot_hop, engine.effects.planned_parts)
    return budget.ms(budget.total_samples)


def devices_command(as_json: AsJson = False) -> None:
    """List the audio devices, their channels, and the latencies that they report."""
    from .asking import ask_devices

    found = ask_devices()
    if as_json:
        print(json.dumps(found))
        return
    from .screen import print_lines, print_table

    if not found["devices"]:
        print_lines(["No audio device. `stemrack run --input song.flac --output none` needs none."])
        return
    rows = []
    for d in found["devices"]:
        marks = "".join(m for m, k in ((">", "input"), ("<", "output")) if found["default"][k] == d["index"])
        low = " / ".join(f"{v:.1f}" for v in d["low_latency_ms"])
        high = " / ".join(f"{v:.1f}" for v in d["high_latency_ms"])
        channels = f"{d['n_inputs']} / {d['n_outputs']}"
        rows.append(
            [str(d["index"]) + marks, d["name"], d["host_api"], channels, f"{d['rate_hz']:.0f}", low, high]
        )
    heads = ["", "name", "host API", "in / out", "Hz", "low, ms", "high, ms"]
    print_table("Devices", heads, rows)
    print_lines(["> default input, < default output; latencies as the devices report them, not measured"])


def doctor_command(
    config_file: ConfigFile = None,
    quick: Annotated[bool, Option("--quick", help="Leave the 5-second self-test out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at what is installed, which devices there are, which runner would be used, and how fast it is.

    Exit code: 1 if something fails.
    """
    from .doctor import diagnose
    from .screen import print_lines

    findings = []
    for finding in diagnose(overridden(config_file, {}), self_test=not quick):
        findings.append(finding)
        if not as_json:
            mark = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}[finding.state]
            remedy = f"\n{'':21}-> {finding.remedy}" if finding.remedy else ""
            print_lines([f"{mark}  {finding.name:<14} {finding.text}{remedy}"])
    if as_json:
        print(json.dumps([f.as_dict() for f in findings]))
    raise Exit(1 if any(f.state == "fail" for f in findings) else 0)


def add_commands(cli: Typer) -> None:
    """Add the commands of this file to the command line."""
    cli.command("run")(run_command)
    cli.command("devices")(devices_command)
    cli.command("doctor")(doctor_command)
