"""Tiny random checkpoints of the newer families, as the hub holds the real ones: model, tokenizer, feature extractor.

`build(folder, model_type)` writes one. Sizes keep every part at work; pieces of words are learned from TEXTS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tiny_audio_models
from reliability.tiny import write_clip, write_manifest

TEXTS = ["on yedi", "bir iki", "uc dort", "alti bes", "yedi", "sekiz on", "dokuz", "on bir"]
MEL_BINS = 16
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_mel_bins": MEL_BINS,
}
CONFORMER = {**SIZES, "subsampling_conv_channels": 8, "conv_kernel_size": 5}


def write_speech(folder: Path, *, num_train: int = 6, num_test: int = 2, shortest_s: float = 0.9) -> Path:
    """A manifest corpus of tones with the texts of this module; each text has its own pitch."""
    for split, number in (("train", num_train), ("test", num_test)):
        rows = []
        for index in range(number):
            name = f"{split}/{index:03}.wav"
            write_clip(folder / name, shortest_s + 0.1 * (index % 5), seed=index)
            rows.append({"audio": name, "text": TEXTS[index % len(TEXTS)]})
        write_manifest(folder, split, rows)
    return folder


def build(folder: Path, model_type: str) -> Path:
    """Write the checkpoint of a type of BUILDERS."""
    import torch

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    BUILDERS[model_type](folder)
    return folder


def pieces() -> Any:
    """A tokenizer of 24 pieces with <unk> first and the blank <pad> last."""
    from speechtune.models.ctc.pieces import learn_pieces

    return learn_pieces(TEXTS, 24, where="TEXTS")


def _parakeet_ctc(folder: Path) -> None:
    import transformers

    tokenizer = pieces()
    config = transformers.ParakeetCTCConfig(
        encoder_config=CONFORMER, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id
    )
    _save_ctc(folder, transformers.ParakeetForCTC(config), tokenizer)
    extractor = transformers.ParakeetFeatureExtractor(feature_size=MEL_BINS)
    transformers.ParakeetProcessor(extractor, tokenizer, decoder_type="ctc").save_pretrained(folder)


def _lasr_ctc(folder: Path) -> None:
    import transformers

    letters = sorted(set("".join(TEXTS)) - {" "})
    pieces = ["<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{letter}" for letter in letters)]
    tokenizer = transformers.LasrTokenizer(vocab=[(piece, -1.0) for piece in pieces], extra_ids=0)
    # Its head has more labels than the tokenizer has pieces.
    config = transformers.LasrCTCConfig(encoder_config=CONFORMER, vocab_size=len(tokenizer) + 3, pad_token_id=0)
    _save_ctc(folder, transformers.LasrForCTC(config), tokenizer)
    extractor = transformers.LasrFeatureExtractor(feature_size=MEL_BINS)
    transformers.LasrProcessor(extractor, tokenizer).save_pretrained(folder)


def _save_ctc(folder: Path, model: Any, tokenizer: Any) -> None:
    """Save a CTC model that writes no piece without a letter: a text of random weights is not empty."""
    import torch

    silent = [i for i in range(len(tokenizer)) if not tokenizer.decode([i], skip_special_tokens=True).strip()]
    with torch.no_grad():
        model.ctc_head.weight.normal_()
        model.ctc_head.bias[silent] = -50.0
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text("utf-8"))["architectures"]


BUILDERS: dict[str, Callable[[Path], None]] = {
    "parakeet_ctc": _parakeet_ctc,
    "lasr_ctc": _lasr_ctc,
}


def _transducer(folder: Path, *, name: str, blank: str = "<blank>", seed: int = 0, **sizes: Any) -> None:
    import torch
    import transformers

    torch.manual_seed(seed)
    tokenizer = pieces()
    tokenizer.add_special_tokens({"additional_special_tokens": [blank]})
    is_parakeet = name.startswith("Parakeet")
    config = getattr(transformers, f"{name.removesuffix('ForRNNT') if not is_parakeet else name}Config")(
        encoder_config={
            **CONFORMER,
            **({} if is_parakeet else {"sliding_window": 9, "default_num_lookahead_tokens": 3}),
        },
        vocab_size=len(tokenizer),
        blank_token_id=tokenizer.convert_tokens_to_ids(blank),
        pad_token_id=tokenizer.pad_token_id,
        decoder_hidden_size=16,
        max_symbols_per_step=3,
        **sizes,
    )
    model_name = name.replace("ParakeetTDT", "ParakeetForTDT").replace("ParakeetRNNT", "ParakeetForRNNT")
    model = getattr(transformers, model_name)(config)
    with torch.no_grad():
        for module in (model.joint.head, model.encoder_projector, model.decoder.decoder_projector):
            module.weight.normal_()
        for i in range(len(tokenizer)):
            if i != config.blank_token_id and not tokenizer.decode([i], skip_special_tokens=True).strip():
                model.joint.head.bias[i] = -50.0
        if "durations" in sizes:
            model.joint.head.bias[len(tokenizer)] = -50.0  # else random weights stay at a frame forever
    model.generation_config.max_length = 200
    model.save_pretrained(folder)
    if is_parakeet:
        extractor = transformers.ParakeetFeatureExtractor(feature_size=MEL_BINS)
        kind = "tdt" if "TDT" in name else "rnnt"
        processor = transformers.ParakeetProcessor(extractor, tokenizer, blank_token=blank, decoder_type=kind)
    else:
        extractor = transformers.NemotronAsrStreamingFeatureExtractor(feature_size=MEL_BINS)
        processor_class = getattr(transformers, name.replace("ForRNNT", "Processor"))
        processor = processor_class(extractor, tokenizer, blank_token=blank)
    processor.save_pretrained(folder)


BUILDERS |= {
    "parakeet_tdt": partial(_transducer, name="ParakeetTDT", durations=[0, 1, 2], seed=1),
    "parakeet_rnnt": partial(_transducer, name="ParakeetRNNT"),
    "nemotron_asr_streaming": partial(_transducer, name="NemotronAsrStreamingForRNNT"),
    "nemotron3_5_asr": partial(_transducer, name="Nemotron3_5AsrForRNNT", num_prompts=128, prompt_intermediate_size=32),
}


def _prompted_tokenizer(specials: Sequence[str]) -> Any:
    tokenizer = pieces()
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>", "additional_special_tokens": list(specials)})
    return tokenizer


DECODER: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "head_dim": 8,
    "max_position_embeddings": 64,
}


def _sharpened(model: Any, folder: Path) -> None:
    """Save a model whose decoder's tokens differ: random weights write the same one forever."""
    import torch

    with torch.no_grad():
        model.get_output_embeddings().weight.normal_()
    model.generation_config.max_length = 24
    model.save_pretrained(folder)


def _canary(folder: Path) -> None:
    import transformers

    tokenizer = _prompted_tokenizer(["<|startofcontext|>", "<|en|>", "<|tr|>", "<|de|>", "<|pnc|>"])
    decoder = {**DECODER, "vocab_size": len(tokenizer)}
    config = transformers.CanaryConfig(
        encoder_config={**CONFORMER, "layerdrop": 0.0},
        decoder_config=decoder,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startofcontext|>"),
        tie_word_embeddings=False,
    )
    _sharpened(transformers.CanaryForConditionalGeneration(config), folder)
    template = (
        "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'text' %}"
        "<|startofcontext|><|{{ part['source_language'] }}|><|{{ part['target_language'] }}|><|pnc|>"
        "{% endif %}{% endfor %}{% endfor %}"
    )
    extractor = transformers.ParakeetFeatureExtractor(feature_size=MEL_BINS)
    transformers.CanaryProcessor(extractor, tokenizer, chat_template=template).save_pretrained(folder)


def _cohere(folder: Path) -> None:
    import transformers

    words = ["startofcontext", "startoftranscript", "emo:undefined", "de", "en"]
    words += ["pnc", "nopnc", "noitn", "notimestamp", "nodiarize"]
    tokenizer = _prompted_tokenizer([f"<|{word}|>" for word in words])
    config = transformers.CohereAsrConfig(
        encoder_config={**CONFORMER, "layerdrop": 0.0},
        **DECODER,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    _sharpened(transformers.CohereAsrForConditionalGeneration(config), folder)
    extractor = transformers.CohereAsrFeatureExtractor(feature_size=MEL_BINS)
    transformers.CohereAsrProcessor(extractor, tokenizer).save_pretrained(folder)


BUILDERS |= {"canary": _canary, "cohere_asr": _cohere}
BUILDERS |= tiny_audio_models.BUILDERS
