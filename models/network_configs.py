"""Sizes of the networks, as data: known to profiles and hosts that never import torch."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class XumxConfig:
    """Sizes of an X-UMX; the defaults are the published network's."""

    n_in_channels: int = 2
    n_in_bins: int = 1487
    """Values per input channel: bins of the magnitude, or features of a band layout."""
    n_out_channels: int = 2
    n_out_bins: int = 2049
    hidden: int = 512
    n_layers: int = 3
    directions: int = 2
    dropout: float = 0.4
    head: str = "relu"
    """`relu`: scaled, unbounded masks as published. `softmax`: masks that sum to one over the stems."""

    def __post_init__(self) -> None:
        if self.directions not in (1, 2) or self.hidden % self.directions:
            raise SpecError(f"X-UMX needs 1 or 2 directions that divide hidden, got {self.directions}")
        if self.head not in ("relu", "softmax"):
            raise SpecError(f"X-UMX head is 'relu' or 'softmax', got '{self.head}'")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemucsConfig:
    """Sizes of a Demucs with four grouped decoders; the defaults are the published network's."""

    n_channels: int = 2
    channels: int = 48
    """Width of the outermost level; every further level is twice as wide."""
    depth: int = 6
    kernel: int = 8
    stride: int = 4
    context: int = 3
    """Width in frames of the decoders' own convolutions."""
    skip_context: int = 3
    """Width in frames of the convolutions over the skips."""
    n_lstm_layers: int = 2
    lstm_width: int = 0
    """Hidden size of the recurrence; 0: the width of the deepest level."""
    causal: bool = False
    """The streaming variant: left padding, forward recurrence, no resampler, running normalisation."""
    look_ahead_samples: int = 0
    """Causal only: how far the recurrence hears past what leaves; a multiple of `hop`."""
    normalise_s: float = 2.0
    """Causal only: time constant of the running normalisation."""
    residual: bool = True
    """Causal only: every stem gets a quarter of the mixture, so the network learns the difference."""

    def __post_init__(self) -> None:
        if min(self.n_channels, self.channels, self.depth, self.context, self.skip_context) < 1:
            raise SpecError("Demucs needs channels, depth and contexts of at least 1")
        if self.channels % 2 or not 1 < self.stride <= self.kernel:
            raise SpecError(
                f"Demucs needs even channels and 1 < stride <= kernel, got {self.channels}, "
                f"{self.stride}, {self.kernel}"
            )
        if self.n_lstm_layers < 1 or self.lstm_width < 0 or self.normalise_s <= 0:
            raise SpecError("Demucs needs a recurrent layer, lstm_width >= 0 and normalise_s > 0")
        if not self.causal and not self.context * self.skip_context % 2:
            raise SpecError("centred convolutions need an odd context and skip_context")
        if self.look_ahead_samples < 0 or self.look_ahead_samples % self.hop:
            raise SpecError(
                f"a look-ahead of {self.look_ahead_samples} samples is not a multiple of the hop {self.hop}"
            )

    @property
    def hop(self) -> int:
        """Samples (of the network's own rate) per frame of the deepest level."""
        return self.stride**self.depth

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, outermost first."""
        return tuple(self.channels * 2**i for i in range(self.depth))

    @property
    def hidden(self) -> int:
        """Hidden size of the recurrence, per direction."""
        return self.lstm_width or self.widths[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnetConfig:
    """Sizes of a U-Net of D3 blocks with attention; the defaults are the published network's.

    The causal one takes `n_in_bins` = features x bands values per frame, all bands of a feature
    together, and gives masks of `n_out_bins` = bands.
    """

    causal: bool = False
    n_in_channels: int = 2
    """Channels of the published network's magnitude; the causal one takes n_in_bins / n_out_bins."""
    n_in_bins: int = 1487
    """Bins that the published network looks at (those above are cut off), or values per frame."""
    n_out_channels: int = 2
    n_out_bins: int = 2049
    growth: int | tuple[int, ...] = 12
    """Channels of each dense layer, of all levels alike or of each."""
    layers: tuple[int, ...] = (5, 4, 3, 2, 2, 2)
    """Dense layers of a block at each level; as many levels as entries, each half as many bins."""
    n_blocks: int = 2
    heads: int = 8
    attention_width: int = 16
    """Channels per head."""
    attention_channels: int = 256
    """Channels that leave an attention layer."""
    attention_layers: int = 2
    attention_kernel: int = 3
    attention_frames: int = 8
    """Frames that the causal attention sees, the current one included."""
    up_channels: tuple[int, ...] | None = None
    """Channels that leave each decoder level, deepest first; None: the encoder's of that level."""
    end_channels: int | None = None
    """Channels before the last convolution; None: those that leave the first encoder level."""
    dropout: float = 0.4
    """Of whole channels, in the first three decoder levels."""
    time_kernel: int = 3
    """Frames that each causal convolution sees, the current one included."""
    first_channels: int = 0
    """Channels of a convolution before the first level (causal only); 0: none."""
    first_stride: int = 1
    """Its stride over the bands."""
    n_positions: int = 0
    """Learned values per band that enter beside the features (causal only)."""
    head: str = "sigmoid"
    """`sigmoid`: as published. `softmax`: masks that sum to one over the stems (causal)."""

    def __post_init__(self) -> None:
        growth = (self.growth,) * len(self.layers) if isinstance(self.growth, int) else tuple(self.growth)
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "growth", growth)
        if self.up_channels is not None:
            object.__setattr__(self, "up_channels", tuple(self.up_channels))
        n_levels = len(self.layers)
        if n_levels < 2 or len(growth) != n_levels:
            raise SpecError(
                f"U-Net needs 2 or more levels, each with layers and growth, got {self.layers}, {growth}"
            )
        if self.up_channels is not None and len(self.up_channels) != n_levels - 1:
            raise SpecError(
                f"U-Net of {n_levels} levels needs {n_levels - 1} up_channels, got {self.up_channels}"
            )
        if self.head != ("softmax" if self.causal else "sigmoid"):
            raise SpecError(f"U-Net head is 'sigmoid' as published, 'softmax' causal, got '{self.head}'")
        if self.causal and self.n_in_bins % self.n_out_bins:
            raise SpecError(
                f"causal U-Net needs whole features per band, got {self.n_in_bins}/{self.n_out_bins}"
            )
        if self.causal and (
            self.time_kernel < 2 or self.attention_frames < 2 or self.attention_kernel % 2 == 0
        ):
            raise SpecError(
                "causal U-Net needs time_kernel and attention_frames of 2 or more, an odd attention_kernel"
            )
        if not self.causal and (self.first_channels or self.n_positions):
            raise SpecError("first_channels and n_positions belong to the causal U-Net: set causal=True")
        if self.first_stride > 1 and not self.first_channels:
            raise SpecError("first_stride needs first_channels, the convolution that it strides")

    @property
    def growths(self) -> tuple[int, ...]:
        """Growth of each level."""
        return (self.growth,) if isinstance(self.growth, int) else self.growth

    @property
    def n_features(self) -> int:
        """Channels that enter the network, without the learned positions."""
        return self.n_in_bins // self.n_out_bins if self.causal else self.n_in_channels


NetworkConfig = XumxConfig | UnetConfig | DemucsConfig
