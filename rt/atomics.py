"""What numba code needs of the machine: ordered loads and stores, typed views of addresses, the clock.

x86 would order loads and stores by itself; ARM would not. Words are 8 bytes and aligned.
"""

from __future__ import annotations

import platform
import sys
from typing import Any

from llvmlite import ir
from numba import carray as _carray
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

from ..models.jit import njit

__all__ = [
    "add",
    "carray",
    "cfunc",
    "external",
    "fence",
    "load",
    "now_ns",
    "pause",
    "store",
    "types",
    "view_f32",
    "view_f64",
    "view_i64",
]


external = types.ExternalFunction
carray: Any = _carray
intrinsic: Any = _intrinsic
"""numba fills the first argument of an intrinsic itself, which its annotations do not say."""


def _item(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    made = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, made, [index])


@intrinsic
def _load(typing_context, words, index):
    def codegen(context, builder, signature, args):
        pointer = _item(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(pointer, ordering="acquire", align=8)

    return types.int64(words, types.intp), codegen


@intrinsic
def _store(typing_context, words, index, value):
    def codegen(context, builder, signature, args):
        pointer = _item(context, builder, signature.args[0], args[0], args[1])
        builder.store_atomic(args[2], pointer, ordering="release", align=8)
        return context.get_dummy_value()

    return types.void(words, types.intp, types.int64), codegen


@intrinsic
def _add(typing_context, words, index, value):
    def codegen(context, builder, signature, args):
        pointer = _item(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "acq_rel")

    return types.int64(words, types.intp, types.int64), codegen


@intrinsic
def _fence(typing_context):
    def codegen(context, builder, signature, args):
        builder.fence("acq_rel")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _pointer_f32(typing_context, address):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), codegen


@intrinsic
def _pointer_f64(typing_context, address):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(types.int64), codegen


@intrinsic
def _pointer_i64(typing_context, address):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(types.int64), codegen


_I32, _I64, _BYTES = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()


def _ask(builder: Any, name: str, kind: Any, n_words: int, *given: Any) -> list[Any]:
    """Call a C function that fills words at a pointer, its last argument, and load them."""
    words = cgutils.alloca_once(builder, ir.ArrayType(_I64, n_words))
    types_given = [_I32] * len(given)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [*types_given, _BYTES]), name
    )
    builder.call(function, [*given, builder.bitcast(words, _BYTES)])
    return [builder.load(cgutils.gep_inbounds(builder, words, 0, i)) for i in range(n_words)]


@intrinsic
def _now_ns(typing_context):
    def posix(context, builder, signature, args):
        monotonic = ir.Constant(_I32, 6 if sys.platform == "darwin" else 1)
        seconds, nanoseconds = _ask(builder, "clock_gettime", _I32, 2, monotonic)
        return builder.add(builder.mul(seconds, ir.Constant(_I64, 1_000_000_000)), nanoseconds)

    def windows(context, builder, signature, args):  # pragma: no cover  (not tried: see README, Status)
        (ticks,) = _ask(builder, "QueryPerformanceCounter", _I32, 1)
        (per_s,) = _ask(builder, "QueryPerformanceFrequency", _I32, 1)
        in_s = builder.fdiv(builder.sitofp(ticks, ir.DoubleType()), builder.sitofp(per_s, ir.DoubleType()))
        return builder.fptosi(builder.fmul(in_s, ir.Constant(ir.DoubleType(), 1e9)), _I64)

    return types.int64(), windows if sys.platform == "win32" else posix


@njit
def now_ns() -> int:
    """Return monotonic nanoseconds, as `time.monotonic_ns` does.  Thread: any, never waits."""
    return _now_ns()


_PAUSE = {"x86_64": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.hint", (1,))}.get(
    platform.machine()
)


@intrinsic
def _pause(typing_context):
    def codegen(context, builder, signature, args):
        if _PAUSE:
            name, given = _PAUSE
            kind = ir.FunctionType(ir.VoidType(), [_I32] * len(given))
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [_I32(value) for value in given])
        return context.get_dummy_value()

    return types.void(), codegen


@njit
def pause() -> None:
    """Leave the core to its other hardware thread for a moment.  Thread: any, never waits for anything."""
    _pause()


@njit
def load(words: Any, index: int) -> int:
    """Return a word; what was written before it was stored is seen by what follows."""
    return _load(words, index)


@njit
def store(words: Any, index: int, value: int) -> None:
    """Store a word after everything that was written before."""
    _store(words, index, value)


@njit
def add(words: Any, index: int, value: int) -> int:
    """Add to a word and return what it held before, as one step."""
    return _add(words, index, value)


@njit
def fence() -> None:
    """Keep what is written before this line before what is written after it."""
    _fence()


@njit
def view_f32(address: int, shape: Any) -> Any:
    """Return the float32 array at an address."""
    return carray(_pointer_f32(address), shape)


@njit
def view_f64(address: int, shape: Any) -> Any:
    """Return the float64 array at an address."""
    return carray(_pointer_f64(address), shape)


@njit
def view_i64(address: int, shape: Any) -> Any:
    """Return the int64 array at an address."""
    return carray(_pointer_i64(address), shape)
