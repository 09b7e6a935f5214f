"""What a person sees of a training run: a progress line, a CSV file, TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import sys
import time
from pathlib import Path

SMOOTHING = 0.98


class FitLog:
    """Writes `log.csv` (step, loss, rate, seconds and validation SDRs) and one line on stderr."""

    def __init__(self, folder: Path, n_steps: int, first: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "log.csv").open("a", newline="")
        self._csv = csv.writer(self._file)
        self._n_steps, self._first = n_steps, first
        self._started = time.monotonic()
        self._loss = 0.0
        self._weight = 0.0
        self._last_line = 0.0
        self._board = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"))

    def step(self, step: int, loss: float, rate: float) -> None:
        """Record one training step."""
        self._loss = SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        self._weight = SMOOTHING * self._weight + (1 - SMOOTHING)
        now = time.monotonic()
        self._csv.writerow(["train", step, f"{loss:.5f}", f"{rate:.2e}", f"{now - self._started:.1f}"])
        if self._board is not None:
            self._board.add_scalar("loss", loss, step)
        every_s = 0.5 if sys.stderr.isatty() else 30.0
        if now - self._last_line > every_s or step == self._n_steps:
            self._last_line = now
            self._line(step, now)

    def _line(self, step: int, now: float) -> None:
        done = max(1, step - self._first)
        left_s = (self._n_steps - step) * (now - self._started) / done
        width = 24
        filled = width * step // self._n_steps
        end = "\r" if sys.stderr.isatty() else "\n"
        text = (
            f"[{'#' * filled}{'.' * (width - filled)}] {step}/{self._n_steps} "
            f"loss {self._loss / self._weight:.4f} "
            f"{done / max(now - self._started, 1e-6):.2f} steps/s, {left_s / 60:.0f} min left"
        )
        print(text, end=end, file=sys.stderr, flush=True)
        self._file.flush()

    def validation(self, step: int, scores: dict[str, float]) -> None:
        """Record validation scores in dB."""
        self._csv.writerow(["valid", step, *(f"{k}={v:.3f}" for k, v in scores.items())])
        self._file.flush()
        text = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        print(f"step {step}: held-out SDR in dB: {text}", file=sys.stderr, flush=True)
        for name, value in scores.items():
            if self._board is not None:
                self._board.add_scalar(f"valid/{name}", value, step)

    def close(self) -> None:
        """Finish the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()
