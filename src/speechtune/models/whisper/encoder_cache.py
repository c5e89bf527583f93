"""The output of a frozen encoder for each clip, kept across epochs and runs: `--encoder_cache`.

Kept in float16, so exact but for its rounding; the first epoch rounds too, and all epochs see the same numbers. The key
is the clip's audio, its number of frames, and a hash of the encoder's weights.

Rejected: caching the cross-attention's keys and values (saves more, but they belong to the decoder, which is trained).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from speechtune.audio.cache import AudioCache

__all__ = ["EncoderCache", "weights_hash"]

FORMAT = "f16-v1"


class EncoderCache:
    """Encoder states of clips, from a store where it has them.

    Args:
        store: shared by processes and runs; may refuse to keep more.
        weights: hash of the encoder's.
    """

    def __init__(self, store: AudioCache, *, weights: str) -> None:
        self.store = store
        self.weights = weights

    def states(
        self,
        audio_keys: Sequence[str],
        frames: int,
        compute: Callable[[list[int]], torch.Tensor],
        *,
        device: torch.device,
    ) -> torch.Tensor:
        """Return hidden states (B, frames / 2, D) float32, on `device`.

        Args:
            audio_keys: of B utterances.
            frames: that the encoder is given.
            compute: indices among the B that are missing -> their states.
        """
        keys = [f"{FORMAT} {self.weights} {frames} {key}" for key in audio_keys]
        found = [self.store.get(key) for key in keys]
        missing = [place for place, words in enumerate(found) if words is None]
        if missing:
            # Clamped to the range of float16, so that nothing becomes infinite.
            limit = torch.finfo(torch.float16).max
            made = compute(missing).float().clamp(-limit, limit).half().cpu().numpy()
            for place, states in zip(missing, made, strict=True):
                words = np.ascontiguousarray(states).view(np.int16).reshape(-1)
                self.store.put(keys[place], words)
                found[place] = words
        stacked = np.stack([words for words in found if words is not None])
        rows = stacked.view(np.float16).reshape(len(keys), frames // 2, -1)
        return torch.from_numpy(rows).to(device, non_blocking=True).float()


def weights_hash(module: torch.nn.Module) -> str:
    """Return a hash of a module's parameters and buffers, names included: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
