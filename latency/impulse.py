"""Latency by measurement: where an impulse comes out, against where it went in."""

from __future__ import annotations

from typing import Any

import numpy as np


def impulse_latency(separator: Any, *, at: int, n_hops: int, block: int = 1) -> int:
    """Return the delay in samples of the sum of a separator's stems, measured with one impulse.

    separator: has hop, init_state, step ((2, n) -> (4, 2, n), state) as `rt.separate.Separator` has.
    at: sample of the impulse; block: hops per step.  The largest sample of the sum is taken: the sum of
    the stems is the delayed mixture, so nothing else of it is as large.
    """
    x = np.zeros((2, n_hops * separator.hop), np.float32)
    x[:, at] = 1.0
    state, stems = separator.init_state(), []
    piece = block * separator.hop
    for start in range(0, x.shape[1], piece):
        y, state = separator.step(x[:, start : start + piece], state)
        stems.append(y)
    heard = np.concatenate(stems, axis=-1).sum(axis=(0, 1))
    return int(np.abs(heard).argmax()) - at
