"""Export of a step module to ONNX: the home of torch's exporter and of the onnx package."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import onnx
import torch

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
        raise RuntimeError("torch.onnx.export gave no program")
    model = program.model_proto
    for value in model.graph.output:
        if value.name == "masks":  # the exporter writes the example's number of frames into the shape
            value.type.tensor_type.shape.dim[2].dim_param = "frame"
    del model.graph.value_info[:]
    onnx.save(model, path)
