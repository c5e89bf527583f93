"""`--probe_silence`: what a model writes where nobody speaks.

Whisper is known to invent text there (Koenecke et al. 2024, "Careless Whisper"). The recordings are generated, always
the same ones: silence, noise, mains hum, tones like music. Rejected: a collection of real noise, which would have to be
downloaded and can hold speech.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from speechtune.models.recogniser import Recogniser

__all__ = ["probe_clips", "probe_silence"]

DURATIONS_S = (2.0, 8.0)
SEED = 0
CHORDS_HZ = ((262, 330, 392), (294, 349, 440), (247, 294, 392), (262, 330, 523))  # C, d, G, C: half a second each


def probe_clips(sampling_rate: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield (kind, samples) of each clip, samples of shape (num_samples,) in [-1, 1)."""
    random = np.random.default_rng(SEED)
    for duration_s in DURATIONS_S:
        count = int(duration_s * sampling_rate)
        time_s = np.arange(count) / sampling_rate
        white = random.normal(0, 1, count)
        harmonics = np.array([1, 2, 3, 5])
        hum = (np.sin(2 * np.pi * 50 * harmonics * time_s[:, None]) / harmonics).sum(axis=1)
        notes = np.array(CHORDS_HZ)[(time_s * 2).astype(int) % len(CHORDS_HZ)]
        decay = np.exp(-3 * (time_s * 2 % 1))
        music = np.sin(2 * np.pi * notes * time_s[:, None]).sum(axis=1) * decay
        pink = np.cumsum(white - white.mean())
        for kind, sound, level in (
            ("silence", np.zeros(count), 0.0),
            ("faint noise", white, 0.001),
            ("white noise", white, 0.05),
            ("low rumble", pink, 0.1),
            ("mains hum", hum, 0.05),
            ("tones", music, 0.1),
        ):
            peak = np.abs(sound).max()
            yield kind, (level * sound / peak if peak else sound).astype(np.float32)


def probe_silence(
    recogniser: Recogniser, *, model: torch.nn.Module | None = None, normalise: Callable[[str], str] = str
) -> dict[str, Any]:
    """Return what a model writes on clips without speech.

    Args:
        recogniser: its model on its device.
        model: what accelerate made of it; not sharded over processes.
        normalise: applied to the text before its words are counted.

    Returns:
        "clips", "clips_with_words", "words", "seconds", and "by_kind": kind, clips, words, and the texts.
    """
    from speechtune.decoding.long_form import transcribe_samples

    ran = recogniser.model if model is None else model
    was_training = ran.training
    ran.eval()
    texts: dict[str, list[str]] = {}
    seconds = 0.0
    for kind, samples in probe_clips(recogniser.sampling_rate):
        text = " ".join(normalise(transcribe_samples(recogniser, samples, model=model)).split())
        texts.setdefault(kind, []).append(text)
        seconds += len(samples) / recogniser.sampling_rate
    ran.train(was_training)
    counts = {kind: [len(text.split()) for text in found] for kind, found in texts.items()}
    numbers = [count for found in counts.values() for count in found]
    return {
        "clips": len(numbers),
        "clips_with_words": sum(count > 0 for count in numbers),
        "words": sum(numbers),
        "seconds": seconds,
        "by_kind": [
            {"kind": kind, "clips": len(found), "words": sum(counts[kind]), "texts": found}
            for kind, found in texts.items()
        ],
    }
