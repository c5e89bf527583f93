"""Output folders as a training leaves them, with tiny random CTC models of the usual 20 ms a frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from standins.models import GROUP_NORM, LAYER_NORM, SPEECH_SIZES


def ctc_folder(
    folder: Path, *, letters: str = "abcde", languages: Sequence[str] = (), group_norm: bool = False
) -> Path:
    """A wav2vec2 with model, tokenizer and feature extractor; with `languages` one of MMS' kind, an adapter each."""
    import torch
    import transformers

    from speechtune.models.ctc.adapter import save_adapter
    from speechtune.models.ctc.tokenizer import ctc_tokenizer

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(["|", *letters, "[UNK]", "[PAD]"])}
    nested: Any = {language: dict(vocabulary) for language in languages} or vocabulary
    tokens = {"unk_token": "[UNK]", "pad_token": "[PAD]", "word_delimiter_token": "|"}
    tokenizer = ctc_tokenizer(nested, folder, **tokens, **({"target_lang": languages[-1]} if languages else {}))
    sizes = SPEECH_SIZES | (GROUP_NORM if group_norm else LAYER_NORM) | ({"adapter_attn_dim": 4} if languages else {})
    config = transformers.Wav2Vec2Config(vocab_size=len(vocabulary), pad_token_id=len(vocabulary) - 1, **sizes)
    model = transformers.Wav2Vec2ForCTC(config)
    model.save_pretrained(folder)
    for language in languages:
        save_adapter(model, language, folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=not group_norm)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
