"""Commands that compare: the quality table of profiles, and the shares of a blend."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .command_line import Argument, AsJson, Option, RunnerName

if TYPE_CHECKING:
    from ..models.train.blend_fit import Fitted
    from .compare import Load

MIXTURES = 8
"""Held-out mixtures a batch."""

WeightsFolder = Annotated[
    Path | None,
    Option("--weights", help="Folder of weights in place of the profile's own (one network: a file too)."),
]


def compare_command(
    folder: Annotated[Path, Argument(help="A folder of songs, each a folder of stem files.")],
    profile: Annotated[
        list[str] | None, Option("--profile", help="Profile (repeatable); default: live.")
    ] = None,
    weights: WeightsFolder = None,
    runner: RunnerName = "auto",
    json_path: Annotated[Path | None, Option("--json", help="Write all figures to this file.")] = None,
    csv_path: Annotated[Path | None, Option("--csv", help="Write all songs and stems to this file.")] = None,
    limit: Annotated[int | None, Option("--limit", min=1, help="Take the first songs only.")] = None,
    museval: Annotated[bool, Option("--museval", help="Measure BSSEval v4 as well; slow.")] = False,
    ablate: Annotated[
        bool, Option("--ablate", help="Also switch off or change parts of each profile, one at a time.")
    ] = False,
) -> None:
    """Measure each network of a profile, its fast mode and the whole, beside mixture and ideal masks."""
    from .compare import checked_songs, compare
    from .compare_report import print_comparison, settings_of, write_csv, write_json

    profiles = list(dict.fromkeys(profile or ["live"]))
    songs = checked_songs(folder, limit, ablate=ablate)
    settings = settings_of(profiles, weights, runner)
    found = compare(songs, profiles, weights=weights, runner=runner, museval=museval, ablate=ablate)
    print_comparison(found)
    if json_path is not None:
        write_json(json_path, found, settings)
    if csv_path is not None:
        write_csv(csv_path, found)


def blend_command(
    shards: Annotated[Path, Option("--shards", help="Folder that `train prepare` made.")],
    name: Annotated[
        str, Option("-n", "--name", "--profile", help="Profile: a shipped one or a .toml file.")
    ] = "live",
    weights: WeightsFolder = None,
    runner: RunnerName = "auto",
    batches: Annotated[int, Option("--batches", min=1, help=f"Of {MIXTURES} held-out mixtures.")] = 12,
    seconds: Annotated[float, Option(min=1.0, help="Length of a mixture.")] = 8.0,
    as_json: AsJson = False,
) -> None:
    """Fit the shares of every set of a profile's networks to held-out mixtures; print them as TOML."""
    fitted = fit_profile(
        name, shards, weights=weights, runner=runner, n_mixtures=batches * MIXTURES, seconds=seconds
    )
    if as_json:
        print(json.dumps({"profile": name, "n_mixtures": batches * MIXTURES, "blends": _facts(fitted)}))
        return
    print_fitted(fitted, batches * MIXTURES)


def fit_profile(
    name: str,
    shards: Path,
    *,
    weights: Path | None,
    runner: str,
    n_mixtures: int,
    seconds: float,
    load: Load | None = None,
) -> list[Fitted]:
    """Return the fitted shares of every set of a profile's networks, each run as it is deployed.

    The mixtures are of the split `valid`, drawn with another seed than those that chose the networks' best
    weights. load: makes separators; default `separate.load_separator`.
    Raises: ConfigError for a profile of one network, DataError for shards that do not do.
    """
    from ..models.profiles import load_profile
    from ..models.stems import MODEL_RATE_HZ
    from ..models.train.blend_fit import fit_blends, held_out_mixtures, measure_products
    from ..models.train.mixing import MixConfig, Mixer
    from ..models.train.shards import read_index
    from .compare import check_weights, whole_answer
    from .errors import ConfigError
    from .screen import job_progress
    from .separate import load_separator

    profile = load_profile(name)
    if len(profile.kinds) < 2:
        raise ConfigError(f"profile '{profile.name}' has one network: nothing to blend")
    check_weights(profile, weights)
    base = name.partition(":")[0]
    networks = {
        kind: whole_answer((load or load_separator)(f"{base}:{kind}", runner, weights))
        for kind in profile.kinds
    }
    mixer = Mixer(shards, read_index(shards), "valid", MixConfig(), seed=1)
    n_samples = max(1, int(seconds * MODEL_RATE_HZ) // profile.hop) * profile.hop
    mixtures = held_out_mixtures(mixer, n_mixtures, 1, n_samples)
    with job_progress("blend", total=n_mixtures * len(networks)) as job:
        products = measure_products(mixtures, networks, job.advance)
    return fit_blends(products)


def print_fitted(fitted: Sequence[Fitted], n_mixtures: int) -> None:
    """Print what each set of networks gains, and the tables for the profile's TOML."""
    import numpy as np

    from ..models.stems import STEMS
    from ..models.train.blend_fit import blend_toml
    from .screen import print_lines, print_table

    single = {f.networks[0]: f.mean_sdr_db for f in fitted if len(f.networks) == 1}
    heads = ["networks", *STEMS, "mean", "with the paper's shares", *(f"over {kind}" for kind in single)]
    rows = []
    for f in fitted:
        gains = [f"{f.mean_sdr_db - db:+.2f}" if kind in f.networks else "" for kind, db in single.items()]
        usual = f"{f.usual_mean_sdr_db:.2f}" if len(f.networks) > 1 else ""
        cells = [f"{v:.2f}" for v in f.sdr_db]
        rows.append(["+".join(f.networks), *cells, f"{np.mean(f.sdr_db):.2f}", usual, *gains])
    print_table(f"Mean SDR in dB over {n_mixtures} held-out mixtures, fitted shares", heads, rows)
    print_lines(blend_toml(fitted).splitlines())


def _facts(fitted: Sequence[Fitted]) -> list[dict[str, Any]]:
    return [
        asdict(f) | {"mean_sdr_db": f.mean_sdr_db, "usual_mean_sdr_db": f.usual_mean_sdr_db} for f in fitted
    ]
