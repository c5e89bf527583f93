"""When Whisper's words are said, by its cross-attention.

The tokens of a text are given to the decoder; the weights of the heads that follow the audio (`alignment_heads` of the
generation config) are normalised, smoothed and averaged, and dynamic time warping finds the path through them, as in
openai/whisper's timing.py. Its words include the pause beside them; ours end where the audio is quiet.

Rejected: `generate(return_token_timestamps=True)` of transformers. It needs eager attention in each step of the
generation, and runs its warping cell by cell in Python (0.2 s for a window; ours a row at a time, 0.01 s).

Legend: N tokens, T encoder frames of 20 ms.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechtune.audio.samples import Samples, dequantise
from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
from speechtune.types import Word

__all__ = ["warp", "whisper_words"]

FRAME_S = 0.02
SMOOTHING = 7  # frames of the median filter
LATENCY_S = 0.03  # attention moves to a word so much before its sound; the same for four languages (docs/results.md)
QUIET_DB = -40.0  # less than the loud frames: a pause
MAX_GAP_S = 0.25  # longer ones divide what the path gives to one word
UNKNOWN = "\ufffd"  # half of a character


def whisper_words(
    recogniser: Seq2SeqRecogniser,
    hidden: torch.Tensor,
    tokens: Sequence[int],
    *,
    samples: Samples,
    language: str | None,
    spaced: bool = True,
) -> list[Word]:
    """Return the words of what Whisper wrote for one window, with times in the window and their confidence.

    Args:
        hidden: the encoder's output, (1, T, D).
        tokens: text only, without prompt, timestamps and end.
        language: its token ("<|tr|>") where it was detected, else None.
        samples: of the window.
        spaced: words have spaces between them; else each character is one.
    """
    if not tokens:
        return []
    is_loud = _loud_frames(samples, recogniser.sampling_rate)
    num_frames = min(hidden.shape[1], len(is_loud))
    prompt = _prompt(recogniser, language)
    most = int(recogniser.model.config.max_target_positions) - len(prompt) - 1
    places = _words_of_tokens(recogniser.tokenizer, tokens, spaced=spaced)
    untimed = [text for text, _, last in places if last > most]  # of a loop: more than the decoder takes
    places, tokens = places[: len(places) - len(untimed)], tokens[:most]
    ids = torch.tensor([[*prompt, *tokens, recogniser.end]], device=hidden.device)
    weights, logits = _attention(recogniser, hidden, ids, num_frames)
    first = len(prompt) - 1  # the row that writes the first token
    starts = warp(-_averaged(weights)[first:-1]) * FRAME_S
    chosen = ids[0, first + 1 : -1]
    log_probs = (
        logits[first : first + len(tokens)].float().log_softmax(-1).gather(1, chosen[:, None])[:, 0].cpu().numpy()
    )
    end_s = num_frames * FRAME_S
    starts[1:] = np.minimum(starts[1:] + LATENCY_S, end_s)
    words = []
    for text, i, j in places:
        start, end = _without_pauses(is_loud[:num_frames], float(starts[i]), float(starts[j]))
        words.append(Word(text, start, end, float(np.exp(log_probs[i:j].mean()))))
    return words + [Word(text, end_s, end_s) for text in untimed]


def _loud_frames(samples: Samples, sampling_rate: int) -> NDArray[np.bool_]:
    """Return which frames of FRAME_S are at most QUIET_DB under the loud ones, at least one."""
    size = round(FRAME_S * sampling_rate)
    values = dequantise(samples)
    values = np.diff(values, prepend=values[:1])  # without hum and offset
    values = np.pad(values, (0, -len(values) % size or size * (not len(values)))).reshape(-1, size)
    levels = 10 * np.log10((values**2).mean(axis=1) + 1e-12)
    found: NDArray[np.bool_] = levels > np.quantile(levels, 0.95) + QUIET_DB
    return found


def _without_pauses(is_loud: NDArray[np.bool_], start_s: float, end_s: float) -> tuple[float, float]:
    """Return the longest stretch of a word's time that has no pause in it; all of it where nothing is loud.

    The path gives a pause to the words beside it, sometimes with the end of the word before.
    """
    first, last = int(start_s / FRAME_S), max(int(start_s / FRAME_S) + 1, math.ceil(end_s / FRAME_S - 1e-6))
    loud = first + np.flatnonzero(is_loud[first:last])
    if not len(loud):
        return start_s, end_s
    parts = np.split(loud, np.flatnonzero(np.diff(loud) * FRAME_S > MAX_GAP_S) + 1)
    part = max(parts, key=lambda frames: int(frames[-1] - frames[0]))
    start_s = max(start_s, float(part[0]) * FRAME_S)
    return start_s, max(start_s, min(end_s, float(part[-1] + 1) * FRAME_S))


def _prompt(recogniser: Seq2SeqRecogniser, language: str | None) -> list[int]:
    """Return the tokens before a text without timestamps."""
    generation: Any = recogniser.model.generation_config
    prompt = [int(generation.decoder_start_token_id)]
    if generation.is_multilingual:
        name = str(language or generation.language)
        token = generation.lang_to_id.get(name) or generation.lang_to_id.get(f"<|{name}|>")
        if token is None:  # a full name: "turkish"
            token = recogniser.encode("")[0]
        prompt += [int(token), int(generation.task_to_id[generation.task or "transcribe"])]
    return [*prompt, int(generation.no_timestamps_token_id)]


def _attention(
    recogniser: Seq2SeqRecogniser, hidden: torch.Tensor, ids: torch.Tensor, num_frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights of the heads that follow the audio, (heads, N, num_frames), and the logits, (N, V)."""
    model: Any = recogniser.model
    layers = model.model.decoder.layers
    heads = getattr(model.generation_config, "alignment_heads", None)
    if not heads:  # as openai/whisper: all of the upper half
        half = range(len(layers) // 2, len(layers))
        heads = [(layer, head) for layer in half for head in range(model.config.decoder_attention_heads)]
    found: dict[int, torch.Tensor] = {}

    def keep(layer: int, module: Any, args: tuple[torch.Tensor, ...], inputs: dict[str, Any]) -> None:
        # Computed from the queries and keys: fast attention kernels don't return weights
        states = args[0] if args else inputs["hidden_states"]
        keys = inputs["key_value_states"][:, :num_frames]
        shape = (-1, module.num_heads, module.head_dim)
        query = (module.q_proj(states) * module.scaling)[0].view(shape).transpose(0, 1)
        key = module.k_proj(keys)[0].view(shape).transpose(0, 1)
        found[layer] = (query @ key.transpose(1, 2)).float().softmax(-1)

    with ExitStack() as hooks:
        for layer in {layer for layer, _ in heads}:
            module = layers[layer].encoder_attn
            hook = module.register_forward_pre_hook(
                lambda module, args, inputs, layer=layer: keep(layer, module, args, inputs), with_kwargs=True
            )
            hooks.callback(hook.remove)
        logits = model(encoder_outputs=(hidden,), decoder_input_ids=ids, use_cache=False).logits[0]
    return torch.stack([found[layer][head] for layer, head in heads]), logits


def _averaged(weights: torch.Tensor) -> NDArray[np.float32]:
    """Normalise over tokens, smooth over frames, average over heads: (heads, N, T) -> (N, T)."""
    deviation, mean = torch.std_mean(weights, dim=1, keepdim=True, unbiased=False)
    weights = (weights - mean) / deviation.clamp(min=1e-9)
    half = SMOOTHING // 2
    if weights.shape[-1] > half:
        padded = torch.nn.functional.pad(weights, (half, half), mode="reflect")
        weights = padded.unfold(-1, SMOOTHING, 1).median(-1).values
    averaged: NDArray[np.float32] = weights.mean(0).cpu().numpy()
    return averaged


def warp(costs: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return the column at which each row starts on the cheapest monotone path from corner to corner, (num_rows,).

    A step goes one row down, one column on, or both (dynamic time warping).

    Args:
        costs: (num_rows, num_columns).
    """
    num_rows, num_columns = costs.shape
    columns = np.arange(num_columns)
    total = np.cumsum(costs[0], dtype=np.float64)
    entries = np.zeros((num_rows, num_columns), np.int64)  # where the best path to a cell entered its row
    diagonal = np.zeros((num_rows, num_columns), bool)
    for row in range(1, num_rows):
        before = np.concatenate([[np.inf], total[:-1]])
        diagonal[row] = before <= total
        along = np.cumsum(costs[row], dtype=np.float64)
        entered = costs[row] + np.minimum(before, total) - along
        best = np.minimum.accumulate(entered)
        entries[row] = np.maximum.accumulate(np.where(entered <= best, columns, 0))
        total = best + along
    starts = np.zeros(num_rows, np.int64)
    column = num_columns - 1
    for row in range(num_rows - 1, 0, -1):
        column = entries[row, column]
        starts[row] = column
        column -= int(diagonal[row, column])
    return starts


def _words_of_tokens(tokenizer: Any, tokens: Sequence[int], *, spaced: bool) -> list[tuple[str, int, int]]:
    """Return each word with its first token, and the one after its last."""
    units: list[tuple[str, int, int]] = []
    start = 0
    for end in range(1, len(tokens) + 1):
        text = str(tokenizer.decode(tokens[start:end]))
        if UNKNOWN not in text or end == len(tokens):  # whole characters
            units.append((text, start, end))
            start = end
    words: list[tuple[str, int, int]] = []
    for text, i, j in units:
        is_mark = all(unicodedata.category(c)[0] in "PS" for c in text.strip()) and not text.startswith(" ")
        if words and (is_mark or (spaced and not text.startswith(" "))):
            words[-1] = (words[-1][0] + text, words[-1][1], j)
        else:
            words.append((text, i, j))
    return [(text.strip(), i, j) for text, i, j in words if text.strip()]
