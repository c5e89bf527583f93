"""Whisper's prompt is the same in labels, in generation, and in what is saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_seq2seq import batch_of, checkpoint, for_training, loaded, voice, whisper

from speechtune.errors import ModelError, OptionError
from speechtune.models.whisper.prompt import preceding_tokens


def written(recogniser, text: str = "bir") -> str:
    return recogniser.tokenizer.decode(recogniser.encode(text))


def forced_prompt(recogniser) -> list[str]:
    """What plain `generate` starts from: the tokens that come with the first decoder step."""
    model = recogniser.model.eval()
    seen: list[torch.Tensor] = []
    hook = model.model.decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    with torch.no_grad():
        model.generate(batch_of(recogniser).inputs["input_features"], max_new_tokens=1)
    hook.remove()
    return recogniser.tokenizer.convert_ids_to_tokens(seen[-1][0])


@pytest.mark.parametrize("spelling", ["hindi", "hi", "<|hi|>", "Hindi", "hin"])
def test_every_spelling_of_a_language_gives_its_token(spelling: str):
    recogniser = for_training(language=spelling)
    assert written(recogniser) == "<|hi|><|transcribe|><|notimestamps|>bir<|endoftext|>"
    assert forced_prompt(recogniser) == ["<|startoftranscript|>", "<|hi|>", "<|transcribe|>", "<|notimestamps|>"]
    assert recogniser.model.generation_config.forced_decoder_ids is None


def test_the_task_is_in_the_prompt():
    recogniser = for_training(language="hindi", task="translate")
    assert written(recogniser).startswith("<|hi|><|translate|><|notimestamps|>")
    assert forced_prompt(recogniser)[2] == "<|translate|>"


def test_the_users_language_wins_over_the_corpus():
    assert written(for_training(language="hi", corpus_language="tr")).startswith("<|hi|>")
    assert written(for_training(corpus_language="tr")).startswith("<|tr|>")
    assert written(for_training(corpus_language="jv")).startswith("<|jw|>")  # Whisper's own code for Javanese


def test_an_unknown_language_is_named_with_near_ones_before_training():
    with pytest.raises(OptionError, match=r"--language turkisch.*99 languages.*tr \(Turkish\)"):
        for_training(language="turkisch")
    with pytest.raises(OptionError, match="corpus' language is kab"):
        for_training(corpus_language="kab")


def test_a_language_of_newer_tokenizers_is_refused_where_the_model_lacks_it():
    with pytest.raises(OptionError, match="cantonese"):
        for_training(language="cantonese")


def test_training_without_a_language_is_english_and_says_so(caplog: pytest.LogCaptureFixture):
    recogniser = for_training(corpus_language=None)
    assert written(recogniser).startswith("<|en|><|transcribe|><|notimestamps|>")
    assert "using English" in caplog.text


def test_evaluation_without_a_language_lets_the_model_guess_and_has_no_loss(caplog: pytest.LogCaptureFixture):
    recogniser = whisper(language=None)
    assert "Whisper detects it" in caplog.text
    batch = batch_of(recogniser)
    with torch.inference_mode():
        said = recogniser.recognise(recogniser.model, batch, with_loss=True)
        plain = recogniser.model.generate(batch.inputs["input_features"])
    assert [row.text for row in said] == recogniser.tokenizer.batch_decode(plain, skip_special_tokens=True)
    assert all(row.loss != row.loss for row in said)


def english_only(folder: Path) -> Path:
    shutil.copytree(checkpoint("openai/whisper-small"), folder)
    settings = json.loads((folder / "generation_config.json").read_text("utf-8"))
    for name in ("lang_to_id", "task_to_id"):
        del settings[name]
    settings.update(is_multilingual=False, forced_decoder_ids=[[1, settings["no_timestamps_token_id"]]])
    (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def test_an_english_model_has_no_language_and_no_task(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = str(english_only(tmp_path / "whisper.en"))
    recogniser = for_training(folder, corpus_language="en")
    assert written(recogniser) == "<|notimestamps|>bir<|endoftext|>"
    assert forced_prompt(recogniser) == ["<|startoftranscript|>", "<|notimestamps|>"]
    assert written(for_training(folder, language="english")).startswith("<|notimestamps|>")
    with pytest.raises(OptionError, match=r"--language hindi: .*English only"):
        for_training(folder, language="hindi")
    with pytest.raises(OptionError, match="--task translate"):
        for_training(folder, task="translate")
    for_training(folder, corpus_language="tr")
    assert "corpus' language is tr" in caplog.text


def test_a_generation_config_from_before_2023_is_completed(tmp_path: Path):
    folder = tmp_path / "old"
    shutil.copytree(checkpoint("openai/whisper-small"), folder)
    settings = json.loads((folder / "generation_config.json").read_text("utf-8"))
    for name in ("lang_to_id", "task_to_id", "is_multilingual", "no_timestamps_token_id"):
        del settings[name]
    (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    recogniser = for_training(str(folder), language="hi")
    assert forced_prompt(recogniser) == ["<|startoftranscript|>", "<|hi|>", "<|transcribe|>", "<|notimestamps|>"]
    assert len(recogniser.model.generation_config.lang_to_id) == 99


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path):
    folder = tmp_path / "mixed"
    shutil.copytree(checkpoint("openai/whisper-small"), folder)
    settings = json.loads((folder / "generation_config.json").read_text("utf-8"))
    settings["lang_to_id"]["<|hi|>"] += 1
    (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(ModelError, match="take both from the same folder"):
        for_training(str(folder), language="hi")


def test_a_saved_model_says_the_same_under_plain_transformers(tmp_path: Path):
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    recogniser = for_training(language="hindi", generation={"generation_max_length": 9, "generation_num_beams": 2})
    recogniser.model.eval().save_pretrained(tmp_path)
    recogniser.save_processor(tmp_path)
    clip = voice(1.0)
    with torch.inference_mode():
        batch = batch_of(recogniser, [(1.0, "bir")])
        said = recogniser.recognise(recogniser.model, batch, with_loss=True)[0].text
    model, processor = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    features = processor(clip, sampling_rate=16_000, return_tensors="pt").input_features
    assert processor.batch_decode(model.generate(features), skip_special_tokens=True) == [said]
    assert model.generation_config.language == "hi"
    prompt = processor.tokenizer("bir").input_ids
    assert processor.decode(prompt).startswith("<|startoftranscript|><|hi|><|transcribe|><|notimestamps|>bir")


def test_a_trained_folder_remembers_its_language(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    recogniser = for_training(language="hindi", task="translate")
    recogniser.model.save_pretrained(tmp_path)
    recogniser.save_processor(tmp_path)
    again = loaded(str(tmp_path), task="translate")
    assert written(again).startswith("<|hi|><|translate|>")
    assert not caplog.text
    loaded(str(tmp_path))
    assert "has the task translate; --task transcribe overrides it" in caplog.text


# ---- a text before


def test_a_text_before_has_the_tokens_that_transformers_gives_it():
    recogniser = whisper()
    found = preceding_tokens(recogniser.model, recogniser.tokenizer, " Ankara, Çanakkale\n")
    assert found == list(recogniser.tokenizer.get_prompt_ids("Ankara, Çanakkale"))
    assert recogniser.tokenizer.convert_ids_to_tokens(found[0]) == "<|startofprev|>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ", "expected words or a sentence"),
        ("a <|tr|> b", "without special tokens"),
        ("bir " * 300, r"\d+ tokens; Whisper takes \d+. Shorten it"),
    ],
)
def test_a_text_before_that_can_not_be_used_is_refused(text: str, message: str):
    recogniser = whisper()
    with pytest.raises(OptionError, match=f"--prompt.*{message}"):
        preceding_tokens(recogniser.model, recogniser.tokenizer, text)
