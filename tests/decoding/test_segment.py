"""A recording with its text becomes clips that can be trusted; the rest is listed with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import audio_files
import numpy as np
import pytest
import soundfile
import tiny_seq2seq
import torch
from trained_folders import ctc_folder

from speechtune.cli.main import main
from speechtune.corpora.find import open_corpus
from speechtune.decoding.align import Aligned, Aligner, Token
from speechtune.decoding.clips import PAD_S, bounds_of
from speechtune.decoding.segment import cut_clips
from speechtune.decoding.transcript_files import Line
from speechtune.types import Word

RATE = 16_000


def line(
    number: int, *tokens: tuple[str, float, float] | str, confidence: float = 0.9
) -> tuple[Line, tuple[Token, ...]]:
    """A line of words with their times; those without are not said."""
    found = [Token(t, None, True) if isinstance(t, str) else Token(t[0], Word(*t, confidence), True) for t in tokens]
    return Line(number, " ".join(token.text for token in found)), tuple(found)


def cut(*lines, untold=(), duration_s=100.0, max_duration_s=20.0):  # type: ignore[no-untyped-def]
    aligned = Aligned(list(lines), list(untold))
    return cut_clips(aligned, "a.wav", duration_s, min_confidence=0.2, max_duration_s=max_duration_s)


# ---- where it is cut


def test_clips_are_padded_but_never_reach_into_their_neighbours():
    bounds = bounds_of([(1.0, 2.0), (2.1, 3.0), (5.0, 6.0)], [(6.2, 7.0)], 9.0)
    assert np.allclose(bounds, [(1 - PAD_S, 2.05), (2.05, 3 + PAD_S), (5 - PAD_S, 6.1)])
    assert bounds_of([(0.05, 0.9)], [], 1.0) == [(0.0, 1.0)]


def test_lines_and_sentences_are_clips():
    clips, dropped = cut(line(1, ("Bir", 1, 2), ("iki.", 2, 3), ("Üç.", 4, 5)), line(2, ("dört", 6, 7)))
    assert [clip.text for clip in clips] == ["Bir iki.", "Üç.", "dört"] and not dropped
    assert [clip.confidence for clip in clips] == [0.9] * 3


def test_sentences_without_a_pause_between_them_are_one_clip():
    clips, _ = cut(line(1, ("bir", 1, 2)), line(2, ("iki", 2.02, 3)), line(3, ("üç", 3.5, 4)))
    assert [clip.text for clip in clips] == ["bir iki", "üç"]


def test_a_long_sentence_is_divided_at_its_longest_pauses():
    words = [(f"w{n}", n + 0.2 * (n > 12), n + 0.9 + 0.1 * (n > 12)) for n in range(30)]
    clips, dropped = cut(line(1, *words), max_duration_s=20)
    assert [len(clip.text.split()) for clip in clips] == [13, 17] and not dropped


@pytest.mark.parametrize(
    ("tokens", "untold", "reason"),
    [
        (("bir", "iki"), [], "not said"),
        ((("bir", 1.0, 2.0), "iki", ("üç", 3.0, 4.0)), [], "1 of 3 words not said"),
        ((("bir", 1.0, 2.0), ("iki", 6.0, 7.0)), [(3.0, 5.0)], "speech inside it that is not in the text"),
        ((("bir", 1.0, 25.0),), [], "longer than 20 s without a pause"),
    ],
)
def test_what_does_not_match_is_dropped_with_its_reason(tokens, untold, reason: str):  # type: ignore[no-untyped-def]
    clips, dropped = cut(line(1, ("sıfır", 0, 0.5)), line(2, *tokens), untold=untold)
    assert [clip.text for clip in clips] == ["sıfır"]
    assert (dropped[0].line, dropped[0].reason) == (2, reason)
    assert [(row.line, row.reason, row.start_s) for row in dropped[1:]] == [
        (None, "not in the text", start) for start, _ in untold
    ]


def test_what_is_hardly_heard_is_dropped():
    clips, dropped = cut(line(1, ("bir", 1, 2), confidence=0.1))
    assert not clips and dropped[0].reason == "confidence under 0.2"


# ---- the commands, with a model that hears what it is told


SAID = {"abba": (1.0, 2.0), "cab": (2.5, 3.2), "dada": (6.0, 7.0)}  # and something else at 4 s


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder whose model hears SAID, whatever the recording."""
    folder = ctc_folder(tmp_path / "model", letters="abcde")
    frames = torch.full((1, 500, 8), -8.0)
    frames[..., 7] = 4.0  # the blank
    for word, (start, end) in {**SAID, "ecebcece": (4.0, 5.0)}.items():
        for n, letter in enumerate(word):
            at = round((start + (end - start) * n / len(word)) / 0.02)
            frames[0, at : at + 4, " abcde".index(letter)] = 8.0
        frames[0, round(end / 0.02) + 3, 0] = 8.0
    from transformers import Wav2Vec2ForCTC
    from transformers.modeling_outputs import CausalLMOutput

    def forward(self: object, input_values: torch.Tensor, **_: object) -> CausalLMOutput:
        return CausalLMOutput(logits=frames[:, : input_values.shape[1] // 320])

    monkeypatch.setattr(Wav2Vec2ForCTC, "forward", forward)
    return str(folder)


@pytest.fixture
def recording(tmp_path: Path) -> str:
    return str(audio_files.write(tmp_path / "long one.wav", audio_files.voice(9.0, RATE), RATE))


def test_words_of_a_text_are_printed_with_their_times_and_what_is_not_said_is_named(
    model: str, recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "text.txt").write_text("Abba, CAB\nbebebebe\n1994 Dada!\n")
    assert main(["align", model, recording, str(tmp_path / "text.txt")]) == 0
    said = capsys.readouterr()
    rows = [row.split()[2:5] for row in said.out.replace("long one", "long_one").splitlines()]
    found = {word: float(start) for start, _, word in rows}
    assert list(found) == ["Abba,", "CAB", "Dada!"]
    assert [found[word] for word in found] == pytest.approx([start for start, _ in SAID.values()], abs=0.03)
    assert "aligned 3 of 4 words" in said.err and "line 2, not said: bebebebe" in said.err
    assert "speech that is not in the text: " in said.err


def test_an_alignment_is_a_file_of_the_format_that_its_ending_names(model: str, recording: str, tmp_path: Path):
    import pysubs2

    (tmp_path / "text.txt").write_text("abba cab\ndada\n")
    out = tmp_path / "out.srt"
    assert main(["align", model, recording, str(tmp_path / "text.txt"), "-o", str(out)]) == 0
    assert [(e.plaintext, e.start // 100) for e in pysubs2.load(str(out))] == [("abba cab", 10), ("dada", 60)]
    words = ["align", model, recording, str(tmp_path / "text.txt"), "-o", str(tmp_path / "x")]
    assert main([*words, "--format", "ctm", "textgrid"]) == 0
    assert (tmp_path / "x.ctm").is_file() and (tmp_path / "x.TextGrid").is_file()
    assert main(words) == 2


def test_a_recording_with_its_text_becomes_a_corpus_that_is_found(
    model: str, recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "text.txt").write_text("Abba cab.\nbebebebe\ndada\n")
    corpus = tmp_path / "corpus"
    assert main(["segment", model, recording, str(tmp_path / "text.txt"), "-o", str(corpus)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{corpus}: 2 clips, ") and "dropped 2 stretches of text or speech" in said.err
    rows = [json.loads(row) for row in (corpus / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert [(row["line"], row["reason"]) for row in rows] == [(2, "not said"), (None, "not in the text")]
    clips = sorted((corpus / "clips").iterdir())
    assert [path.name for path in clips] == ["long_one-000001.flac", "long_one-000002.flac"]
    samples, rate = soundfile.read(clips[1])
    assert rate == RATE and len(samples) / rate == pytest.approx(0.8 + 2 * PAD_S, abs=0.1)
    found = open_corpus(str(corpus), cache_dir=str(tmp_path / "cache")).read("train", progress=False)
    assert [utterance.text for utterance in found] == ["Abba cab.", "dada"]
    assert main(["segment", model, recording, str(tmp_path / "text.txt"), "-o", str(corpus)]) == 2
    assert "has a corpus already" in capsys.readouterr().err


def test_mistakes_are_one_message(model: str, recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "text.txt").write_text("çşğ\n")
    words = [recording, str(tmp_path / "text.txt"), "-o", str(tmp_path / "c")]
    assert main(["segment", model, *words]) == 2
    assert "The text has no letter that the model knows." in capsys.readouterr().err
    assert main(["segment", model, recording, "-o", str(tmp_path / "c")]) == 2
    assert "1 files: each recording needs its transcript behind it." in capsys.readouterr().err
    assert main(["segment", tiny_seq2seq.checkpoint("openai/whisper-small"), *words]) == 2
    assert "alignment needs a CTC model" in capsys.readouterr().err


def test_labels_of_a_word_are_what_the_model_knows_of_it(model: str):
    assert Aligner(model).labels("A-bé!") == [1, 2]
    assert Aligner(model).labels("1994") == []
