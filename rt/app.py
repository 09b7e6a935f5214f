"""The command line. Nothing heavy is imported before a command runs, so that help comes at once."""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

from ..clients import cli as clients_cli
from ..models.errors import ModelError
from . import app_compare, app_control, app_latency, app_live, app_models, app_plugins
from .app_preset import EffectsConfig, PresetName, effects_named, sound_named
from .command_line import Argument, Context, Exit, Option, Profile, RunnerName, Typer, Weights
from .errors import ConfigError, HostError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

cli = Typer(
    help="A song in; drums, bass, other and vocals out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class ClipModeName(StrEnum):
    """The values of --clip-mode; `offline.RenderSettings` says what they do."""

    attenuate = "attenuate"
    none = "none"
    clamp = "clamp"
    rescale = "rescale"


Live = Annotated[bool, Option("--live", help="Hop by hop, exactly as the live engine does; slower.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"stemrack {version('stemrack')}")
        raise Exit


@cli.callback()
def _top(
    version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@cli.command("render")
def render_command(
    inputs: Annotated[list[Path], Argument(help="Sound files: wav, flac, mp3, ogg, m4a, mp4, ...")],
    out: Annotated[Path, Option("-o", "--out", help="Folder to write to.")] = Path("separated"),
    name: Profile = "live",
    filename: Annotated[
        str, Option("--filename", help="Path below OUT/NAME: {track}, {trackext}, {stem}, {ext}.")
    ] = "{track}/{stem}.{ext}",
    two_stems: Annotated[
        str | None, Option("--two-stems", metavar="STEM", help="Only this stem, and no_STEM.")
    ] = None,
    flac: Annotated[bool, Option("--flac", help="Write flac.")] = False,
    mp3: Annotated[bool, Option("--mp3", help="Write mp3.")] = False,
    mp3_bitrate: Annotated[int, Option("--mp3-bitrate", help="Bit rate of mp3 in kbit/s.")] = 320,
    int24: Annotated[bool, Option("--int24", help="24-bit samples (else 16).")] = False,
    float32: Annotated[bool, Option("--float32", help="32-bit float samples: exact.")] = False,
    clip_mode: Annotated[
        ClipModeName,
        Option(
            help="Stems above full scale: attenuate (all by one gain: they still sum to the song, turned "
            "down), none, clamp, rescale (each by its own gain)."
        ),
    ] = ClipModeName.attenuate,
    jobs: Annotated[int, Option("-j", "--jobs", min=1, help="Files rendered at the same time.")] = 1,
    live: Live = False,
    preset: PresetName = None,
    mix: Annotated[bool, Option("--mix", help="Also the sum of the stems, as mix.wav beside them.")] = False,
    config_file: EffectsConfig = None,
    control_log: Annotated[
        Path | None, Option(help="With --live: also the mix that this log of `stemrack run` heard.")
    ] = None,
    runner: RunnerName = "auto",
    weights: Weights = None,
    as_json: Annotated[bool, Option("--json", help="Report in JSON lines on stdout.")] = False,
) -> None:
    """Separate files into stems that sum to the original.

    Writes OUT/NAME/TRACK/STEM.wav at the input's rate, channels and length, 16 bits. With --preset,
    OUT/NAME-PRESET/TRACK/STEM.wav: the stems behind the preset's effects and faders. They are in time to the
    sample; what still rings at the end of the song is cut. Exit code: 0 all rendered, 1 some failed, 2 wrong
    usage, 3 no input could be read.
    """
    if (flac and mp3) or (int24 and float32):
        raise ConfigError("choose one of --flac and --mp3, and one of --int24 and --float32")
    if control_log and not (live and len(inputs) == 1):
        raise ConfigError("--control-log goes with --live and one file: the one that was played")
    if control_log and (mix or preset):
        raise ConfigError("--control-log writes the mix that was heard: leave out --mix and --preset")
    if config_file and not (preset or control_log):
        raise ConfigError("--config says where presets and impulses are: give --preset too")
    from .files import SinkFormat
    from .offline import RenderSettings
    from .render import RenderOptions, render, replay_mix

    sink_format = SinkFormat(
        container="flac" if flac else "mp3" if mp3 else "wav",
        subtype="int24" if int24 else "float32" if float32 else "int16",
        mp3_kbps=mp3_bitrate,
    )
    options = RenderOptions(
        inputs=tuple(inputs),
        out=out,
        name=name,
        template=filename,
        settings=RenderSettings(
            sink_format=sink_format,
            clip_mode=clip_mode.value,
            two_stems=two_stems,
            live=live,
            with_mix=mix,
            sound=sound_named(preset, config_file) if preset else None,
        ),
        jobs=jobs,
        as_json=as_json,
    )
    from .separate import load_separator

    load = partial(load_separator, name, runner, weights, n_threads=1 if jobs > 1 else 2)
    code = render(options, load)
    if control_log and not code:
        replay_mix(options, load, control_log, effects_named(config_file))
    raise Exit(code)


@cli.command("evaluate")
def evaluate_command(
    folder: Annotated[Path, Argument(help="A folder of songs, each a folder of stem files.")],
    name: Profile = "live",
    weights: Weights = None,
    runner: RunnerName = "auto",
    json_path: Annotated[Path | None, Option("--json", help="Write all figures to this file.")] = None,
    csv_path: Annotated[Path | None, Option("--csv", help="Write a table to this file.")] = None,
    museval: Annotated[bool, Option("--museval", help="Measure BSSEval v4 as well; slow.")] = False,
    live: Live = False,
    limit: Annotated[int | None, Option("--limit", min=1, help="Take the first songs only.")] = None,
) -> None:
    """Measure the separation quality on songs whose true stems are known."""
    from . import evaluate

    evaluate.evaluate_command(
        folder,
        profile=name,
        weights=weights,
        runner=runner,
        json_path=json_path,
        csv_path=csv_path,
        museval=museval,
        live=live,
        limit=limit,
    )


cli.command("compare")(app_compare.compare_command)
clients_cli.add_commands(cli)
app_live.add_commands(cli)
app_latency.add_commands(cli)
app_models.add_commands(cli)
app_plugins.add_commands(cli)
train = Typer(help="Make weights: prepare material, then fit a network to it.", no_args_is_help=True)
cli.add_typer(train, name="train")


@train.command("prepare")
def prepare_command(
    material: Annotated[list[Path], Argument(help="Folders of material, or in MUSDB18-HQ layout.")],
    out: Annotated[Path, Option("--out", help="Folder of the shards.")],
    songs_minutes: Annotated[float, Option(min=0, help="Minutes of rendered songs.")] = 90.0,
    voices_minutes: Annotated[float, Option(min=0, help="Minutes of voices.")] = 55.0,
    seed: Annotated[int, Option(help="The same seed gives the same shards.")] = 1,
    pool: Annotated[list[str] | None, Option("--pool", help="Only this pool (repeatable).")] = None,
    soundfont: Annotated[
        list[Path] | None, Option(help="Render MIDI songs through this .sf2 too (repeatable).")
    ] = None,
    soundfont_minutes: Annotated[float, Option(min=0, help="Minutes of songs a soundfont.")] = 30.0,
    unlabelled: Annotated[Path | None, Option(help="Folder of real songs for the teacher to label.")] = None,
    teacher: Annotated[
        Path | None, Option(help="Weights of the TDC vocals network, for --unlabelled.")
    ] = None,
) -> None:
    """Turn audio and MIDI into shards. What is already there is kept, so it can be interrupted."""
    if (unlabelled is None) != (teacher is None):
        raise ConfigError("--unlabelled and --teacher go together")
    from ..models.train import prepare

    progress = partial(print, file=sys.stderr, flush=True)
    shards = prepare.prepare(
        material,
        out,
        songs_minutes=songs_minutes,
        voices_minutes=voices_minutes,
        seed=seed,
        pools=pool or None,
        soundfonts=soundfont or (),
        soundfont_minutes=soundfont_minutes,
        progress=progress,
    )
    if unlabelled is not None and teacher is not None:
        from ..models.train.teacher import prepare_unlabelled

        shards = prepare_unlabelled(unlabelled, teacher, out, progress=progress)
    print(f"{len(shards)} shards, {sum(s.n_samples for s in shards) / 44_100 / 60:.0f} minutes in {out}")


@train.command(
    "fit",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def fit_command(context: Context) -> None:
    """Train a network on shards; resumes where it stopped. `--help` lists its options."""
    from ..models.train import fit

    raise Exit(fit.main(context.args))


train.command("blend")(app_compare.blend_command)


@train.command("demo")
def demo_command(
    material: Annotated[Path, Argument(help="Folder of the training material.")],
    out: Annotated[Path, Option("--out", help="Folder to write to.")] = Path("demo"),
) -> None:
    """Render the demo song and its true stems."""
    from ..models.train.demo import make_demo

    for path in make_demo(material, out):
        print(path)


@train.command("ship")
def ship_command(
    run: Annotated[Path, Argument(help="Folder of a finished fit.")],
    report: Annotated[Path, Option(help="JSON of `stemrack evaluate` with the run's best weights.")],
    material: Annotated[list[Path], Option(help="Folder the shards were prepared from (repeatable).")],
    target: Annotated[Path, Option(help="Where to, without ending: models/weights/live")],
    note: Annotated[Path | None, Option(help="File with words for the model card.")] = None,
) -> None:
    """Copy a run's best weights to where they ship, with manifest and model card."""
    from ..models.train.card import ship

    for path in ship(run, report, material, target, note.read_text().strip() if note else ""):
        print(path)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: errors of ours in one line, without a traceback."""
    # ended by a signal: leave through the context managers, so that nothing half-written stays
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if (sys.argv[1:] if arguments is None else arguments)[:1] in (["ctl"], ["monitor"]):
            app_control.lend_own_token(os.environ)
        code = cli(arguments, standalone_mode=True) or 0
    except (HostError, ModelError) as error:
        print(f"stemrack: {error}", file=sys.stderr)
        code = EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
