"""Commands about time: measure, bench, soak, report. With `app_live`, the top of everything."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from .app_live import (
    budget_for,
    engine_settings,
    input_overrides,
    latency_ms,
    overridden,
    stream_plan,
)
from .app_preset import EffectsConfig, PresetName, sound_named
from .command_line import AsJson, ConfigFile, Exit, Input, KeepAwake, Option, Output, Profile, Typer
from .errors import ConfigError

Plot = Annotated[Path | None, Option("--plot", help="Draw a histogram into this .png.")]


def measure_command(
    config_file: ConfigFile = None,
    source: Input = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Measure a device's round trip: connect its output to its input by a cable first.

    Exit code: 1 if nothing came back.
    """
    from ..latency.cable import measure_cable

    config = overridden(config_file, {"device.output": output} | input_overrides(source))
    if config.device.file or config.device.output == "none":
        raise ConfigError("measure needs a real input and output: name them by -i and -o")
    said: Any = (
        (lambda text: None) if as_json else (lambda text: print(f"stemrack: {text} ...", file=sys.stderr))
    )
    found: list[Any] = []

    def plan_for(resolved: Any) -> Any:
        found[:] = [resolved]
        return stream_plan(config, resolved)

    result, rate_hz = measure_cable(engine_settings(config), plan_for, said)
    delay = budget_for(config, found[0]).delay_samples
    facts = result.as_dict() | {"rate_hz": rate_hz, "engine_delay_samples": delay}
    if as_json:
        print(json.dumps(facts))
    elif not result.found:
        print(f"nothing came back (confidence {result.confidence:.2f}): is the cable in, are the levels up?")
    else:
        round_trip = result.delay_samples or 0.0
        for what, n in (("device and cable", round_trip), ("with the engine", round_trip + delay)):
            print(f"{what:<18} {n:9.1f} samples  {1e3 * n / rate_hz:7.2f} ms")
        level = f"level {result.level_db:.1f} dB, polarity {result.polarity:+d}"
        print(f"confidence {result.confidence:.2f}, {level}")
    raise Exit(0 if result.found else 1)


def bench_command(
    name: Profile = "live",
    runner: Annotated[list[str] | None, Option(help="Runner to measure (repeatable); default cpu.")] = None,
    seconds: Annotated[float, Option(min=1.0, help="Of music for each runner, or effect.")] = 20.0,
    threads: Annotated[int, Option(min=1, help="Threads of the networks, in all.")] = 2,
    paced: Annotated[bool, Option("--paced", help="Wait for each hop's time, as live.")] = False,
    source: Annotated[Path | None, Option("--input", help="Sound file to separate; default: noise.")] = None,
    preset: PresetName = None,
    inserts: Annotated[
        bool, Option("--inserts", help="Instead: each effect and scanned plugin alone, at its defaults.")
    ] = False,
    config_file: EffectsConfig = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Measure the time of a hop against its length: percentiles, stages, and a control that only spins.

    With --preset the effects of its chains are in the hop, and each insert is shown.
    """
    from ..latency import deadline
    from .screen import job_progress

    if inserts and (preset or plot or runner or paced):
        raise ConfigError(
            "--inserts measures effects alone: leave out --preset, --plot, --runner and --paced"
        )
    if config_file and not (preset or inserts):
        raise ConfigError("--config says where presets and impulses are: give --preset or --inserts too")
    sound = sound_named(preset, config_file) if preset else None
    if sound and not sound.chains:
        raise ConfigError(f"preset '{preset}' has no effects: nothing to measure")
    heard = deadline.bench_file(source) if source else deadline.bench_noise()
    if inserts:
        _bench_inserts(config_file, seconds, heard, as_json)
        return
    from .separate import load_separator

    names = runner or ["cpu"]
    separators = {n: load_separator(name, n, None, n_threads=threads) for n in names}
    with job_progress("bench", 2 * seconds * len(names)) as job:
        report = deadline.bench(
            separators,
            seconds,
            source=heard,
            paced=paced,
            sound=sound,
            on_progress=lambda what, amount: job.advance(amount),
        )
    if plot:
        deadline.draw_bench(report, plot)
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        _print_bench(name, report)


def _print_bench(name: str, report: Any) -> None:
    from ..latency.deadline import BENCH_HEADS, STAGE_HEADS, bench_rows, stage_rows
    from ..latency.effect_cost import INSERT_HEADS, insert_rows
    from .screen import print_lines, print_table

    print_table(f"Hop times, profile {name}", BENCH_HEADS, bench_rows(report))
    for times in report.series:
        if times.stage_ms:
            print_table(f"Stages, {times.name}", STAGE_HEADS, stage_rows(times))
        if chains := times.chains:
            title = f"Inserts, {times.name}, hops of {chains.hop_us:.0f} us"
            print_table(title, INSERT_HEADS, insert_rows(chains.times_us, chains.hop_us))
            print_lines([f"{insert} bypassed: {why}" for insert, why in chains.bypassed.items()])


def _bench_inserts(config_file: Path | None, seconds: float, heard: Any, as_json: bool) -> None:
    from ..latency.deadline import machine
    from ..latency.effect_cost import EFFECT_HEADS, effect_costs, effect_rows
    from .app_effects import effects_of
    from .screen import job_progress, print_lines, print_table

    effects = effects_of(overridden(config_file, {}))
    with job_progress("effects", seconds * len(list(effects.table))) as job:

        def advance(key: str, amount: float) -> None:
            job.describe(key)
            job.advance(amount)

        costs = effect_costs(effects.table, seconds, heard, impulses=effects.impulses, on_progress=advance)
    hop_us = costs[0].hop_us
    if as_json:
        found = {"machine": machine(), "hop_us": hop_us, "effects": [c.as_dict() for c in costs]}
        print(json.dumps(found))
        return
    print_table(f"Effects alone, hops of {hop_us:.0f} us", EFFECT_HEADS, effect_rows(costs))
    print_lines([f"{cost.key}: {cost.failed}" for cost in costs if cost.failed])


def soak_command(
    config_file: ConfigFile = None,
    source: Input = None,
    output: Output = None,
    minutes: Annotated[float, Option(min=0.05, help="Of the engine, and as many of the control.")] = 10.0,
    slice_s: Annotated[
        float, Option("--slice", min=2.0, help="Seconds until the other takes its turn.")
    ] = 60.0,
    control: Annotated[bool, Option("--control/--no-control", help="Run a control in turns.")] = True,
    control_server: Annotated[str | None, Option(help="JACK server of the control.")] = None,
    busy_threads: Annotated[int, Option(min=0, help="Busy Python threads in the node.")] = 0,
    fault: Annotated[
        list[str] | None, Option(help="nan, raise or slow (repeatable): one every 10 s.")
    ] = None,
    n_clients: Annotated[
        int, Option("--clients", min=0, help="Clients on the control port, 10 of them with meters.")
    ] = 0,
    moves_per_s: Annotated[float, Option("--moves", min=0.0, help="Their fader moves a second.")] = 2_000.0,
    n_cycles: Annotated[
        int, Option("--cycles", min=0, help="Start and stop the stream so often instead.")
    ] = 0,
    preset: Annotated[
        str | None, Option(help="Effect chains of the engine: a preset's name, or a .toml.")
    ] = None,
    n_edits: Annotated[
        int, Option("--edits", min=0, help="Bursts of so many edits of chains, each 100, 10 or 1 ms.")
    ] = 0,
    keep_awake: KeepAwake = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Run for long, in real time, and count what was late, beside a control that shows what the machine does.

    Exit code: 1 if the engine missed more than its control.
    """
    from ..latency import soak
    from .engine import Engine

    values = {"device.output": output, "effects.preset": preset, "engine.keep_awake": keep_awake}
    config = overridden(config_file, values | input_overrides(source))
    settings = engine_settings(config)
    if unknown := sorted(set(fault or ()) - set(soak.FAULTS)):
        raise ConfigError(f"--fault {unknown[0]}: there are {', '.join(soak.FAULTS)}")
    if n_cycles:
        _cycles(settings, n_cycles, as_json)
    options = soak.SoakOptions(
        minutes=minutes, slice_s=slice_s, busy_threads=busy_threads, faults=tuple(fault or ())
    )
    own = {"JACK_DEFAULT_SERVER": control_server} if control_server else {}
    reports: list[Any] = []
    engine = soak.Variant(lambda _: Engine(settings))
    if n_clients:
        engine = replace(engine, beside=_clients_beside(config, n_clients, moves_per_s, reports))
    elif n_edits:
        from ..latency.chain_load import edits

        engine = replace(engine, beside=lambda made, seconds: edits(made, n_edits))
    series = _soak(engine, soak.Variant(_control(config, settings), own) if control else None, options)
    if plot:
        from ..latency.plots import hop_histogram

        times = {name: s.times_ms for name, s in series.items()}
        hop_histogram(plot, times, 1e3 * settings.hop / 44_100, f"Hop times, {minutes:g} minutes")
    if as_json:
        found = {name: s.as_dict() for name, s in series.items()}
        print(json.dumps(found | ({"clients": [asdict(r) for r in reports]} if reports else {})))
    else:
        _print_soak(series, reports)
    missed = {n: (s.counted["late_hops"], s.counted["xruns"]) for n, s in series.items()}
    worse = control and any(a > b for a, b in zip(missed[soak.ENGINE], missed[soak.CONTROL], strict=True))
    raise Exit(1 if worse else 0)


def _soak(engine: Any, control: Any, options: Any) -> Any:
    from ..latency import soak
    from .screen import job_progress

    total = 60.0 * options.minutes * (2 if control else 1)
    with job_progress("soak", total) as job:

        def advance(seconds: float, what: str) -> None:
            job.describe(what)
            job.advance(seconds)

        return soak.soak(engine, control, options, advance)


def _clients_beside(config: Any, n_clients: int, moves_per_s: float, reports: list[Any]) -> Any:
    """Return what goes on beside an engine: its control port, and clients that move faders."""
    from ..latency.control_load import LoadOptions, loaded
    from .app_control import control_for

    @contextmanager
    def beside(engine: Any, seconds: float) -> Iterator[None]:
        with control_for(config, engine, lambda _: None, lambda: latency_ms(config, engine)) as served:
            options = LoadOptions(n_clients=n_clients, moves_per_s=moves_per_s, seconds=seconds)
            with loaded(served.url, served.token, options, reports):
                yield

    return beside


def _control(config: Any, settings: Any) -> Any:
    """Return the control's variant: given the median hop time, an engine that spins for it."""
    from ..latency.soak import SpinningSeparator
    from .chains import Chains
    from .engine import Engine
    from .profile_kinds import profile_facts
    from .worker import WorkerSettings

    latency_samples = profile_facts(config.engine.profile).latency_samples
    devices = replace(settings.devices, function="control")

    def make(median_s: float) -> Any:
        spinning = SpinningSeparator(settings.hop, latency_samples, median_s)
        worker = WorkerSettings(load=spinning, realtime=settings.worker.realtime)
        return Engine(replace(settings, worker=worker, devices=devices, chains=Chains()))

    return make


def _print_soak(series: Any, reports: Any) -> None:
    from ..latency.soak import SOAK_HEADS, soak_rows
    from .screen import print_lines, print_table

    print_table("Soak", SOAK_HEADS, soak_rows(series))
    for name, one in series.items():
        shares = one.as_dict()["processor_percent"]
        print_lines([f"{name}, processor: " + ", ".join(f"{k} {v} %" for k, v in shares.items() if v >= 0.1)])
        print_lines([f"{name}, late hops/xruns by slice: " + " ".join(f"{a}/{b}" for a, b in one.slices)])
    if reports:
        from ..latency.control_load import LOAD_HEADS, load_rows

        print_table("Clients", LOAD_HEADS, load_rows(reports))
        memory = ", ".join(f"{a:g} to {b:g}" for a, b in (r.node_mib for r in reports))
        print_lines([f"memory of the node while they were there, MiB: {memory}"])


def _cycles(settings: Any, n: int, as_json: bool) -> None:
    from ..latency.soak import cycles
    from .engine import Engine
    from .screen import job_progress

    with Engine(settings) as engine, job_progress("start and stop", n) as job:
        facts = cycles(engine, n, lambda amount, what: job.advance(amount))
    print(json.dumps(facts) if as_json else "\n".join(f"{k}: {v}" for k, v in facts.items()))
    raise Exit(0 if facts["before"] == facts["after"] else 1)


def report_command(
    out: Annotated[Path, Option("-o", "--out", help="The page: .html or .md.")] = Path("latency.html"),
    config_file: ConfigFile = None,
    seconds: Annotated[float, Option(min=1.0, help="Of bench, and of a run without a device.")] = 20.0,
) -> None:
    """Write one page with the latency budget, hop times with their histogram, and a short live run."""
    from ..latency.deadline import bench
    from ..latency.report import write_report
    from ..latency.soak import SoakOptions, Variant
    from .audio import resolve
    from .engine import Engine
    from .screen import job_progress
    from .separate import load_separator

    config = overridden(config_file, {"device.output": "none", "device.input": "none"})
    settings = engine_settings(config)
    budget = budget_for(config, resolve(settings.devices))
    separator = load_separator(
        config.engine.profile, config.engine.runner, None, n_threads=config.engine.threads
    )
    with job_progress("bench", 2 * seconds) as job:
        measured = bench(
            {config.engine.runner: separator}, seconds, on_progress=lambda what, amount: job.advance(amount)
        )
    options = SoakOptions(minutes=seconds / 60.0, slice_s=seconds)
    series = _soak(Variant(lambda _: Engine(settings)), Variant(_control(config, settings)), options)
    print(write_report(out, budget, measured, series))


def add_commands(cli: Typer) -> None:
    """Add the commands of this file to the command line."""
    cli.command("measure")(measure_command)
    cli.command("bench")(bench_command)
    cli.command("soak")(soak_command)
    cli.command("report")(report_command)
