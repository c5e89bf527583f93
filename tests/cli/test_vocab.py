"""`speechtune vocab` writes the tokenizer that training would make of the same text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from standins.corpora import write_audio

from speechtune.cli.vocab import run
from speechtune.errors import OutputError, TextError
from speechtune.options.parse import parse_options

ROWS = {"train": ["İyi GÜNLER!", "bir iki"], "validation": ["Üç 3"], "test": ["qwx"]}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    for split, texts in ROWS.items():
        lines = ["audio,text"]
        for index, text in enumerate(texts):
            write_audio(folder / "clips" / f"{split}{index}.wav", text, 8_000)
            lines.append(f"clips/{split}{index}.wav,{text}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def vocab(corpus: Path, out: Path, *words: str) -> dict[str, Any]:
    argv = ["--dataset_name", str(corpus), "--output_dir", str(out), *words]
    assert run(parse_options(argv, command="vocab", prog="speechtune vocab")) == 0
    return json.loads((out / "vocab.json").read_text(encoding="utf-8"))


def test_the_training_texts_characters_in_order_and_no_others(corpus: Path, tmp_path: Path):
    made = vocab(corpus, tmp_path / "out", "--language", "tr", "--chars_to_ignore", "!")
    assert sorted(made, key=made.__getitem__) == ["|", *sorted("iygünlerbkç3"), "[UNK]", "[PAD]"]
    assert sorted(made.values()) == list(range(len(made)))


def test_it_is_the_vocabulary_that_training_makes(corpus: Path, tmp_path: Path):
    from speechtune.models.ctc.setup import ctc_for_training
    from speechtune.models.loading import random_config
    from speechtune.plan.resolve import resolve
    from speechtune.training.data import read_corpus

    made = vocab(corpus, tmp_path / "out")
    argv = [
        "--dataset_name",
        str(corpus),
        "--output_dir",
        str(tmp_path / "run"),
        "--model_config",
        '{"model_type": "wav2vec2"}',
    ]
    plan = resolve(parse_options(argv))
    data = read_corpus(plan)
    tiny = {"model_type": "wav2vec2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = random_config({**tiny, "intermediate_size": 16, "conv_dim": [8] * 7, "num_conv_pos_embedding_groups": 2})
    ctc_for_training(
        plan.settings,
        config,
        vocabulary_texts=data.train_texts,
        eval_texts=[],
        folder=tmp_path / "run",
        where="here",
    )
    assert json.loads((tmp_path / "run" / "vocab.json").read_text(encoding="utf-8")) == made


def test_the_readme_protocol_takes_the_evaluation_text_too(corpus: Path, tmp_path: Path):
    assert set("qwx") <= vocab(corpus, tmp_path / "out", "--protocol", "readme").keys()


def test_plain_transformers_loads_the_folder(corpus: Path, tmp_path: Path):
    from transformers import AutoTokenizer

    made = vocab(corpus, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.get_vocab() == made
    assert tokenizer("bir iki").input_ids == [made[char] for char in "bir|iki"]


def test_special_tokens_are_the_users(corpus: Path, tmp_path: Path):
    made = vocab(corpus, tmp_path / "out", "--unk_token", "<unk>", "--pad_token", "<pad>")
    assert sorted(made, key=made.__getitem__)[-2:] == ["<unk>", "<pad>"]


def test_characters_are_printed_and_rare_ones_named(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    vocab(corpus, tmp_path / "out")
    said = capsys.readouterr().out
    assert "i 5" in said.splitlines()[0]
    assert "3 (U+0033, DIGIT THREE) x1" in said
    assert f"--tokenizer_name_or_path {tmp_path / 'out'}" in said.splitlines()[-1]


def test_a_tokenizer_is_made_again_but_a_models_folder_is_not_touched(corpus: Path, tmp_path: Path):
    out = tmp_path / "out"
    vocab(corpus, out)
    assert "3" not in vocab(corpus, out, "--chars_to_ignore", "3")
    (out / "config.json").write_text("{}")
    with pytest.raises(OutputError, match="holds more than a tokenizer"):
        vocab(corpus, out)


def test_nothing_left_of_the_text_is_a_message_that_names_the_culprit(corpus: Path, tmp_path: Path):
    with pytest.raises(TextError, match="--chars_to_ignore removed"):
        vocab(corpus, tmp_path / "out", "--train_split_name", "validation", "--chars_to_ignore", "Ü", "ç", "3")
    assert not (tmp_path / "out" / "vocab.json").exists()


def test_a_folder_that_can_not_be_written_is_one_message(corpus: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file.*can't be written: .*\n.*give another --output_dir"):
        vocab(corpus, tmp_path / "file" / "out")


def test_what_a_terminal_would_act_on_is_written_out(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    vocab(corpus, tmp_path / "\x1b[31mred")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and f"{tmp_path}/[U+001B][31mred" in shown
