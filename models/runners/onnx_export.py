"""Export of a step module to ONNX: the home of torch's exporter and of the onnx package.

Run as a program, it exports a network of a profile:
`python -m stemrack.models.runners.onnx_export PROFILE KIND WEIGHTS LENGTH OUT`.
So each export has a process of its own (torch 2.13 fixes the number of frames from the second one on),
and a host that needs a graph never imports torch.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from ..bundles import load_network
from ..errors import ModelError
from ..profiles import load_profile
from .step_graph import StepModule, XumxStep, step_of

EXAMPLE_FRAMES = 8
"""Any number above one: the exporter would take a single frame for a constant."""


def export_step(step: StepModule, path: Path, length: int = 0) -> None:
    """Write the step graph with explicit states to `path`.

    length: frames or samples that it takes; 0 leaves their number open, which X-UMX alone knows.
    """
    is_open = length == 0
    example = step.eval().example(EXAMPLE_FRAMES if is_open else length)
    state = step.initial()
    names = [f"state_{i}" for i in range(len(state))]
    frame = torch.export.Dim("frame", min=1, max=1 << 16)
    shapes: Any = None
    if isinstance(step, XumxStep):
        shapes = {"features": {0: frame} if is_open else None, "hidden": None, "cell": None}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            step,
            (example, *state),
            dynamo=True,
            input_names=["x", *names],
            output_names=["y", *(f"next_{name}" for name in names)],
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ModelError("torch.onnx.export gave no program")
    model = program.model_proto
    if is_open:
        if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
            raise ModelError("the exporter fixed the number of frames: export in a process of its own")
        # The exporter writes the example's number of frames into the shape of the output.
        model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "frame"
        del model.graph.value_info[:]
    onnx.save(model, path)


def main(profile: str, kind: str, weights: str, length: str, out: str) -> None:
    """Export a network of a profile with the weights of a file."""
    network = load_network(load_profile(profile).member(kind), Path(weights))
    export_step(step_of(network), Path(out), int(length))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ModelError as error:
        sys.exit(str(error))
