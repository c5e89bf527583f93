"""Tiny random checkpoints of language models that hear audio, with the processors and prompts that the hub's have.

`tiny_checkpoints.build(folder, model_type)` writes one. Prompts are shorter than the real ones.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TEXTS = ["on yedi", "bir iki", "uc dort", "alti bes", "yedi", "sekiz on", "dokuz", "on bir"]
MEL_BINS = 16
END = "<|im_end|>"
LANGUAGE = {"qwen3_asr": "tr", "omniasr": "tr", "fun_asr_nano": "en"}  # of those whose prompts name one
DECODER: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
# <|im_start|>user ... <|im_end|> <|im_start|>assistant, with AUDIO where the recording goes
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}AUDIO{% elif part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'language' %}{{ part['language'] }}{% endif %}{% endfor %}"
    "{% if message['role'] != 'assistant' %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_pieces(specials: Sequence[str], *, tokenizer_class: str = "Qwen2Tokenizer", **named: str) -> Any:
    """A tokenizer of bytes and of pieces of TEXTS, with the end token and these special ones.

    Args:
        named: attribute of the tokenizer -> special token.
    """
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = [*string.ascii_letters, *'.,:<>_?"{}[]', "Ġ", "Ċ"]
    made.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=90, initial_alphabet=alphabet, show_progress=False))
    options: dict[str, Any] = {"eos_token": END, "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    if tokenizer_class == "Qwen2Tokenizer":
        bpe = json.loads(made.to_str())["model"]
        options |= {"vocab": bpe["vocab"], "merges": [tuple(pair) for pair in bpe["merges"]]}
    else:
        options["tokenizer_object"] = made
    tokenizer = getattr(transformers, tokenizer_class)(**options, extra_special_tokens=named)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *specials]})
    return tokenizer


def request(processor: Any, samples: Any, language: str | None) -> dict[str, Any]:
    """The prompt of one clip as a user of plain transformers writes it."""
    import torch

    if hasattr(processor, "apply_transcription_request"):
        made = processor.apply_transcription_request(samples, **({"language": language} if language else {}))
    else:
        chat = [{"role": "user", "content": "<|audio|>can you transcribe the speech into a written format?"}]
        template = {"chat_template": processor.chat_template, "add_generation_prompt": True}
        text = processor.tokenizer.apply_chat_template(chat, tokenize=False, **template)
        made = processor(text, samples, return_tensors="pt")
    return {name: torch.as_tensor(value) for name, value in made.items()}


def save(folder: Path, model: Any, processor: Any) -> None:
    """Write a model that chooses among letters: random weights write the same token forever."""
    import torch

    tokenizer = processor.tokenizer
    head = model.get_output_embeddings()
    with torch.no_grad():
        head.weight.normal_()
    if not model.config.tie_word_embeddings:
        silent = [i for i in range(len(tokenizer)) if not tokenizer.decode([i]).strip(string.punctuation + " \n")]
        head.weight.data[[i for i in silent if i != tokenizer.eos_token_id]] = 0.0
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.max_new_tokens = 12
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _ids(tokenizer: Any) -> dict[str, Any]:
    return {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}


def _qwen3_asr(folder: Path) -> None:
    import transformers

    tokenizer = byte_pieces(
        ["<|asr_text|>"],
        audio_token="<|audio_pad|>",
        audio_bos_token="<|audio_start|>",
        audio_eos_token="<|audio_end|>",
    )
    config = transformers.Qwen3ASRConfig(
        audio_config={
            **{"model_type": "qwen3_asr_encoder", "num_mel_bins": MEL_BINS, "d_model": 16, "encoder_layers": 2},
            **{"encoder_attention_heads": 2, "encoder_ffn_dim": 32, "output_dim": 16, "downsample_hidden_size": 4},
        },
        text_config={**DECODER, "model_type": "qwen3", "vocab_size": len(tokenizer), "tie_word_embeddings": False},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|audio_pad|>"),
        tie_word_embeddings=False,
        **_ids(tokenizer),
    )
    extractor = transformers.Qwen3ASRFeatureExtractor(feature_size=MEL_BINS)
    template = CHAT.replace("AUDIO", "<|audio_start|><|audio_pad|><|audio_end|>")
    processor = transformers.Qwen3ASRProcessor(extractor, tokenizer, chat_template=template)
    save(folder, transformers.Qwen3ASRForConditionalGeneration(config), processor)


def _glmasr(folder: Path) -> None:
    import transformers

    tokenizer = byte_pieces(["<|pad|>"], tokenizer_class="PreTrainedTokenizerFast")
    config = transformers.GlmAsrConfig(
        audio_config={
            **{"model_type": "glmasr_encoder", "num_mel_bins": MEL_BINS, "hidden_size": 16, "intermediate_size": 64},
            **{"num_hidden_layers": 2, "num_attention_heads": 2},
        },
        text_config={**DECODER, "model_type": "llama", "vocab_size": len(tokenizer), **_ids(tokenizer)},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
        tie_word_embeddings=False,
    )
    extractor = transformers.WhisperFeatureExtractor(feature_size=MEL_BINS, chunk_length=2)
    processor = transformers.GlmAsrProcessor(extractor, tokenizer, chat_template=CHAT.replace("AUDIO", "<|pad|>"))
    save(folder, transformers.GlmAsrForConditionalGeneration(config), processor)


def _vibevoice_asr(folder: Path) -> None:
    import transformers

    tokenizer = byte_pieces(["<|box_start|>", "<|object_ref_start|>", "<|object_ref_end|>"])
    encoder = {
        **{"model_type": "vibevoice_acoustic_tokenizer_encoder", "hidden_size": 8, "num_filters": 2},
        **{"depths": [1] * 7, "ffn_expansion": 1, "layer_scale_init_value": 0.5, "initializer_range": 0.3},
    }
    config = transformers.VibeVoiceAsrConfig(
        acoustic_tokenizer_encoder_config=encoder,
        semantic_tokenizer_encoder_config=encoder,
        text_config={**DECODER, "model_type": "qwen2", "vocab_size": len(tokenizer), **_ids(tokenizer)},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|box_start|>"),
        audio_bos_token_id=tokenizer.convert_tokens_to_ids("<|object_ref_start|>"),
        audio_eos_token_id=tokenizer.convert_tokens_to_ids("<|object_ref_end|>"),
        tie_word_embeddings=False,
    )
    extractor = transformers.VibeVoiceAcousticTokenizerFeatureExtractor()
    template = CHAT.replace("AUDIO", "<|object_ref_start|><|box_start|><|object_ref_end|> <|AUDIO_DURATION|>")
    processor = transformers.VibeVoiceAsrProcessor(extractor, tokenizer, chat_template=template)
    save(folder, transformers.VibeVoiceAsrForConditionalGeneration(config), processor)


def _omniasr(folder: Path) -> None:
    import transformers

    tokenizer = byte_pieces(
        ["<extra_id_1>", "<|lang:auto|>", "<|lang:tur_latn|>", "<|lang:deu_latn|>", "<s>"],
        tokenizer_class="PreTrainedTokenizerFast",
    )
    tokenizer.bos_token = "<s>"
    kernel, stride = [10, 3, 2], [8, 4, 4]
    config = transformers.OmniASRConfig(
        audio_config={
            **{"model_type": "omniasr_audio", "hidden_size": 16, "conv_dim": [8] * 3, "conv_kernel": kernel},
            **{"conv_stride": stride, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32},
            **{"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "layerdrop": 0.0},
        },
        text_config={**DECODER, "model_type": "llama", "vocab_size": len(tokenizer)},
        audio_token_id=tokenizer.convert_tokens_to_ids("<extra_id_1>"),
        bos_token_id=tokenizer.convert_tokens_to_ids("<s>"),
        tie_word_embeddings=False,
        **_ids(tokenizer),
    )
    template = (
        "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'audio' %}<extra_id_1>"
        "{% elif part['type'] == 'language' %}<|lang:{{ part['language'] }}|>{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}<s>{% endif %}"
    )
    processor = transformers.OmniASRProcessor(
        transformers.OmniASRFeatureExtractor(),
        tokenizer,
        chat_template=template,
        conv_kernel=kernel,
        conv_stride=stride,
    )
    save(folder, transformers.OmniASRForConditionalGeneration(config), processor)


def _granite(folder: Path, *, plus: bool = False) -> None:
    import transformers

    tokenizer = byte_pieces(["<|audio|>"], tokenizer_class="PreTrainedTokenizerFast")
    kind = "GraniteSpeechPlus" if plus else "GraniteSpeech"
    config = getattr(transformers, f"{kind}Config")(
        encoder_config={
            **{"input_dim": 160, "num_layers": 2, "hidden_dim": 16, "feedforward_mult": 2, "num_heads": 2},
            **{"output_dim": 5, "context_size": 8, "max_pos_emb": 16, "conv_kernel_size": 5, "dropout": 0.0},
        },
        projector_config={
            **{"model_type": "blip_2_qformer", "hidden_size": 16, "encoder_hidden_size": 16, "num_hidden_layers": 1},
            **{"num_attention_heads": 2, "intermediate_size": 32, "cross_attention_frequency": 1},
            **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        },
        text_config={
            **{name: value for name, value in DECODER.items() if name != "head_dim"},
            **{"model_type": "granite", "vocab_size": len(tokenizer), **_ids(tokenizer)},
        },
        audio_token_index=tokenizer.convert_tokens_to_ids("<|audio|>"),
        has_lora_adapter=False,
        tie_word_embeddings=False,
    )
    extractor = transformers.GraniteSpeechFeatureExtractor()
    template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    processor = transformers.GraniteSpeechProcessor(extractor, tokenizer, chat_template=template)
    save(folder, getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor)


def _granite_plus(folder: Path) -> None:
    _granite(folder, plus=True)


def _fun_asr_nano(folder: Path) -> None:
    import transformers

    tokenizer = byte_pieces(["<|object_ref_start|>"])
    config = transformers.FunAsrNanoConfig(
        audio_config={
            **{"model_type": "fun_asr_nano_encoder", "num_mel_bins": MEL_BINS, "num_stacked_frames": 3},
            **{"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 3},
            **{"num_timestamp_prediction_layers": 1, "fsmn_kernel_size": 3},
        },
        adaptor_config={
            **{"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 4, "num_hidden_layers": 1},
            "projector_hidden_size": 32,
        },
        text_config={**DECODER, "model_type": "qwen3", "vocab_size": len(tokenizer), **_ids(tokenizer)},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|object_ref_start|>"),
        tie_word_embeddings=False,
    )
    extractor = transformers.FunAsrNanoFeatureExtractor(feature_size=MEL_BINS, num_frames_lfr=3, stride_lfr=3)
    template = CHAT.replace("AUDIO", "<|object_ref_start|>")
    processor = transformers.FunAsrNanoProcessor(extractor, tokenizer, chat_template=template)
    save(folder, transformers.FunAsrNanoForConditionalGeneration(config), processor)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "glmasr": _glmasr,
    "omniasr": _omniasr,
    "qwen3_asr": _qwen3_asr,
    "vibevoice_asr": _vibevoice_asr,
}
NEEDS_TORCHAUDIO: dict[str, Callable[[Path], None]] = {
    "fun_asr_nano": _fun_asr_nano,
    "granite_speech": _granite,
    "granite_speech_plus": _granite_plus,
}
