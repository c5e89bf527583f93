"""Each newer family from a checkpoint to a text: trained, evaluated, and recognised as plain transformers does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from reliability.tiny import assert_same_weights, read_json, read_rows
from tiny_audio_models import LANGUAGE as PROMPT_LANGUAGE
from tiny_audio_models import NEEDS_TORCHAUDIO, request
from tiny_checkpoints import BUILDERS, build, write_speech
from tiny_families import FAMILIES as TINY_CTC

from speechtune.cli.main import main
from speechtune.errors import ModelError
from speechtune.models.ctc.setup import check_type
from speechtune.models.inputs import input_for
from speechtune.models.loading import family_of
from speechtune.models.seq2seq.audio_prompt import AUDIO_PROMPTED
from speechtune.models.seq2seq.families import auto_class

CPU = ["--use_cpu", "true", "--precision", "fp32", "--dataloader_num_workers", "0"]


LONG = bool(os.environ.get("SPEECHTUNE_LONG_TESTS"))
SLOW = ("glmasr", "omniasr", "vibevoice_asr")  # trained as qwen3_asr is
LANGUAGE = {
    name: ("--language", code) for name, code in {"canary": "de", "cohere_asr": "de", **PROMPT_LANGUAGE}.items()
}


def test_every_type_of_the_other_lists_of_the_library_is_trained_or_refused():
    """That of sequence-to-sequence models: tests/models/seq2seq/test_setup.py."""
    from transformers import OmniASRFeatureExtractor
    from transformers.models.auto import modeling_auto as lists

    trained = {model_type for model_type, *_ in TINY_CTC.values()}
    assert set(lists.MODEL_FOR_CTC_MAPPING_NAMES) - trained == {"omniasr_ctc"}
    with pytest.raises(ModelError, match="OmniASRFeatureExtractor: speechtune prepares audio for"):
        input_for(OmniASRFeatureExtractor())
    transducers = {*lists.MODEL_FOR_TDT_MAPPING_NAMES, *lists.MODEL_FOR_RNNT_MAPPING_NAMES}
    assert transducers <= set(BUILDERS)
    known = {*AUDIO_PROMPTED, *lists.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES}
    assert set(AUDIO_PROMPTED) <= set(BUILDERS) | set(NEEDS_TORCHAUDIO)
    for model_type in set(lists.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES) - known:
        config = SimpleNamespace(model_type=model_type)
        assert family_of(config) == "ctc"  # type: ignore[arg-type]
        with pytest.raises(ModelError, match=f"{model_type} has no CTC head in transformers, and is no other type"):
            check_type(config, None)  # type: ignore[arg-type]


def model_type_of(folder: Path) -> str:
    return str(read_json(folder / "config.json")["model_type"])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module", params=sorted(name for name in BUILDERS if LONG or name not in SLOW))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("checkpoint"), family)


def words(checkpoint: Path, corpus: Path, out: Path, *more: str) -> list[str]:
    more = (*LANGUAGE.get(str(model_type_of(checkpoint)), ()), *more)
    begin = ["train", "--model_name_or_path", str(checkpoint), "--dataset_name", str(corpus), "--output_dir", str(out)]
    steps = ["--max_steps", "2", "--save_steps", "1", "--per_device_train_batch_size", "3", "--learning_rate", "1e-3"]
    return [*begin, *steps, *CPU, *more]


@pytest.fixture(scope="module")
def trained(checkpoint: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    assert main(words(checkpoint, corpus, out)) == 0
    return out


def test_it_trains_and_recognises_as_plain_transformers_does(family: str, trained: Path, corpus: Path):
    assert read_json(trained / "trainer_state.json")["global_step"] == 2
    assert read_json(trained / "train_results.json")["train_loss"] > 0
    rows = read_rows(trained / "hypotheses.jsonl")
    assert [row["reference"] for row in rows] == [
        json.loads(line)["text"] for line in (corpus / "test.jsonl").read_text("utf-8").splitlines()
    ]
    expected = [plain_text(trained, corpus / "test" / f"{i:03}.wav") for i in range(2)]
    from speechtune.decoding.transcribe import Transcriber

    transcriber = Transcriber(
        str(trained), device="cpu", vad="none", **({"language": LANGUAGE[family][1]} if family in LANGUAGE else {})
    )
    texts = [transcriber(str(corpus / "test" / f"{i:03}.wav")) for i in range(2)]
    assert texts == expected and any(texts)
    assert [row["hypothesis"] for row in rows] == [normalised(text) for text in expected]


def plain_text(folder: Path, clip: Path) -> str:
    """What plain transformers writes for one clip."""
    import soundfile as sf
    import torch
    import transformers

    processor = transformers.AutoProcessor.from_pretrained(folder)
    loaders = ("AutoModelForCTC", "AutoModelForTDT", "AutoModelForRNNT", "AutoModelForSpeechSeq2Seq")
    config = transformers.AutoConfig.from_pretrained(folder)
    if config.model_type in AUDIO_PROMPTED:
        return prompted_text(folder, clip, processor)
    loader = next(x for x in (getattr(transformers, name) for name in loaders) if type(config) in x._model_mapping)
    model = loader.from_pretrained(folder).eval()
    samples, sampling_rate = sf.read(clip, dtype="float32")
    if config.model_type == "canary":
        inputs = processor.apply_transcription_request(samples, source_language="de")
    else:
        language = {"language": "de"} if config.model_type in LANGUAGE else {}
        inputs = processor(samples, sampling_rate=sampling_rate, return_tensors="pt", **language)
    with torch.no_grad():
        ids = model.generate(**inputs)
    ids = getattr(ids, "sequences", ids)
    (text,) = processor.batch_decode(ids, skip_special_tokens=True)
    return " ".join(str(text).split())


def prompted_text(folder: Path, clip: Path, processor: Any) -> str:
    """What plain transformers writes for one clip after its prompt."""
    import soundfile as sf
    import soxr
    import torch

    model_type = model_type_of(folder)
    samples, sampling_rate = sf.read(clip, dtype="float32")
    samples = soxr.resample(samples, sampling_rate, processor.feature_extractor.sampling_rate, "HQ")
    inputs = request(processor, samples, PROMPT_LANGUAGE.get(model_type))
    model = auto_class(model_type).from_pretrained(folder).eval()
    with torch.no_grad():
        ids = model.generate(**inputs, **({"sample": False} if model_type == "vibevoice_asr" else {}))
    (text,) = processor.decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return " ".join(str(text).split())


def normalised(text: str) -> str:
    from speechtune.options.table import Settings
    from speechtune.plan.text import text_normaliser

    _, normalise_hypothesis = text_normaliser(Settings(), None, "ctc")
    return " ".join(normalise_hypothesis(text).split())


@pytest.mark.long
@pytest.mark.skipif(not LONG, reason="long: SPEECHTUNE_LONG_TESTS=1 runs it")
def test_a_resumed_run_ends_with_the_same_weights(checkpoint: Path, corpus: Path, trained: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert main(words(checkpoint, corpus, out)) == 0
    shutil.rmtree(out / "checkpoint-2")
    (out / "model.safetensors").unlink()
    assert main(words(checkpoint, corpus, out)) == 0
    assert_same_weights(out, trained)
