"""Tiny random models under the hub's names, laid out as the hub's cache holds them.

`stand_in(home, "facebook/wav2vec2-base")` writes `home/hub/models--facebook--wav2vec2-base/` with `refs/main` and
`snapshots/HASH/...`; with HF_HOME=home and HF_HUB_OFFLINE=1 the plain name then resolves as the real one would. What a
checkpoint has and lacks follows the hub: pretrained encoders carry no tokenizer and no CTC head, and the older ones
only a `pytorch_model.bin` with the parameter names of their time (`weight_g`, `weight_v`).

Rejected: downloading real configs (no network in tests), and one shared model under all names (the families differ in
just the places where training code breaks: normalisation, attention masks, feature extractors, adapters).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

HIDDEN = 16
CONV_LAYERS = 7  # strides 5, 2, 2, 2, 2, 2, 2: 320 samples, 20 ms a frame

SPEECH_SIZES: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [HIDDEN] * CONV_LAYERS,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
PRETRAINING_SIZES: dict[str, Any] = {
    "codevector_dim": HIDDEN,
    "proj_codevector_dim": HIDDEN,
    "num_codevectors_per_group": 8,
    "num_codevector_groups": 2,
}
LAYER_NORM: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
GROUP_NORM: dict[str, Any] = {"feat_extract_norm": "group", "do_stable_layer_norm": False}

MMS_ALPHABETS = {
    "eng": "|etaoinsrhldcumfpgwybvk'xjqz0123456789",
    "tur": "|aeinrlkdımytusboüşzgğhcçvpöf'j",
}
MMS_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]

# Files that the libraries ask for and many repositories lack. A cache that was filled online remembers the answer
# "not there" under .no_exist; without it, offline, a missing optional file reads as "can't be reached".
OPTIONAL_FILES = [
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
]


def stand_in(home: Path, name: str) -> Path:
    """Folder of the snapshot of `name` in the hub cache `home`/hub, built if it isn't there.

    Several processes may ask at once: each builds apart, one rename wins.

    Raises:
        KeyError: no stand-in has that name.
    """
    build = BUILDERS[name]
    repo = home / "hub" / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(name.encode()).hexdigest()
    snapshot = repo / "snapshots" / commit
    if snapshot.is_dir():
        return snapshot
    draft = home / "drafts" / uuid.uuid4().hex
    draft.mkdir(parents=True)
    build(draft)
    for file in draft.iterdir():
        file.chmod(0o644)
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / "main").write_text(commit)
    absent = repo / ".no_exist" / commit
    absent.mkdir(parents=True, exist_ok=True)
    for file_name in OPTIONAL_FILES:
        if not (draft / file_name).exists():
            (absent / file_name).touch()
    try:
        draft.rename(snapshot)
    except OSError:  # another process was faster
        shutil.rmtree(draft)
    return snapshot


def stand_ins(home: Path, names: Iterable[str]) -> None:
    """Build every model of `names`."""
    for name in names:
        stand_in(home, name)


def hub_environment(home: Path) -> dict[str, str]:
    """Environment for a fresh process that must find the stand-ins of `home` and nothing else."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN")
    }
    return {**environment, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _speech(
    folder: Path,
    model_type: str,
    *,
    head: str | None = None,
    extra: dict[str, Any],
    mask: bool,
    old_format: bool = False,
) -> None:
    """A pretrained speech encoder: config, weights and feature extractor; no tokenizer, no CTC head."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {**SPEECH_SIZES, **(PRETRAINING_SIZES if head else {}), **extra}
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    model_class = getattr(transformers, head) if head else transformers.MODEL_MAPPING[type(config)]
    model = model_class(config)
    model.save_pretrained(folder)
    if old_format:
        _as_old_checkpoint(folder)
    if model_type == "wav2vec2-bert":
        transformers.SeamlessM4TFeatureExtractor(padding_value=1).save_pretrained(folder)
    else:
        transformers.Wav2Vec2FeatureExtractor(return_attention_mask=mask).save_pretrained(folder)


def _as_old_checkpoint(folder: Path) -> None:
    """Replace model.safetensors by a pytorch_model.bin with the names that weight norm had before torch 2."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    old_names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for name, tensor in weights.items():
        for new, old in old_names.items():
            name = name.replace(new, old)
        renamed[name] = tensor
    torch.save(renamed, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def mms_vocabulary(language: str) -> dict[str, int]:
    """Token -> id of one language of the MMS stand-in."""
    return {token: index for index, token in enumerate([*MMS_SPECIAL, *MMS_ALPHABETS[language]])}


def _mms_with_adapters(folder: Path) -> None:
    """MMS as fine-tuned: attention adapters and a CTC head per language, a vocabulary nested by language."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(0)
    vocabularies = {language: mms_vocabulary(language) for language in MMS_ALPHABETS}
    write_json(folder / "vocab.json", vocabularies)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(
        str(folder / "vocab.json"),
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        word_delimiter_token="|",
        target_lang="eng",
    )
    for language in ("tur", "eng"):  # English last: it is the language of the checkpoint itself
        config = transformers.Wav2Vec2Config(
            **SPEECH_SIZES, **LAYER_NORM, adapter_attn_dim=16, vocab_size=len(vocabularies[language])
        )
        model = transformers.Wav2Vec2ForCTC(config)
        adapter = {name: tensor.detach().contiguous() for name, tensor in model._get_adapters().items()}
        save_file(adapter, folder / f"adapter.{language}.safetensors", metadata={"format": "pt"})
    model.save_pretrained(folder)
    feature_extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    transformers.Wav2Vec2Processor(feature_extractor, tokenizer).save_pretrained(folder)
    (folder / "processor_config.json").unlink(missing_ok=True)  # the hub's folder is from before it existed
    feature_extractor.save_pretrained(folder)
    write_json(folder / "vocab.json", vocabularies)


def _turkish_tokenizer(folder: Path) -> None:
    """anton-l/wav2vec2-tokenizer-turkish: letters only, `|` between words, [PAD] as blank."""
    import transformers

    letters = "abcçdefgğhıijklmnoöpqrsştuüvwxyzâîû'"
    vocabulary = {"|": 0, **{letter: index for index, letter in enumerate(letters, start=1)}}
    vocabulary["[UNK]"] = len(vocabulary)
    vocabulary["[PAD]"] = len(vocabulary)
    write_json(folder / "vocab.json", vocabulary)
    transformers.Wav2Vec2CTCTokenizer(
        str(folder / "vocab.json"), unk_token="[UNK]", pad_token="[PAD]", word_delimiter_token="|"
    ).save_pretrained(folder)
    write_json(folder / "vocab.json", vocabulary)


def _whisper(folder: Path) -> None:
    from standins.whisper import build_whisper

    build_whisper(folder)


def _bart(folder: Path, *, hidden: int) -> None:
    from standins.text_models import build_bart

    build_bart(folder, hidden=hidden)


def _gpt2(folder: Path) -> None:
    from standins.text_models import build_gpt2

    build_gpt2(folder)


_wav2vec2 = partial(_speech, model_type="wav2vec2", head="Wav2Vec2ForPreTraining")
_LAYER_NORM_WAV2VEC2 = partial(_wav2vec2, extra=LAYER_NORM, mask=True, old_format=True)
_WIDE = {**LAYER_NORM, "hidden_size": 64}  # the streaming command masks 64 features at once
_SQUEEZED: dict[str, Any] = {"squeeze_factor": 2, "conv_dim": [HIDDEN] * 13, "feat_extract_norm": "group"}
_CONVOLUTIONAL_POSITIONS: dict[str, Any] = {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2}

BUILDERS: dict[str, Callable[[Path], None]] = {
    "facebook/wav2vec2-large-xlsr-53": _LAYER_NORM_WAV2VEC2,
    "facebook/wav2vec2-xls-r-300m": partial(_wav2vec2, extra=_WIDE, mask=True, old_format=True),
    "facebook/wav2vec2-xls-r-1b": _LAYER_NORM_WAV2VEC2,
    "facebook/wav2vec2-large-lv60": _LAYER_NORM_WAV2VEC2,
    "facebook/mms-300m": _LAYER_NORM_WAV2VEC2,
    "facebook/wav2vec2-base": partial(_wav2vec2, extra=GROUP_NORM, mask=False),
    "facebook/wav2vec2-conformer-rel-pos-large": partial(
        _speech,
        model_type="wav2vec2-conformer",
        head="Wav2Vec2ConformerForPreTraining",
        extra={**LAYER_NORM, "position_embeddings_type": "relative", "conv_depthwise_kernel_size": 3},
        mask=True,
    ),
    "facebook/w2v-bert-2.0": partial(
        _speech, model_type="wav2vec2-bert", extra={"conv_depthwise_kernel_size": 3, "add_adapter": False}, mask=True
    ),
    "facebook/hubert-large-ll60k": partial(_speech, model_type="hubert", extra=LAYER_NORM, mask=True, old_format=True),
    "ntu-spml/distilhubert": partial(_speech, model_type="hubert", extra=GROUP_NORM, mask=False),
    "microsoft/wavlm-large": partial(_speech, model_type="wavlm", extra=LAYER_NORM, mask=True),
    "microsoft/wavlm-base-plus": partial(_speech, model_type="wavlm", extra=GROUP_NORM, mask=False),
    "microsoft/unispeech-large-1500h-cv": partial(
        _speech,
        model_type="unispeech",
        head="UniSpeechForPreTraining",
        extra={**GROUP_NORM, "do_stable_layer_norm": True},
        mask=True,
    ),
    "microsoft/unispeech-sat-base": partial(
        _speech, model_type="unispeech-sat", head="UniSpeechSatForPreTraining", extra=GROUP_NORM, mask=False
    ),
    "asapp/sew-mid-100k": partial(_speech, model_type="sew", extra=_SQUEEZED, mask=False),
    "asapp/sew-d-tiny-100k": partial(
        _speech,
        model_type="sew-d",
        extra={**_SQUEEZED, "max_position_embeddings": 64, "position_buckets": 16},
        mask=False,
    ),
    "facebook/data2vec-audio-base": partial(
        _speech, model_type="data2vec-audio", extra=_CONVOLUTIONAL_POSITIONS, mask=True
    ),
    "facebook/mms-1b-all": _mms_with_adapters,
    "anton-l/wav2vec2-tokenizer-turkish": _turkish_tokenizer,
    "openai/whisper-small": _whisper,
    "facebook/bart-base": partial(_bart, hidden=16),
    "facebook/bart-large": partial(_bart, hidden=24),
    "gpt2": _gpt2,
}
