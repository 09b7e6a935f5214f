"""The streaming contract as one test: `check_streaming` holds a module to eight properties.

The properties are those of `models/streaming.py`. A failure names the property, the region and the
worst error. Inputs and outputs may be tensors, numpy arrays or tuples of them, with time last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

MakeInput = Callable[[int, int, np.random.Generator], Any]
"""(batch, units of input time, generator) -> input; `batch` is 1 and to be ignored if not batched."""


class ContractError(AssertionError):
    """A broken property: its name, and the facts."""

    def __init__(self, name: str, facts: str) -> None:
        super().__init__(f"{name}: {facts}")
        self.name = name


def _parts(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple | list) else [x]


def _like(x: Any, parts: Sequence[Any]) -> Any:
    return tuple(parts) if isinstance(x, tuple | list) else parts[0]


def _array(x: Any) -> np.ndarray:
    x = x.detach().cpu().resolve_conj().numpy() if isinstance(x, torch.Tensor) else x
    return np.array(x, dtype=np.complex128 if np.iscomplexobj(x) else np.float64)


def _cut(x: Any, start: int, stop: int) -> Any:
    return _like(x, [p[..., start:stop] for p in _parts(x)])


def _copy(x: Any) -> Any:
    return _like(x, [p.clone() if isinstance(p, torch.Tensor) else p.copy() for p in _parts(x)])


def _spoiled(x: Any, where: tuple[Any, ...]) -> Any:
    """Return a copy of x with NaN at an index of every floating part."""
    x = _copy(x)
    for part in _parts(x):
        part[where] = float("nan")
    return x


def leaves(state: Any, path: str = "state") -> Iterator[tuple[str, Any]]:
    """Yield (path, array) of every array in a state tree; ContractError for anything else."""
    if isinstance(state, torch.Tensor | np.ndarray):
        yield path, state
    elif dataclasses.is_dataclass(state):
        for field in dataclasses.fields(state):
            yield from leaves(getattr(state, field.name), f"{path}.{field.name}")
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(state, tuple | list):
        for i, value in enumerate(state):
            yield from leaves(value, f"{path}[{i}]")
    else:
        raise ContractError("7 state", f"{path} is a {type(state).__name__}, not a tree of arrays")


def _form(state: Any) -> list[tuple[Any, ...]]:
    """Return what must not change: path, kind, shape, dtype, device and address of every leaf."""
    rows = []
    for path, leaf in leaves(state):
        torchy = isinstance(leaf, torch.Tensor)
        address = leaf.data_ptr() if torchy else leaf.ctypes.data
        device = str(leaf.device) if torchy else "cpu"
        rows.append((path, type(leaf).__name__, tuple(leaf.shape), str(leaf.dtype), device, address))
    return rows


def _fill(state: Any, source: Any) -> None:
    """Copy the values of one state into the storage of another."""
    for (_, target), (_, value) in zip(leaves(state), leaves(source), strict=True):
        target[...] = value


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One module under test, with its signal and tolerances."""

    module: Any
    make_input: MakeInput
    n_hops: int
    atol: float
    rtol: float
    batched: bool
    seed: int

    @property
    def hop_out(self) -> int:
        """Units of output that one hop gives."""
        hop_out = Fraction(self.module.hop) * Fraction(self.module.ratio)
        if hop_out.denominator != 1 or hop_out < 1:
            raise ContractError("2 length", f"hop * ratio = {hop_out} is not a whole number of output units")
        return int(hop_out)

    @property
    def latency(self) -> int:
        """Declared latency in output units."""
        return int(self.module.latency_samples)

    def signal(self, seed: int = 0) -> Any:
        """Return an input of n_hops hops; other seeds give other signals."""
        rng = np.random.default_rng([self.seed, seed])
        return self.make_input(2 if self.batched else 1, self.n_hops * self.module.hop, rng)

    def fresh(self) -> Any:
        """Return a new state."""
        return self.module.init_state(2 if self.batched else 1)

    def pieces(self, x: Any, splits: Sequence[int], state: Any) -> list[list[np.ndarray]]:
        """Return the output parts of each step, `splits` hops at a time, without the flush."""
        hop, out, start = self.module.hop, [], 0
        form = _form(state)
        for n in splits:
            stop = start + n * hop
            y, returned = self.module.step(_copy(_cut(x, start, stop)), state)
            got = [_array(p) for p in _parts(y)]
            for part in got:
                if part.shape[-1] != n * self.hop_out:
                    raise ContractError(
                        "2 length", f"a step of {n} hops gave {part.shape[-1]} units, not {n * self.hop_out}"
                    )
            for now in (_form(returned), _form(state)):
                if now != form:
                    changed = [(a, b) for a, b in zip(form, now, strict=False) if a != b]
                    raise ContractError("7 state", f"changed in a step: {changed or (len(form), len(now))}")
            out.append(got)
            start = stop
        return out

    def stepped(self, x: Any, splits: Sequence[int], state: Any = None) -> list[np.ndarray]:
        """Return steps and flush joined, for each output part."""
        state = self.fresh() if state is None else state
        got = self.pieces(x, splits, state)
        got.append([_array(p) for p in _parts(self.module.flush(state))])
        for part in got[-1]:
            if part.shape[-1] != self.latency:
                raise ContractError(
                    "8 flush", f"gave {part.shape[-1]} units, declared latency {self.latency}"
                )
        return [np.concatenate(parts, axis=-1) for parts in zip(*got, strict=True)]

    def whole(self, x: Any) -> list[np.ndarray]:
        """Return the parts of `forward`."""
        out = [_array(p) for p in _parts(self.module.forward(_copy(x)))]
        for part in out:
            if part.shape[-1] != self.n_hops * self.hop_out:
                raise ContractError(
                    "2 length", f"forward gave {part.shape[-1]} units, not {self.n_hops * self.hop_out}"
                )
        return out

    def compare(
        self, name: str, got: Sequence[np.ndarray], want: Sequence[np.ndarray], start: int = 0
    ) -> None:
        """Raise ContractError with the worst region and position in the hop, if any differ."""
        for i, (a, b) in enumerate(zip(got, want, strict=True)):
            if a.shape != b.shape:
                raise ContractError(name, f"part {i} has shape {a.shape}, not {b.shape}")
            if not a.size:
                continue
            limit = self.atol + self.rtol * float(np.nanmax(np.abs(b), initial=0.0))
            error = np.abs(a - b).reshape(-1, a.shape[-1])
            error = np.where(np.isnan(error), np.inf, error).max(axis=0)
            worst = int(np.argmax(error))
            if error[worst] > limit:
                raise ContractError(name, f"part {i}, {self._where(error, start)}, allowed {limit:.2e}")

    def _where(self, error: np.ndarray, start: int) -> str:
        n, edge = len(error), max(1, len(error) // 4)
        regions = {"start": error[:edge], "middle": error[edge : n - edge], "end": error[n - edge :]}
        told = ", ".join(f"{k} {v.max():.2e}" for k, v in regions.items() if len(v))
        worst = int(np.argmax(error))
        place = (start + worst + self.latency) % self.hop_out
        return (
            f"worst error {error[worst]:.2e} at unit {start + worst}, position {place} of {self.hop_out} "
            f"in the hop ({told})"
        )


def _splits(n_hops: int, rng: np.random.Generator) -> Iterator[tuple[str, list[int]]]:
    for size in (1, 2, 7):
        whole, rest = divmod(n_hops, size)
        yield f"steps of {size}", [size] * whole + ([rest] if rest else [])
    for k in range(2):
        sizes: list[int] = []
        while sum(sizes) < n_hops:
            sizes.append(min(int(rng.integers(1, 6)), n_hops - sum(sizes)))
        yield f"random steps {k}", sizes


def _equality_and_flush(check: Check, x: Any, want: list[np.ndarray]) -> None:
    """Properties 1, 2, 4 and 8: steps equal forward, at the declared latency and no other."""
    rng = np.random.default_rng(check.seed)
    body = check.n_hops * check.hop_out - check.latency
    for name, splits in _splits(check.n_hops, rng):
        got = check.stepped(x, splits)
        try:
            head = [p[..., check.latency : check.latency + body] for p in got]
            check.compare(f"1 equality ({name})", head, [p[..., :body] for p in want])
        except ContractError as error:
            lag = _measured_lag(check, got, want)
            if lag is not None and lag != check.latency:
                raise ContractError("4 latency", f"declared {check.latency}, measured {lag}") from error
            raise
        tail = [p[..., check.latency + body :] for p in got]
        check.compare(f"8 flush ({name})", tail, [p[..., body:] for p in want], start=body)


def _measured_lag(check: Check, got: list[np.ndarray], want: list[np.ndarray]) -> int | None:
    """Return the lag at which the steps equal `forward`, None if there is none."""
    n = check.n_hops * check.hop_out
    reach = min(n // 2, check.latency + 2 * check.hop_out)
    for lag in range(reach + 1):
        span = min(n, min(p.shape[-1] for p in got) - lag, n - reach)
        try:
            check.compare("", [p[..., lag : lag + span] for p in got], [p[..., :span] for p in want])
        except ContractError:
            continue
        return lag
    return None


def _causality(check: Check, x: Any, want: list[np.ndarray]) -> None:
    """Properties 3 and 4: what comes later changes nothing that is already out, NaN or not."""
    other = check.signal(seed=1)
    stepped = check.stepped(x, [check.n_hops])
    for hops in {1, check.n_hops // 2, check.n_hops - 1}:
        border = hops * check.module.hop
        safe = max(0, hops * check.hop_out - check.latency)
        joined = [
            torch.cat([a[..., :border], b[..., border:]], dim=-1)
            if isinstance(a, torch.Tensor)
            else np.concatenate([a[..., :border], b[..., border:]], axis=-1)
            for a, b in zip(_parts(x), _parts(other), strict=True)
        ]
        for kind, changed in (
            ("NaN", _spoiled(x, (..., slice(border, None)))),
            ("another signal", _like(x, joined)),
        ):
            told = f"3 causality (forward, {kind} from unit {border}, declared latency {check.latency})"
            check.compare(told, [p[..., :safe] for p in check.whole(changed)], [p[..., :safe] for p in want])
            out = hops * check.hop_out  # in one step: a step of one hop has not seen what comes later
            got = [p[..., :out] for p in check.stepped(changed, [check.n_hops])]
            told = f"3 causality (steps, {kind} from unit {border})"
            check.compare(told, got, [p[..., :out] for p in stepped])


def _rows(check: Check, x: Any, want: list[np.ndarray]) -> None:
    """Property 5: NaN in another row of the batch changes nothing in this one."""
    spoiled = _spoiled(x, (1,))
    clean = [p[:1] for p in check.stepped(x, [1] * check.n_hops)]
    got = [p[:1] for p in check.stepped(spoiled, [1] * check.n_hops)]
    check.compare("5 batch rows (steps)", got, clean)
    check.compare("5 batch rows (forward)", [p[:1] for p in check.whole(spoiled)], [p[:1] for p in want])


def _streams(check: Check, x: Any) -> None:
    """Property 6: fresh, reset and interleaved streams agree."""
    ones = [1] * check.n_hops
    other = check.signal(seed=2)
    want, want_other = check.stepped(x, ones), check.stepped(other, ones)
    check.compare("6 streams (fresh again)", check.stepped(x, ones), want)
    used = check.fresh()
    check.stepped(other, ones, used)
    _fill(used, check.fresh())
    check.compare("6 streams (reset)", check.stepped(x, ones, used), want)
    states = check.fresh(), check.fresh()
    got: tuple[list[Any], list[Any]] = ([], [])
    for n in range(check.n_hops):
        for signal, state, out in zip((x, other), states, got, strict=True):
            start = n * check.module.hop
            out += check.pieces(_cut(signal, start, start + check.module.hop), [1], state)
    for out, wanted in zip(got, (want, want_other), strict=True):
        joined = [np.concatenate(parts, axis=-1) for parts in zip(*out, strict=True)]
        n_out = check.n_hops * check.hop_out
        check.compare("6 streams (interleaved)", joined, [p[..., :n_out] for p in wanted])


def check_streaming(
    module: Any,
    make_input: MakeInput,
    *,
    n_hops: int = 24,
    atol: float = 1e-6,
    rtol: float = 0.0,
    batched: bool = True,
    seed: int = 0,
) -> None:
    """Hold a Streaming module to the eight properties; ContractError names the first broken one.

    1 steps of 1, 2, 7 and random numbers of hops equal `forward`; 2 lengths; 3 causality; 4 latency is
    the declared one; 5 rows of a batch are apart (if `batched`); 6 fresh, reset and interleaved streams
    agree; 7 state keeps shape, dtype, device and storage; 8 flush gives the tail of `forward`.
    Allowed error: atol + rtol * loudest value of what is compared with. `n_hops` must reach well past
    the latency and the memory of the module.
    """
    check = Check(
        module=module,
        make_input=make_input,
        n_hops=n_hops,
        atol=atol,
        rtol=rtol,
        batched=batched,
        seed=seed,
    )
    if check.latency >= (n_hops - 1) * check.hop_out:
        raise ValueError(f"{n_hops} hops do not reach past a latency of {check.latency}: test with more")
    with torch.no_grad():
        x = check.signal()
        want = check.whole(x)
        if not all(np.isfinite(p).all() for p in want):
            raise ContractError("1 equality", "forward gave NaN or Inf for an input without any")
        if not any(np.abs(p).max(initial=0.0) > 0 for p in want):
            raise ContractError("1 equality", "forward gave nothing but zeros: the test proves nothing")
        _equality_and_flush(check, x, want)
        _causality(check, x, want)
        if batched:
            _rows(check, x, want)
        _streams(check, x)
