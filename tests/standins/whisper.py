"""openai/whisper-small in miniature: tiny dimensions, but the true structure of tokens, prompts and features.

Sizes that behaviour depends on are kept: 80 mel bins, 3000 frames in 30 s, 1500 encoder positions, 448 decoder
positions, 99 languages, 1501 timestamps, and the order in which the special tokens follow the text's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from standins.models import write_json
from standins.text_models import byte_level_bpe, write_bpe

NUM_TIMESTAMPS = 1501  # <|0.00|> to <|30.00|> in steps of 20 ms
TASKS_AND_MARKS = [
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]


def special_tokens() -> list[str]:
    """Whisper's special tokens in the order of their ids, without timestamps."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    languages = [code for code in LANGUAGES if code != "yue"]  # Cantonese came with large-v3
    assert len(languages) == 99
    return ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in languages), *TASKS_AND_MARKS]


def build_whisper(folder: Path) -> None:
    """Write model, tokenizer, feature extractor and generation config to `folder`."""
    import torch
    import transformers

    vocabulary, merges = byte_level_bpe(60)
    ids = _write_tokenizer(folder, vocabulary, merges)
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    torch.manual_seed(0)
    prompt = {
        "pad_token_id": ids["<|endoftext|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "decoder_start_token_id": ids["<|startoftranscript|>"],
    }
    config = transformers.WhisperConfig(
        vocab_size=len(ids) + NUM_TIMESTAMPS,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_target_positions=448,
        max_source_positions=1500,
        **prompt,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    _favour_short_texts(model, ids)
    model.generation_config = transformers.GenerationConfig(**_generation(ids), **prompt)
    model.save_pretrained(folder)
    _add_legacy_fields(folder / "config.json", ids)


def _favour_short_texts(model: Any, ids: dict[str, int]) -> None:
    """Lean the output as pretrained weights lean: no timestamps or languages within a text, and an end before long.

    Without it random weights write until the length limit, timestamps among the text.
    """
    import torch

    with torch.no_grad():
        decoder = model.model.decoder
        decoder.layer_norm.bias[0] = 3.0  # a constant that every output token can lean on
        weights = decoder.embed_tokens.weight  # the output layer's too
        weights[min(ids[token] for token in special_tokens()) :, 0] = -0.1
        weights[ids["<|endoftext|>"], 0] = 0.1


def _write_tokenizer(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, int]:
    """Write the tokenizer; returns token -> id of text and special tokens, without timestamps."""
    import transformers

    specials = special_tokens()
    vocabulary = dict(vocabulary)
    text_size = len(vocabulary)
    tokenizer = transformers.WhisperTokenizer(
        vocab=vocabulary,
        merges=merges,
        additional_special_tokens=specials[1:],
        model_max_length=1024,
    )
    timestamps = [f"<|{index * 0.02:.2f}|>" for index in range(NUM_TIMESTAMPS)]
    tokenizer.add_tokens([transformers.AddedToken(token, special=False, normalized=False) for token in timestamps])
    tokenizer.save_pretrained(folder)
    ids = {**vocabulary, **{token: text_size + index for index, token in enumerate(specials)}}
    for token in [*specials, *timestamps[:1]]:
        expected = ids.get(token, text_size + len(specials))
        assert tokenizer.convert_tokens_to_ids(token) == expected, token
    write_bpe(folder, vocabulary, merges)
    write_json(folder / "normalizer.json", {"colour": "color"})
    return ids


def _generation(ids: dict[str, int]) -> dict[str, Any]:
    languages = {token: ids[token] for token in special_tokens()[2:101]}
    return {
        "alignment_heads": [[0, 0], [1, 1]],
        "begin_suppress_tokens": [ids["Ġ"], ids["<|endoftext|>"]],
        "forced_decoder_ids": [[1, None], [2, ids["<|transcribe|>"]]],
        "is_multilingual": True,
        "lang_to_id": languages,
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "return_timestamps": False,
        "suppress_tokens": _suppressed(ids),
        "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
    }


def _suppressed(ids: dict[str, int]) -> list[int]:
    marks = ["#", "*", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    return [ids[mark] for mark in marks]


def _add_legacy_fields(path: Path, ids: dict[str, int]) -> None:
    """The hub's config.json still carries generation settings from before generation_config.json."""
    import json

    config = json.loads(path.read_text(encoding="utf-8"))
    config["begin_suppress_tokens"] = [ids["Ġ"], ids["<|endoftext|>"]]
    config["suppress_tokens"] = _suppressed(ids)
    config["forced_decoder_ids"] = [[1, ids["<|en|>"]], [2, ids["<|transcribe|>"]], [3, ids["<|notimestamps|>"]]]
    config["max_length"] = 448
    write_json(path, config)
