"""What the graph of a third-party bundle takes and gives, read from its file without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from .errors import ModelError, SpecError, WeightsError
from .streaming_bundle import LARGEST_STATE, BundleManifest, BundleState

NEXT = "next_"
"""What the name of a state's output begins with where the manifest lists no states."""


@dataclass(frozen=True, slots=True)
class Array:
    """An input or an output: its type's name, its sizes, None where they are open."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class GraphArrays:
    """All inputs and outputs of a graph, by name."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def read_graph(manifest: BundleManifest) -> GraphArrays:
    """Return the inputs and outputs of a bundle's graph.

    Raises: WeightsError for a file that is no ONNX model, or keeps its weights in another one.
    """
    try:
        model = onnx.load(str(manifest.path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise WeightsError(f"{manifest.path} cannot be read as an ONNX model ({error})") from error
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise WeightsError(
                f"{manifest.path} keeps its weights in another file, which its sha256 says nothing about: "
                "save it with external_data=False"
            )
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    return GraphArrays(
        inputs={v.name: _array(v) for v in graph.input if v.name not in constants},
        outputs={v.name: _array(v) for v in graph.output},
    )


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor in a model, however deep: in branches, loops and functions too."""
    left = [message]
    while left:
        item = left.pop()
        if isinstance(item, onnx.TensorProto):
            yield item
            continue
        for field, value in item.ListFields():
            if field.message_type is None:
                continue
            left.extend(value if hasattr(value, "__len__") and not hasattr(value, "ListFields") else [value])


def _array(value: Any) -> Array:
    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type)
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    return Array(dtype, tuple(sizes) if tensor.HasField("shape") else ())


def states_of(manifest: BundleManifest, graph: GraphArrays) -> tuple[BundleState, ...]:
    """Return the states of a bundle: the manifest's, or all that the graph has; each fits the graph.

    Raises: ModelError or SpecError naming what is missing, left over, or of another type or shape.
    """
    _check_sound(manifest, graph)
    states = manifest.states or tuple(_found(name, graph) for name in graph.inputs if name != manifest.input)
    for state in states:
        for names, name in ((graph.inputs, state.input), (graph.outputs, state.output)):
            if name not in names:
                raise SpecError(f"{manifest.file} has no '{name}', which state '{state.input}' needs")
            _check_state(state, name, names[name])
    known = {manifest.input, *(state.input for state in states)}
    known |= {manifest.output, *(state.output for state in states)}
    over = sorted((graph.inputs.keys() | graph.outputs.keys()) - known)
    if over:
        raise SpecError(
            f"{manifest.file} has {', '.join(over)}, named as no state: list every state in the manifest"
        )
    return states


def _check_sound(manifest: BundleManifest, graph: GraphArrays) -> None:
    """Hold the mixture's input and the stems' output to the manifest."""
    n_stems = len(manifest.stems)
    for kind, arrays, name, wanted in (
        ("input", graph.inputs, manifest.input, (2, manifest.hop)),
        ("output", graph.outputs, manifest.output, (n_stems, 2, manifest.hop)),
    ):
        if name not in arrays:
            raise SpecError(f"{manifest.file} has no {kind} '{name}': it has {', '.join(arrays) or 'none'}")
        found = arrays[name]
        if found.dtype != "FLOAT":
            raise ModelError(f"{kind} '{name}' is {found.dtype}: only float32 can run")
        if not found.shape or not _fits(found.shape, wanted):
            raise SpecError(
                f"{kind} '{name}' has shape {_told(found.shape)}, not (1, {', '.join(map(str, wanted))}) as "
                "hop and stems of the manifest want"
            )


def _fits(shape: tuple[int | None, ...], wanted: tuple[int, ...]) -> bool:
    """Return whether a shape is the one wanted but for axes of one; only time and batch may be open."""
    if shape[-1] is None:
        shape = (*shape[:-1], wanted[-1])
    sizes = [1 if size is None else size for size in shape]
    return [n for n in sizes if n != 1] == [n for n in wanted if n != 1] and sizes[-1] == wanted[-1]


def _found(name: str, graph: GraphArrays) -> BundleState:
    if f"{NEXT}{name}" not in graph.outputs:
        raise SpecError(f"input '{name}' has no output '{NEXT}{name}': list the states in the manifest")
    shape = graph.inputs[name].shape
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) < len(shape) or not shape:
        raise SpecError(f"state '{name}' has the open shape {_told(shape)}: export it with fixed sizes")
    return BundleState(input=name, output=f"{NEXT}{name}", shape=sizes)


def _check_state(state: BundleState, name: str, found: Array) -> None:
    if found.dtype != "FLOAT":
        raise ModelError(f"state '{name}' is {found.dtype}: only float32 can run")
    is_input = name == state.input
    if is_input and None in found.shape:
        raise SpecError(f"state '{name}' has the open shape {_told(found.shape)}: export it with fixed sizes")
    differs = len(found.shape) != len(state.shape) or any(
        a is not None and a != b for a, b in zip(found.shape, state.shape, strict=True)
    )
    if differs and (is_input or found.shape):
        raise SpecError(f"state '{name}' has shape {_told(found.shape)}, not {list(state.shape)}")
    n_values = 1
    for size in state.shape:
        n_values *= size
    if not 1 <= n_values <= LARGEST_STATE:
        raise SpecError(f"state '{name}' has {n_values} values: 1 to {LARGEST_STATE} can run")


def _told(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('open' if size is None else str(size) for size in shape)})"
