"""The published networks as branches of one stream: same hop, same latency, ready to be added.

    x -> X-UMX, forward states carried -------------------------+
    x -> windows -> STFT -> U-Net -> Wiener -> inverse STFT ----+-> (batch, stem, 2, sample) each
    x -> windows -> Demucs -------------------------------------+

Every branch answers `look_ahead_samples` late, whatever it needs less. The U-Net's grid sets the hop:
128 frames keep its pooling and attention where they are in the whole track, 64 only its pooling.
"""

from __future__ import annotations

from .chunked import Chunked, fitting_context
from .chunked_spectral import LATE_SAMPLES, ChunkedSpectral
from .demucs import Demucs
from .errors import SpecError
from .unet import Unet
from .unet_attention import QUERY_FRAMES
from .whole_track import HOP_SAMPLES, LEAD_SAMPLES, TOUCHED_SAMPLES, DemucsTrack, SpectralTrack
from .xumx import Xumx

UNET_CONTEXT_SAMPLES = 384 * HOP_SAMPLES
"""With 64 frames of hop and of look-ahead: the 512 frames that the published U-Net learned from."""
DEMUCS_CONTEXT_SAMPLES = 441_000 - 128 * HOP_SAMPLES
"""With 64 frames of hop and of look-ahead: the 10 s that the published Demucs learned from."""


def xumx_branch(
    network: Xumx, *, hop_samples: int, look_ahead_samples: int, forget_s: float | None = None
) -> ChunkedSpectral:
    """Return the X-UMX as a stream of samples.

    Raises: SpecError unless both sizes are whole frames and three of them at least lie ahead.
    """
    if hop_samples % HOP_SAMPLES or look_ahead_samples % HOP_SAMPLES or look_ahead_samples < LATE_SAMPLES:
        raise SpecError(
            f"X-UMX: hop {hop_samples} and look-ahead {look_ahead_samples} must be multiples of "
            f"{HOP_SAMPLES}, the look-ahead {LATE_SAMPLES} or more"
        )
    return ChunkedSpectral(
        network,
        hop_frames=hop_samples // HOP_SAMPLES,
        look_ahead_frames=(look_ahead_samples - LATE_SAMPLES) // HOP_SAMPLES,
        forget_s=forget_s,
    )


def unet_grid_frames(network: Unet) -> int:
    """Return the frames by which a window may move and leave pooling and attention blocks in place."""
    return 2 ** len(network.config.layers) * QUERY_FRAMES


def unet_branch(
    network: Unet,
    *,
    hop_samples: int,
    look_ahead_samples: int,
    context_samples: int = UNET_CONTEXT_SAMPLES,
    grid_frames: int | None = None,
) -> Chunked:
    """Return the U-Net, with the Wiener EM over its window, as a stream of samples.

    Args: context_samples: at least so much before the hop; lengthened to fit the grid.
        grid_frames: None: `unet_grid_frames`; half of it leaves pooling alone in place.
    Raises: SpecError for a hop off the grid or a look-ahead within the frames at a window's end.
    """
    grid = (grid_frames or unet_grid_frames(network)) * HOP_SAMPLES
    context = fitting_context(context_samples, look_ahead=look_ahead_samples, grid=grid)
    return Chunked(
        SpectralTrack(network),
        hop=hop_samples,
        context=context,
        look_ahead=look_ahead_samples,
        grid=grid,
        trim_end=TOUCHED_SAMPLES,
    )


def demucs_branch(
    network: Demucs,
    *,
    hop_samples: int,
    look_ahead_samples: int,
    context_samples: int = DEMUCS_CONTEXT_SAMPLES,
    lead_samples: int = LEAD_SAMPLES,
) -> Chunked:
    """Return the Demucs as a stream of samples, levelled by all that was heard.

    Args: context_samples: at least so much before the hop; lengthened to fit the grid.
    Raises: SpecError for a hop off the grid or a look-ahead shorter than what an answer may lack.
    """
    track = DemucsTrack(network, lead_samples=0)
    context = fitting_context(
        context_samples, look_ahead=look_ahead_samples, grid=track.grid, lead=lead_samples
    )
    return Chunked(
        track,
        hop=hop_samples,
        context=context,
        look_ahead=look_ahead_samples,
        grid=track.grid,
        trim_end=track.trim_end,
        lead=lead_samples,
        levelled=True,
    )
