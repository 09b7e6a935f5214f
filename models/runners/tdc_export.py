"""The TDC vocals network in the form that a runner loads, made once for each file of weights and kept.

Run as a program, it exports: `python -m stemrack.models.runners.tdc_export WEIGHTS OUT`, in a process of its
own, so that a host never imports torch nor reads a published checkpoint itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, WeightsError
from .exported import Form, made_once

if TYPE_CHECKING:
    from ..tdc import TdcVocals

TDC = Form("tdc_export", "onnx", "tdc-1")


def exported_tdc(weights: Path) -> Path:
    """Return the path of the graph for one frame, exported if it is not in the cache.

    Raises: WeightsError when there are no weights; ModelError with what the exporting process said.
    """
    try:
        return made_once(TDC, weights, TDC.version, str(weights))
    except OSError as error:
        raise WeightsError(
            f"{weights}: cannot be read ({error.strerror}): `stemrack models pull tdc-vocals` fetches them"
        ) from error


def load_tdc_network(weights: Path) -> TdcVocals:
    """Return the network with the weights of a safetensors file, or of the published checkpoint.

    Raises: WeightsError if the file is missing, damaged or of another network.
    """
    from ..official.layouts import fill
    from ..official.tensor_files import read_tensors
    from ..tdc import TdcVocals, load_tdc

    if weights.suffix != ".safetensors":
        return load_tdc(weights)
    network = TdcVocals()
    fill(network, read_tensors(weights))
    return network


def frame_step(network: TdcVocals) -> Any:
    """Return the network as a step over frames: parts (k, 4, bin) -> parts (k, 4, bin)."""
    import torch
    from torch import nn

    class FrameStep(nn.Module):
        """Every frame is a row of the batch, so nothing is moved around."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network.eval()

        def initial(self) -> list[torch.Tensor]:
            """Return no state: a frame depends on itself alone."""
            return []

        def example(self, length: int) -> torch.Tensor:
            """Return an input of some frames."""
            from ..tdc import N_BINS, N_PARTS

            return torch.zeros(length, N_PARTS, N_BINS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Return the parts of the vocals."""
            return self.network.frames(x[..., None])[..., 0]

    return FrameStep()


def main(weights: str, out: str) -> None:
    """Export the network with the weights of a file."""
    from .onnx_export import export_step

    export_step(frame_step(load_tdc_network(Path(weights))), Path(out), 1)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ModelError as error:
        sys.exit(str(error))
