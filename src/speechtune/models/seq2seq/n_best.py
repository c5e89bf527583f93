"""The texts of the beams of one generation, with their log probabilities: what a language model chooses from."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser

__all__ = ["n_best", "num_prompt_tokens"]


def n_best(recogniser: Seq2SeqRecogniser, model: Any, num_beams: int, **inputs: Any) -> list[dict[str, float]]:
    """Return the texts of each clip, best first, each with the log probability of its tokens and the end.

    Args:
        model: what accelerate made of the recogniser's model.
        num_beams: of the search.
        inputs: of `generate`.
    """
    generate: Any = model.generate
    if recogniser.context is not None:  # Whisper's own generation repeats the search instead of returning its beams
        from transformers import GenerationMixin

        generate = functools.partial(GenerationMixin.generate, model)
        inputs.pop("force_unique_generate_call", None)
        inputs["decoder_input_ids"] = prompts = _prompts(recogniser, inputs)
        longest = recogniser.model.generation_config.max_length or recogniser.model.config.max_target_positions
        # As Whisper's own generation counts: the prompt comes on top.
        inputs["max_length"] = min(longest + prompts.shape[1], recogniser.model.config.max_target_positions)
    made = generate(
        **inputs, num_beams=num_beams, num_return_sequences=num_beams, return_dict_in_generate=True, output_scores=True
    )
    # The scores were divided by the number of generated tokens, to the power of the penalty.
    prompt = num_prompt_tokens(inputs)
    generated = made.sequences[:, prompt:]
    ends = (generated == recogniser.end).int().cumsum(-1)
    lengths = (ends - (generated == recogniser.end).int() == 0).sum(-1)  # up to the first end, with it
    penalty = getattr(recogniser.model.generation_config, "length_penalty", None)
    scores = made.sequences_scores if num_beams > 1 else lengths * 0.0  # of one text it does not matter
    log_probs = (scores.float() * lengths ** float(1.0 if penalty is None else penalty)).tolist()
    texts = recogniser.decoded(generated, num_prompt=0)
    found: list[dict[str, float]] = []
    for i in range(0, len(texts), num_beams):
        beams: dict[str, float] = {}
        for text, log_prob in zip(texts[i : i + num_beams], log_probs[i : i + num_beams], strict=True):
            beams.setdefault(text.strip(), log_prob)
        found.append(beams)
    return found


def num_prompt_tokens(inputs: Mapping[str, Any]) -> int:
    """Return how many tokens of the output of `generate` were given to it: the prompt's, else the start token."""
    names = ("decoder_input_ids", "input_ids")
    return next((int(inputs[name].shape[1]) for name in names if name in inputs), 1)


def _prompts(recogniser: Seq2SeqRecogniser, inputs: dict[str, Any]) -> torch.Tensor:
    """Return Whisper's prompt for each clip, with the text before, and its language detected where none is known."""
    source = {name: inputs[name] for name in ("encoder_outputs", "input_features") if name in inputs}
    clips = next(iter(source.values()))
    size = len(clips.last_hidden_state if "encoder_outputs" in source else clips)
    before = list(recogniser.preceding)
    prompt = [*before, recogniser.start, *_after_start(recogniser)]
    prompts = torch.tensor([prompt] * size, device=recogniser.model.device)
    if recogniser.model.generation_config.is_multilingual and not recogniser.prompt_known:
        prompts[:, len(before) + 1] = recogniser.model.detect_language(**source)
    return prompts


def _after_start(recogniser: Seq2SeqRecogniser) -> list[int]:
    prefix = [int(token) for token in recogniser.tokenizer.prefix_tokens]
    return prefix[1:] if prefix and prefix[0] == recogniser.start else prefix
