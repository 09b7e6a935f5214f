"""The streaming contract: one definition, run whole (`forward`) or in steps (`step`).

A `Streaming` turns a signal whose time runs along the last axis into another one. Its unit of input
time is a sample, or an STFT frame for modules behind the analysis; `hop` units enter per step and
`hop * ratio` units leave. `step` answers at once, so its concatenated outputs are the whole-signal
answer delayed by `latency_samples` (in output units); `flush` gives the rest that is still inside:

    concat(step(x_0), step(x_1), ..., flush())[latency_samples:] == forward(x)

State is an explicit tree (dataclass, tuple, list or dict of arrays) with fixed shape, dtype and
storage: it is made by `init_state`, passed to `step`, which updates it in place and returns it, and
so it can be saved, reset, captured in a CUDA graph or bound to an ONNX session.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

State = Any
"""A tree of arrays; only its owner knows its shape."""


@runtime_checkable
class Streaming(Protocol):
    """What every module on the audio path provides, over torch tensors or numpy arrays.

    `tests/contract.py:check_streaming` holds an implementation to eight properties.
    """

    hop: int
    latency_samples: int
    ratio: Fraction

    def init_state(self, batch: int) -> State:
        """Return the state of a stream that has heard only silence."""
        ...

    def step(self, x: Any, state: State) -> tuple[Any, State]:
        """Return the output of one hop (or several whole ones), and the state updated in place."""
        ...

    def forward(self, x: Any) -> Any:
        """Return the whole-signal output, time-aligned with the input (written apart from `step`)."""
        ...

    def flush(self, state: State) -> Any:
        """Return the last `latency_samples` of output, as if silence followed."""
        ...
