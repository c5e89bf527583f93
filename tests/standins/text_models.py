"""Tiny text decoders for warm-started encoder-decoders: BART and GPT-2, with byte-level BPE tokenizers."""

from __future__ import annotations

from pathlib import Path

from standins.models import write_json

# What the BPE merges are learnt from; every other text still encodes, byte by byte.
BPE_TEXT = [
    "the cat sat on the mat and the dog lay by the door",
    "he said that she had been there before the rain",
    "ve bir bu da için ile olarak çok daha sonra",
    "यह एक छोटा सा वाक्य है और वह भी",
    "der die das und ist nicht ein eine mit auf",
] * 3


def byte_level_bpe(num_merges: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE as GPT-2 has it: 256 bytes, then one token a merge."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=256 + num_merges, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(BPE_TEXT, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def write_bpe(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """The two files of GPT-2's slow tokenizer."""
    write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def build_bart(folder: Path, *, hidden: int) -> None:
    """facebook/bart-*: <s> 0, <pad> 1, </s> 2, <unk> 3, then the bytes and merges, <mask> last."""
    import torch
    import transformers

    bytes_and_merges, merges = byte_level_bpe(60)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(bytes_and_merges, key=bytes_and_merges.__getitem__), "<mask>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = transformers.BartTokenizer(vocab=vocabulary, merges=merges)
    tokenizer.model_max_length = 1024
    tokenizer.save_pretrained(folder)
    write_bpe(folder, vocabulary, merges)
    torch.manual_seed(0)
    config = transformers.BartConfig(
        vocab_size=len(vocabulary),
        d_model=hidden,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=1024,
        forced_bos_token_id=0,
    )
    transformers.BartModel(config).save_pretrained(folder)


def build_gpt2(folder: Path) -> None:
    """gpt2: no padding token, one <|endoftext|> for beginning and end."""
    import torch
    import transformers

    vocabulary, merges = byte_level_bpe(60)
    vocabulary["<|endoftext|>"] = len(vocabulary)
    transformers.GPT2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=1024).save_pretrained(folder)
    write_bpe(folder, vocabulary, merges)
    torch.manual_seed(0)
    end = vocabulary["<|endoftext|>"]
    config = transformers.GPT2Config(
        vocab_size=len(vocabulary), n_embd=16, n_layer=2, n_head=2, n_inner=32, bos_token_id=end, eos_token_id=end
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
