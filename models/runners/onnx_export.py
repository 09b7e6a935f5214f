"""Export of a step module to ONNX: the home of torch's exporter and of the onnx package.

Run as a program, it exports a profile's network: `python -m stemrack.models.runners.onnx_export PROFILE
WEIGHTS OUT`. So each export has a process of its own (torch 2.13 fixes the number of frames from the
second one on), and a host that needs a graph never imports torch.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from pathlib import Path

import onnx
import torch

from ..bundles import load_xumx
from ..errors import ModelError
from ..profiles import load_profile
from .onnx_cpu import INPUTS, OUTPUTS
from .step_graph import XumxStep

EXAMPLE_FRAMES = 8
"""Any number above one: the exporter would take a single frame for a constant."""


def export_step(step: XumxStep, path: Path) -> None:
    """Write the step graph with a free number of frames and explicit states to `path`."""
    config = step.network.config
    features = torch.zeros(EXAMPLE_FRAMES, config.n_in_channels * config.n_in_bins)
    state = torch.zeros(step.state_shape)
    frame = torch.export.Dim("frame", min=1, max=1 << 16)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            step.eval(),
            (features, state, state.clone()),
            dynamo=True,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes={"features": {0: frame}, "hidden": None, "cell": None},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ModelError("torch.onnx.export gave no program")
    model = program.model_proto
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ModelError("the exporter fixed the number of frames: export in a process of its own")
    # The exporter writes the example's number of frames into the shape of the output.
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "frame"
    del model.graph.value_info[:]
    onnx.save(model, path)


def main(profile: str, weights: str, out: str) -> None:
    """Export the network of a profile with the weights of a file."""
    export_step(XumxStep(load_xumx(load_profile(profile), Path(weights))), Path(out))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ModelError as error:
        sys.exit(str(error))
