"""Which splits a run reads, in which language, what is said of them, and what one plan holds."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from reliability.tiny import write_clip, write_corpus, write_manifest
from standins.shards import rows_of, write_tar
from tiny_seq2seq import checkpoint
from trained_folders import ctc_folder

from speechtune.errors import CorpusError, OptionError
from speechtune.options.parse import parse_options
from speechtune.plan.plan import RunPlan
from speechtune.plan.resolve import resolve

WAV2VEC2 = json.dumps({"model_type": "wav2vec2"})
WHISPER = json.dumps({"model_type": "whisper"})


def plan_for(corpus: Path, *words: str, command: Any = "train", model: str = WAV2VEC2) -> RunPlan:
    start = ["--model_config", model] if command == "train" else [model]
    out = corpus.parent / f"{corpus.name}-out"
    return resolve(
        parse_options([*start, "--dataset_name", str(corpus), "--output_dir", str(out), *words], command=command)
    )


def of_durations(folder: Path, split: str, rows: list[tuple[float, str]], *, seed: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for index, (duration_s, _) in enumerate(rows):
        write_clip(folder / split / f"{index}.wav", duration_s, seed=seed + index)
    write_manifest(folder, split, [{"audio": f"{split}/{n}.wav", "text": text} for n, (_, text) in enumerate(rows)])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=5, num_test=3)


@pytest.fixture(scope="module")
def three_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three") / "corpus"
    for number, split in enumerate(("train", "validation", "test")):
        of_durations(folder, split, [(0.3, f"{split} {n}") for n in range(4 - number)], seed=10 * number)
    return folder


# ---- which splits


def test_ctc_trains_on_train_and_validation_by_default(three_splits: Path):
    plan = plan_for(three_splits)
    assert plan.train is not None and (plan.train.name, plan.train.num_utterances) == ("train+validation", 7)
    assert plan.family == "ctc" and plan.notes == ()


def test_a_sequence_to_sequence_model_does_not_train_on_its_validation_split(three_splits: Path):
    plan = plan_for(three_splits, "--eval_split_name", "validation", model=WHISPER)
    assert plan.train is not None and (plan.train.name, plan.train.num_utterances) == ("train", 4)
    assert plan.evaluation is not None and plan.evaluation.num_utterances == 3
    assert plan.settings.train_split_name == "train" and plan.notes == ()


def test_the_default_splits_are_those_that_the_corpus_has(corpus: Path):
    plan = plan_for(corpus)
    assert plan.train is not None and plan.evaluation is not None
    assert (plan.train.name, plan.train.num_utterances, plan.evaluation.num_utterances) == ("train", 5, 3)
    assert plan.notes == (f'{plan.corpus}: no validation split; training on "train"',)


@pytest.mark.parametrize("wanted", ["train+validation", "validation"])
def test_splits_that_the_user_names_must_exist(corpus: Path, wanted: str):
    with pytest.raises(CorpusError, match=r"no split 'validation'\.\nSplits: "):
        plan_for(corpus, "--train_split_name", wanted)


def test_a_corpus_with_none_of_the_default_splits_names_its_own(tmp_path: Path):
    of_durations(tmp_path / "corpus", "test", [(0.3, "bir")])
    with pytest.raises(CorpusError, match=r"no split 'train'\.\nSplits: test"):
        plan_for(tmp_path / "corpus")


def test_an_evaluation_reads_no_training_split(tmp_path: Path):
    of_durations(tmp_path / "corpus", "test", [(0.3, "bir")])
    model = ctc_folder(tmp_path / "model", letters="abc")
    plan = plan_for(tmp_path / "corpus", command="evaluate", model=str(model))
    assert plan.train is None and plan.evaluation is not None and plan.evaluation.num_utterances == 1
    assert plan.corpus == "corpus" and plan.model_type == "wav2vec2"


@pytest.mark.parametrize(("asked", "taken"), [(1, 1), (4, 4), (5, 5), (9, 5)])
def test_no_more_utterances_are_taken_than_there_are(corpus: Path, asked: int, taken: int):
    plan = plan_for(corpus, "--max_train_samples", str(asked))
    assert plan.train is not None and plan.train.num_utterances == taken


def test_streaming_from_local_files_reads_them_in_place(corpus: Path):
    plan = plan_for(corpus, "--streaming", "--max_steps", "2")
    assert plan.train is not None and plan.train.num_utterances == 5 and not plan.settings.streaming
    assert any("is local and is read in place" in note for note in plan.notes)


def test_shards_are_a_stream_only_on_request(tmp_path: Path):
    for number, split in enumerate(("train", "test")):
        write_tar(tmp_path / f"{split}-0.tar", rows_of(number))
    table = plan_for(tmp_path)
    stream = plan_for(tmp_path, "--streaming", "--max_steps", "2")
    assert table.train is not None and table.train.num_utterances == 7
    assert stream.train is not None and stream.train.num_utterances is None and stream.settings.streaming


def test_the_language_is_the_users_before_the_corpus_part(corpus: Path):
    assert plan_for(corpus).language is None
    assert plan_for(corpus, "--language", "turkish").language == "tr"


# ---- speech shared between training and evaluation


def test_a_score_on_the_training_recordings_is_refused(corpus: Path):
    with pytest.raises(OptionError, match="all 5 of its recordings are also in the training data"):
        plan_for(corpus, "--eval_split_name", "train")
    plan = plan_for(corpus, "--eval_split_name", "train", "--force")
    assert any("5 recordings (100%) are also in the training data" in note for note in plan.notes)


def test_recordings_and_sentences_of_a_speaker_in_both_splits_are_counted(tmp_path: Path):
    folder = tmp_path / "corpus"
    for name in "abcd":
        write_clip(folder / f"{name}.wav", 0.3, seed=ord(name))
    rows = [
        {"audio": "a.wav", "text": "bir", "speaker": "s1"},
        {"audio": "b.wav", "text": "iki", "speaker": "s1"},
        {"audio": "c.wav", "text": "bir", "speaker": "s1"},
        {"audio": "d.wav", "text": "bir", "speaker": "s2"},
    ]
    write_manifest(folder, "train", rows[:2])
    write_manifest(folder, "test", rows[1:])
    notes = plan_for(folder).notes
    (warning,) = [note for note in notes if note.startswith("warning:")]
    assert "1 recordings (33%) are also in the training data" in warning
    assert "1 utterances (33%) repeat a transcript that the same speaker says there" in warning


# ---- the plan


def test_an_evaluation_says_nothing_of_splits_to_train_on(corpus: Path, tmp_path: Path):
    model = ctc_folder(tmp_path / "model", letters="abc")
    assert plan_for(corpus, command="evaluate", model=str(model)).notes == ()


@pytest.mark.parametrize(("tuned", "context"), [(0.0, 0.0), (1.0, 1.0), ("full", "full"), (None, "full")])
def test_whisper_is_given_the_context_that_it_was_tuned_with(corpus: Path, tuned: Any, context: Any):
    """Also where that is no silence at all."""
    model = {"model_type": "whisper"} | ({} if tuned is None else {"speechtune_encoder_context": tuned})
    assert plan_for(corpus, model=json.dumps(model)).settings.encoder_context == context


def test_what_only_a_decoder_uses_is_no_part_of_the_protocol_of_ctc(corpus: Path):
    plans = [plan_for(corpus, "--precision", "fp32", *words) for words in ([], ["--dataloader_num_workers", "0"])]
    assert plans[0].protocol["decoding"] == {"precision": "fp32"}
    assert plans[0].protocol["hash"] == plans[1].protocol["hash"]


def test_a_plan_can_be_sent_and_stored_without_its_secrets(corpus: Path):
    plan = plan_for(corpus, "--token", "hf_secret", "--hub_token", "hf_other", "--learning_rate", "1e-3")
    assert pickle.loads(pickle.dumps(plan)) == plan
    text = json.dumps(plan.as_json(), default=str)
    assert "hf_secret" not in text and "hf_other" not in text and '"learning_rate": 0.001' in text
    assert plan.given["learning_rate"] == 1e-3 and "token" not in plan.given
    assert plan.hub_token == "hf_other"


def test_the_same_command_gives_the_same_plan(corpus: Path):
    assert plan_for(corpus) == plan_for(corpus)


def test_everything_that_changes_a_hypothesis_changes_the_protocol(three_splits: Path):
    plans = [
        plan_for(three_splits, *words, "--precision", "fp32", model=WHISPER)
        for words in ([], ["--encoder_context", "8"], ["--language", "tr"], ["--task", "translate"],
                      ["--generation_num_beams", "2"], ["--padding", "original"], ["--normaliser", "none"],
                      ["--normaliser", "default"], ["--normaliser", "default", "--chars_to_ignore", ","])
    ]  # fmt: skip
    hashes = [plan.protocol["hash"] for plan in plans]
    assert len(set(hashes)) == len(hashes)
    assert plans[0].protocol["decoding"]["encoder_context"] == "full"
    assert (
        plan_for(three_splits, "--encoder_context", "full", "--precision", "fp32", model=WHISPER).protocol
        == plans[0].protocol
    )


def test_a_text_before_is_part_of_the_protocol_and_only_for_whisper(three_splits: Path, tmp_path: Path):
    whisper, ctc = checkpoint("openai/whisper-small"), str(ctc_folder(tmp_path / "ctc"))
    given = ["--precision", "fp32", "--prompt", "Ankara"]
    plain, told = (plan_for(three_splits, *words, command="evaluate", model=whisper) for words in (given[:2], given))
    assert told.protocol["decoding"] == {**plain.protocol["decoding"], "prompt": "Ankara"}
    assert plain.protocol["hash"] != told.protocol["hash"]
    with pytest.raises(OptionError, match="--prompt is for sequence-to-sequence models"):
        plan_for(three_splits, *given, command="evaluate", model=ctc)


def test_whisper_learns_case_and_punctuation_and_is_scored_with_and_without(three_splits: Path):
    plan = plan_for(three_splits, model=WHISPER)
    assert (plan.settings.do_lower_case, plan.settings.normaliser) == (False, "whisper-basic")
    assert plan.metric_names == ["wer", "cer", "wer_as_written"]


@pytest.mark.parametrize(
    ("model", "words"),
    [(WAV2VEC2, []), (WHISPER, ["--do_lower_case"]), (WHISPER, ["--protocol", "readme"])],
)
def test_other_models_and_protocols_learn_lower_case(three_splits: Path, model: str, words: list[str]):
    plan = plan_for(three_splits, *words, model=model)
    assert (plan.settings.do_lower_case, plan.settings.normaliser) == (True, "default")
    assert plan.metric_names == ["wer", "cer"]


def test_letters_among_the_ignored_characters_are_pointed_out(corpus: Path):
    assert not any("letters" in note for note in plan_for(corpus, "--chars_to_ignore", ",", "?", "!").notes)
    notes = plan_for(corpus, "--chars_to_ignore", ",", "a").notes
    assert any("deletes letters: a" in note for note in notes)
