"""The stand-ins themselves: names resolve offline, checkpoints lack what real ones lack.

That the server takes a push and resolves names is seen by the README's commands (test_readme_commands.py).
"""

from __future__ import annotations

import csv
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import soundfile as sf
from standins.corpora import CV_COLUMNS, WRITERS, lay_out
from standins.hub_server import HubServer
from standins.models import BUILDERS, MMS_ALPHABETS, stand_in, stand_ins

CTC_NAMES = [
    name
    for name in BUILDERS
    if name.startswith(("facebook/w", "facebook/h", "facebook/d", "microsoft", "asapp", "ntu"))
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub_home")


def test_every_pretrained_encoder_resolves_offline_by_its_plain_name_and_lacks_only_the_head(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    import huggingface_hub.constants
    import torch
    from transformers import AutoFeatureExtractor, AutoModelForCTC

    names = [*CTC_NAMES, "facebook/mms-300m"]
    stand_ins(home, names)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))
    for name in names:
        model, info = AutoModelForCTC.from_pretrained(name, vocab_size=9, output_loading_info=True)
        inputs = AutoFeatureExtractor.from_pretrained(name)([0.0] * 16000, sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            assert model(**inputs).logits.shape == (1, 49, 9), name
        assert set(info["missing_keys"]) == {"lm_head.bias", "lm_head.weight"}, name
    assert len(names) == 17


def test_old_checkpoints_hold_a_bin_file_with_the_weight_norm_names_of_their_time(home: Path):
    import torch

    snapshot = stand_in(home, "facebook/wav2vec2-large-xlsr-53")
    assert not (snapshot / "model.safetensors").exists()
    names = torch.load(snapshot / "pytorch_model.bin", weights_only=True).keys()
    assert any(name.endswith("conv.weight_g") for name in names)
    assert not any("parametrizations" in name for name in names)


def test_mms_switches_between_languages_with_different_alphabets(home: Path):
    from transformers import AutoModelForCTC, AutoProcessor

    folder = stand_in(home, "facebook/mms-1b-all")
    assert json.loads((folder / "vocab.json").read_text(encoding="utf-8")).keys() == {"eng", "tur"}
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForCTC.from_pretrained(folder)
    for language in ("tur", "eng"):
        processor.tokenizer.set_target_lang(language)
        model.load_adapter(language)
        size = len(MMS_ALPHABETS[language]) + 4
        assert len(processor.tokenizer) == size
        assert model.lm_head.out_features == size


def test_whisper_has_the_true_order_of_special_tokens_prompt_and_features(home: Path):
    import numpy as np
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    folder = stand_in(home, "openai/whisper-small")
    processor = WhisperProcessor.from_pretrained(folder)
    tokenizer = processor.tokenizer
    tokenizer.set_prefix_tokens(language="hindi", task="transcribe")
    ids = tokenizer("यह वाक्य").input_ids
    assert tokenizer.decode(ids) == "<|startoftranscript|><|hi|><|transcribe|><|notimestamps|>यह वाक्य<|endoftext|>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "यह वाक्य"
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    settings = model.generation_config
    assert len(settings.lang_to_id) == 99
    assert settings.task_to_id == {
        task: tokenizer.convert_tokens_to_ids(f"<|{task}|>") for task in ("transcribe", "translate")
    }
    assert settings.no_timestamps_token_id + 1 == tokenizer.convert_tokens_to_ids("<|0.00|>")
    assert tokenizer.convert_tokens_to_ids("<|30.00|>") == model.config.vocab_size - 1 == len(tokenizer) - 1
    assert model.config.max_target_positions == 448
    features = processor.feature_extractor(np.zeros(16000, "float32"), sampling_rate=16000, return_tensors="np")
    assert features.input_features.shape == (1, 80, 3000)


def test_bart_and_wav2vec2_join_as_in_the_readme(home: Path):
    from transformers import AutoTokenizer, SpeechEncoderDecoderModel

    encoder, decoder = stand_in(home, "facebook/wav2vec2-base"), stand_in(home, "facebook/bart-base")
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(encoder, decoder, encoder_add_adapter=True)
    assert model.config.decoder.add_cross_attention
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    ids = tokenizer("Hello wörld").input_ids
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 2)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Hello wörld"


def test_common_voice_has_the_columns_and_clips_of_mozillas_release(tmp_path: Path):
    lay_out(tmp_path, ["common_voice/tr"])
    folder = tmp_path / "cv-corpus-6.1-2020-12-11" / "tr"
    sizes = {}
    for split in ("train", "dev", "test"):
        with (folder / f"{split}.tsv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        assert list(rows[0]) == CV_COLUMNS
        assert all((folder / "clips" / row["path"]).exists() for row in rows)
        sizes[split] = len(rows)
    assert sizes == {"train": 10, "dev": 8, "test": 8}
    info = sf.info(next((folder / "clips").iterdir()))
    assert (info.samplerate, info.format) == (48_000, "MP3")


def test_other_corpora_have_their_publishers_layouts(tmp_path: Path):
    lay_out(tmp_path, ["librispeech_asr", "multilingual_librispeech/german", "timit_asr"])
    chapter = tmp_path / "LibriSpeech" / "train-clean-100" / "100" / "120100"
    first = (chapter / "100-120100.trans.txt").read_text().splitlines()[0]
    assert first == "100-120100-0000 SHE HAD A DARK SUIT"
    assert (chapter / "100-120100-0000.flac").exists()
    limited = tmp_path / "mls_german" / "train" / "limited_supervision"
    assert len((limited / "9hr" / "handles.txt").read_text().split()) == 4
    sphere = tmp_path / "TIMIT" / "TRAIN" / "DR1" / "FCJF0" / "SA1.WAV"
    assert sphere.read_bytes()[:8] == b"NIST_1A\n"
    assert (sphere.parent / "SA1.TXT").read_text() == "0 17600 She had a dark suit.\n"


def test_every_stand_in_corpus_has_a_writer_for_its_readme_name():
    assert {"common_voice/tr", "common_voice/sw", "common_voice_11_0/hi", "librispeech_asr"} <= WRITERS.keys()


def test_the_server_refuses_a_wrong_token(home: Path):
    with HubServer(home) as hub:
        request = urllib.request.Request(f"{hub.endpoint}/api/whoami-v2", headers={"Authorization": "Bearer hf_wrong"})
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request)
