"""`--with_model`: wrong transcripts come first, are written to be corrected, and are read back."""

from __future__ import annotations

import csv
import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
from evaluations import hypothesis
from trained_folders import ctc_folder

from speechtune.doctor.doctor import run
from speechtune.doctor.label_errors import Judged, ranked, without_signs
from speechtune.errors import OptionError
from speechtune.options.parse import parse_options

RATE = 16_000
WEIGHTS = Path(os.environ.get("SPEECHTUNE_WHISPER_BASE", "/nowhere"))
REAL = Path(__file__).parents[2].parent / "shared/assets/common_voice/cv-corpus-6.1-2020-12-11/tr"


def judged(id: str, reference: str, text: str, loss: float) -> Judged:
    return Judged("train", reference, hypothesis(id, reference, text), loss)


def test_the_score_is_the_mean_of_both_measures_and_neither_alone_decides():
    found = ranked(
        [judged("a", "abcd", "abcd", 1.0), judged("b", "abcd", "wxyz", 1.0), judged("c", "abcd", "abcd", 3.0)]
    )
    assert [(one.row.id, one.score) for one in found] == [("b", 0.75), ("c", 0.375), ("a", 0.25)]


def test_a_loss_that_is_infinite_is_the_worst_and_one_that_is_unknown_is_usual():
    found = {
        one.row.id: one.score for one in ranked([judged("a", "a", "a", math.inf), judged("b", "a", "a", math.nan)])
    }
    assert found == {"a": 0.5, "b": 0.25}
    assert [one.score for one in ranked([judged("a", "a", "a", 0.0)])] == [0.0] and ranked([]) == []


def test_punctuation_is_no_error_of_a_transcript_but_apostrophes_and_vowel_signs_are_letters():
    assert without_signs("don't — ¿já-vi? (5 €)") == "don't já vi 5"
    assert without_signs("नमस्ते, दुनिया।") == "नमस्ते दुनिया"


def tones(text: str, rng: np.random.Generator) -> np.ndarray:
    """A language of five letters: each is a tone of 0.16 s."""
    t = np.arange(int(0.16 * RATE)) / RATE
    pitches = {letter: 300.0 * 1.5**n for n, letter in enumerate("abcde")}
    gap = np.zeros(int(0.08 * RATE))
    parts = [np.concatenate([0.4 * np.sin(2 * np.pi * pitches[c] * t) if c != " " else gap, gap]) for c in text]
    samples = np.concatenate(parts)
    return (samples + 0.003 * rng.standard_normal(len(samples))).astype(np.float32)


def trained(folder: Path, texts: list[str]) -> Path:
    """A tiny wav2vec2 that recognises tones, after seconds of training on the letter of each 20 ms frame."""
    import torch
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    model = Wav2Vec2ForCTC.from_pretrained(ctc_folder(folder, letters="abcde")).eval()
    rng = np.random.default_rng(0)
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    inputs = extractor([tones(text, rng) for text in texts], sampling_rate=RATE, padding=True, return_tensors="pt")
    num_frames = model(**{name: value[:1] for name, value in inputs.items()}).logits.shape[1]
    labels = torch.full((len(texts), num_frames), model.config.pad_token_id)
    for row, text in enumerate(texts):
        for place, letter in enumerate(text):
            labels[row, 12 * place + 1 : 12 * place + 6] = " abcde".index(letter)
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=8e-3, weight_decay=0.0)
    for _ in range(120):
        rows = torch.randperm(len(texts))[:4]
        logits = model(**{name: value[rows] for name, value in inputs.items()}).logits
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels[rows]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.save_pretrained(folder)
    return folder


def write_corpus(folder: Path, texts: list[str], swapped: list[int]) -> list[str]:
    """An audio folder of tones whose rows `swapped` have each other's texts; returns the ids of these rows."""
    rng = np.random.default_rng(1)
    given = list(texts)
    for here, there in zip(swapped, [*swapped[1:], swapped[0]], strict=True):
        given[here] = texts[there]
    rows = {"train": [], "test": []}
    for n, text in enumerate(texts):
        soundfile.write(folder / f"{n:02}.wav", tones(text, rng), RATE)
        rows["test" if n % 5 == 4 else "train"].append({"audio": f"{n:02}.wav", "text": given[n]})
    for split, found in rows.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return [f"{n:02}.wav" for n in swapped]


def examine(corpus: Path, *words: str, code: int = 0) -> None:
    argv = ["--dataset_name", str(corpus), "--train_split_name", "train", *words]
    assert run(parse_options(argv, command="doctor", prog="speechtune doctor")) == code


@pytest.fixture(scope="module")
def tone_texts() -> list[str]:
    draw = random.Random(3)
    words = sorted({"".join(draw.sample("abcde", 3)) for _ in range(60)})
    return [" ".join(draw.sample(words, 2)) for _ in range(25)]


def test_swapped_transcripts_come_first_and_corrections_are_read_back(tmp_path, tone_texts, capsys):
    model = trained(tmp_path / "model", tone_texts[:16])
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    wrong = write_corpus(corpus, tone_texts, [2, 4, 7, 11, 16])
    examine(corpus, "--with_model", str(model), "--output_dir", str(out))
    output = capsys.readouterr().out
    rows = list(csv.DictReader((out / "label_errors.csv").open(encoding="utf-8-sig")))
    assert sorted(Path(row["file"]).name for row in rows[:5]) == wrong
    assert len(rows) == 25 and float(rows[4]["score"]) > 1.3 * float(rows[5]["score"])
    assert f"--corrections {out / 'label_errors.csv'}" in output and "likely wrong" in output

    page = (out / "doctor.html").read_text("utf-8")
    assert page.count('class="player"') == 25 and "Transcripts that may be wrong" in page

    for row in rows[:5]:
        row["text"] = tone_texts[int(Path(row["file"]).stem)] if row is not rows[0] else ""
    with (out / "fixed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    examine(corpus, "--corrections", str(out / "fixed.csv"), "--output_dir", str(tmp_path / "again"))
    assert "removed by --corrections" in capsys.readouterr().out
    (skipped,) = map(json.loads, (tmp_path / "again" / "skipped.jsonl").read_text().splitlines())
    assert (skipped["reason"], Path(skipped["file"]).name) == ("removed", Path(rows[0]["file"]).name)


def test_a_model_without_a_folder_for_its_list_is_one_message(tmp_path):
    with pytest.raises(OptionError, match="--with_model model: give --output_dir too"):
        examine(tmp_path, "--with_model", "model")


@pytest.mark.real_data
@pytest.mark.timeout(1200)
@pytest.mark.skipif(
    not (WEIGHTS / "model.safetensors").exists(),
    reason="SPEECHTUNE_WHISPER_BASE names no folder with whisper-base's weights (shared/assets/make_whisper.sh)",
)
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real clips in {REAL}")
@pytest.mark.parametrize("seed", range(int(os.environ.get("SPEECHTUNE_NUM_SEEDS", "1"))))
@pytest.mark.parametrize("language", os.environ.get("SPEECHTUNE_LANGUAGES", "tr").split())
def test_on_25_real_clips_whisper_ranks_the_five_swapped_ones_first(tmp_path, language, seed):
    lines = (REAL.parent / language / "test.tsv").read_text("utf-8").splitlines()
    header = lines[0].split("\t")
    clips = [dict(zip(header, line.split("\t"), strict=False)) for line in lines[1:26]]
    swapped = random.Random(seed).sample(range(25), 5)
    texts = [clip["sentence"] for clip in clips]
    for here, there in zip(swapped, [*swapped[1:], swapped[0]], strict=True):
        texts[here] = clips[there]["sentence"]
    rows = [
        {"audio": str(REAL.parent / language / "clips" / c["path"]), "text": t}
        for c, t in zip(clips, texts, strict=True)
    ]
    for split, part in (("train", rows[:20]), ("test", rows[20:])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    out = tmp_path / "out"
    words = ("--with_model", str(WEIGHTS), "--language", language, "--allow_outside_audio", "--output_dir", str(out))
    examine(tmp_path, *words, "--chars_to_ignore", ",", "?", ".", "!", "-")
    found = list(csv.DictReader((out / "label_errors.csv").open(encoding="utf-8-sig")))
    print(
        language,
        seed,
        [(Path(row["file"]).name in {clips[n]["path"] for n in swapped}, row["score"]) for row in found[:8]],
    )
    assert {Path(row["file"]).name for row in found[:5]} == {clips[n]["path"] for n in swapped}
