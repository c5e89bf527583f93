"""Damaged model folders: a result or one message, from every command that loads a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

from damage import damaged

from fuzz.case import Case, Place
from fuzz.commands import SHORT, evaluate, train
from fuzz.material import CORPUS, CTC, WHISPER
from fuzz.mutate import damage_json, flip_bits

__all__ = ["make"]


def make(place: Place, rng: Random) -> Case:
    source = rng.choice((CTC, CTC, CTC, WHISPER))
    model = place.folder / "model"
    shutil.copytree(place.material / source, model, ignore=shutil.ignore_patterns("checkpoint-*", ".lock"))
    for _ in range(rng.choice((1, 1, 2))):
        _damage(model, rng)
    return Case([_command(model, source, place, rng)])


def _damage(model: Path, rng: Random) -> None:
    weights = [path for path in model.iterdir() if path.suffix == ".safetensors"]
    texts = [path for path in model.iterdir() if path.suffix in (".json", ".txt") and "results" not in path.name]
    victim = rng.choice(weights if weights and rng.random() < 0.25 else sorted(texts))
    what = rng.choice(("json", "json", "json", "bytes", "gone", "empty", "config"))
    if victim in weights and what != "gone":
        _damage_weights(victim, rng)
    elif what == "gone":
        victim.unlink()
    elif what == "empty":
        victim.write_bytes(b"")
    elif what == "config" and (model / "config.json").exists():
        _odd_config(model / "config.json", rng)
    else:
        try:
            damage_json(victim, rng) if what == "json" else victim.write_bytes(damaged(victim.read_bytes(), rng))
        except (ValueError, RecursionError):  # not JSON, or damaged before
            victim.write_bytes(damaged(victim.read_bytes(), rng))


def _damage_weights(path: Path, rng: Random) -> None:
    what = rng.choice(("bits", "header", "cut", "pickle", "size"))
    data = bytearray(path.read_bytes())
    if what == "bits":
        flip_bits(path, rng, rng.choice((1, 100)))
    elif what == "header":
        at = rng.randrange(8, min(len(data), 2000))
        data[at : at + 1] = rng.choice((b"9", b'"', b"}", b"\xff", b"[" * 3000))
        path.write_bytes(data)
    elif what == "cut":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif what == "size":
        path.write_bytes(rng.choice((b"\xff" * 8, b"\0" * 8, (1 << 40).to_bytes(8, "little"))) + data[8:])
    else:
        path.unlink()
        path.with_name("pytorch_model.bin").write_bytes(
            rng.choice((b"\x80\x02}q\x00.", b"PK\x03\x04", rng.randbytes(200)))
        )


def _odd_config(path: Path, rng: Random) -> None:
    """Sizes that would take all memory, or leave no frames."""
    config = json.loads(path.read_text())
    odd = {
        "num_hidden_layers": (10**7, -1, 0), "hidden_size": (10**6, 17, 0), "vocab_size": (10**9, 1, -3),
        "conv_stride": ([0] * 7, [5, 0, 2, 2, 2, 2, 2], [10**9] * 7, []), "conv_kernel": ([0] * 7, [10**6] * 7, [3]),
        "conv_dim": ([10**6] * 7, []), "num_attention_heads": (0, 7, 10**9), "num_conv_pos_embedding_groups": (0, 5),
        "model_type": ("bert", "nope", "x" * 5000, 3), "architectures": (["Nope"], None), "dtype": ("float64", "nope"),
        "mask_time_length": (100_000, 0), "auto_map": ({"AutoConfig": "evil.Config"},), "d_model": (10**6, 1),
        "max_source_positions": (1, 10**9), "decoder_layers": (10**7, 0), "pad_token_id": (10**6, -5, None),
        "num_mel_bins": (1, 10**6), "_name_or_path": ("../../outside",), "adapter_attn_dim": (10**8,),
        "quantization_config": ({"quant_method": "x"},),
    }  # fmt: skip
    name = rng.choice(sorted(odd))
    config[name] = rng.choice(odd[name])
    path.write_text(json.dumps(config))


def _command(model: Path, source: str, place: Place, rng: Random) -> list[str]:
    corpus = place.material / CORPUS
    clip = str(corpus / "test" / "000.wav")
    language = ["--language", "tr"] if source == WHISPER else []
    name = rng.choice(("transcribe", "evaluate", "evaluate", "train", "plan", "export", "doctor", "warmstart"))
    if name == "transcribe":
        return [name, str(model), clip, *language]
    if name == "evaluate":
        return evaluate(corpus, place, *language, model=model)
    if name == "export":
        return [name, str(model), "--output_dir", str(place.output), *rng.choice(([], ["--dtype", "float16"]))]
    if name == "doctor":
        return [name, "--dataset_name", str(corpus), "--model_name_or_path", str(model)]
    if name == "warmstart":
        other = str(place.material / CTC)
        return [name, "--encoder", str(model), "--decoder", rng.choice((str(model), other)), "--output_dir", "joined"]
    given = train(corpus, place)
    at = given.index("--model_config")
    words = [name, *given[1:at], "--model_name_or_path", str(model), *given[at + 2 :], *SHORT, *language]
    if source == WHISPER:  # an evaluation of random weights would write until the length limit
        words += ["--generation_max_length", "8"]
    return words
