"""The silence after a clip in the input of Whisper's encoder: up to 30 s as it was trained, or a few seconds.

The encoder's layers run on fewer frames, through the model's own modules, and the result is passed to the model as
`encoder_outputs`: no patching, and checkpoints stay as they are. At 3000 frames the numbers are those of the model
itself, bit for bit.

Each clip's context depends on its own length alone, rounded up to a whole second; clips of one batch with equal
context are computed together. So no mask is needed, and a clip's text doesn't depend on its batch.

Measured on whisper-base: a margin of 8 s changes nothing without tuning; under 3 s it loops badly until the model
was tuned that way, which takes some 40 steps. Hence the margin that a model was tuned with is kept in its
config.json, and shorter ones are refused.

Rejected: a mask over the padding (rules out the fast attention kernels, and the decoder's cross-attention takes
none); one context for a whole batch (a clip's text would depend on its neighbours).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from speechtune.errors import OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["EncoderContext", "choose_context", "encode_frames", "remember_context", "tuned_context"]

log = logging.getLogger("speechtune")

FRAMES_PER_S = 100
GRID_FRAMES = 100  # contexts are whole seconds: few different ones in a batch of like lengths
HARMLESS_S = 8.0  # margins from here on need no tuning
CONFIG_KEY = "speechtune_encoder_context"  # in config.json; plain transformers keeps and ignores it


@dataclass(frozen=True, slots=True)
class EncoderContext:
    """The frames that the encoder is given.

    Args:
        margin_s: seconds of silence after a clip, at least; None for all of the encoder's 30 s.
        max_frames: of the encoder, 3000.
    """

    margin_s: float | None = None
    max_frames: int = 3000

    def frames(self, clip_frames: int) -> int:
        """Return the encoder's frames for a clip of so many: whole seconds, at most 30 s."""
        if self.margin_s is None:
            return self.max_frames
        needed = clip_frames + self.margin_s * FRAMES_PER_S
        return min(int(-(-needed // GRID_FRAMES)) * GRID_FRAMES, self.max_frames)

    def groups(self, clip_frames: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Group clips that are computed together: (frames, their places in the batch), in order of frames."""
        groups: dict[int, list[int]] = {}
        for place, length in enumerate(clip_frames):
            groups.setdefault(self.frames(length), []).append(place)
        return sorted(groups.items())


def tuned_context(model_config: PreTrainedConfig) -> float | Literal["full"]:
    """Return the context that a model was tuned with: seconds after the clip, 0 among them, or "full"."""
    tuned = getattr(model_config, CONFIG_KEY, None)
    return "full" if tuned is None else tuned


def choose_context(
    requested: float | Literal["full"] | None, model_config: PreTrainedConfig, *, training: bool, force: bool = False
) -> EncoderContext:
    """Return the context to use: the user's, else the one that the model was tuned with, else the whole 30 s.

    Args:
        requested: --encoder_context.
        training: a short margin is how a model gets tuned for it.
        force: --force.

    Raises:
        OptionError: a margin too short for a model that was not tuned for it.
    """
    max_frames = 2 * int(model_config.max_source_positions)
    tuned = tuned_context(model_config)
    chosen = tuned if requested is None else requested
    if chosen == "full":
        return EncoderContext(None, max_frames)
    margin_s = float(chosen)
    least = min(HARMLESS_S, float(tuned)) if isinstance(tuned, (int, float)) else HARMLESS_S
    if margin_s >= least:
        return EncoderContext(margin_s, max_frames)
    state = f"tuned with {tuned:g} s" if isinstance(tuned, (int, float)) else "not tuned for a short context"
    if training:
        log.info(
            f"the model is {state}: this training tunes it for {margin_s:g} s; it may repeat itself in the first 40 "
            "steps or so"
        )
    elif force:
        log.warning(f"the model is {state}: with {margin_s:g} s it may repeat itself (--force)")
    else:
        raise OptionError(
            f"--encoder_context {margin_s:g}: this model is {state}. On so little silence after a clip Whisper repeats "
            f"itself (an error rate of 2 instead of 0.6 was measured).\nGive {least:g} or more, or full; or train it "
            f"with --encoder_context {margin_s:g}; or give --force."
        )
    return EncoderContext(margin_s, max_frames)


def remember_context(model_config: PreTrainedConfig, context: EncoderContext) -> None:
    """Write the context that a model is trained with into its config; nothing if it always had its 30 s."""
    if context.margin_s is not None or hasattr(model_config, CONFIG_KEY):
        setattr(model_config, CONFIG_KEY, "full" if context.margin_s is None else context.margin_s)


def encode_frames(encoder: Any, features: torch.Tensor) -> torch.Tensor:
    """Run WhisperEncoder's forward on fewer frames than it accepts itself.

    Args:
        encoder: WhisperEncoder; dropout and layer drop apply in training mode.
        features: log-mel, (B, F, T) with T even and at most 3000.

    Returns:
        Hidden states, (B, T / 2, D).
    """
    hidden = nn.functional.gelu(encoder.conv1(features))
    hidden = nn.functional.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    hidden = nn.functional.dropout(hidden, p=encoder.dropout, training=encoder.training)
    for layer in encoder.layers:
        if encoder.training and encoder.layerdrop > 0.0 and torch.rand([]) < encoder.layerdrop:
            continue
        hidden = layer(hidden, None)
    output: torch.Tensor = encoder.layer_norm(hidden)
    return output
