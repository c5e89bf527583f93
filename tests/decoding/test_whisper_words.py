"""Whisper's words have times by its attention, and make its text."""

from __future__ import annotations

import itertools

import audio_files
import numpy as np
import pytest
import tiny_seq2seq
import torch

from speechtune.decoding.long_form import transcript_of
from speechtune.decoding.whisper_windows import WhisperWindows
from speechtune.decoding.whisper_words import _averaged, _loud_frames, _without_pauses, _words_of_tokens, warp

RATE = 16_000


def cheapest(costs: np.ndarray) -> list[int]:
    """By trying all: where each row starts, on the cheapest path from corner to corner."""
    num_rows, num_columns = costs.shape
    best, found = np.inf, [0]
    for moves in itertools.product([(1, 0), (0, 1), (1, 1)], repeat=num_rows + num_columns - 2):
        row = column = 0
        total, starts = costs[0, 0], [0]
        for down, right in moves:
            row, column = row + down, column + right
            if row >= num_rows or column >= num_columns:
                break
            total += costs[row, column]
            starts += [column] * down
            if (row, column) == (num_rows - 1, num_columns - 1):
                if total < best:
                    best, found = total, starts
                break
    return found


@pytest.mark.parametrize("seed", range(6))
def test_the_path_is_the_cheapest_of_all(seed: int):
    costs = np.random.default_rng(seed).standard_normal((3, 4))
    assert warp(costs).tolist() == cheapest(costs)


def test_rows_start_where_their_weights_are():
    costs = np.zeros((4, 40))
    for row, (start, end) in enumerate([(0, 10), (10, 12), (12, 30), (30, 40)]):
        costs[row, start:end] = -1
    assert warp(costs).tolist() == [0, 10, 12, 30]
    assert warp(np.zeros((1, 5))).tolist() == [0]


def test_weights_are_normalised_over_tokens_and_averaged_over_heads():
    weights = torch.rand(3, 5, 20, generator=torch.Generator().manual_seed(0)).softmax(-1)
    averaged = _averaged(weights)
    assert averaged.shape == (5, 20) and abs(float(averaged.mean())) < 0.3
    assert _averaged(torch.rand(2, 3, 2)).shape == (3, 2)  # fewer frames than the filter


def test_tokens_become_words_also_where_a_character_is_several_tokens():
    tokenizer = tiny_seq2seq.whisper().tokenizer
    for text in ("bir, iki 'üç'!", "a – b", "ğ ş İstanbul'da ☃"):
        tokens = tokenizer(f" {text}", add_special_tokens=False).input_ids
        words = _words_of_tokens(tokenizer, tokens, spaced=True)
        assert " ".join(word for word, _, _ in words) == text
        assert [i for _, i, _ in words] == [0, *(j for _, _, j in words[:-1])] and words[-1][2] == len(tokens)
    tokens = tokenizer("你好。", add_special_tokens=False).input_ids
    assert [word for word, _, _ in _words_of_tokens(tokenizer, tokens, spaced=False)] == ["你", "好。"]


def test_a_word_has_no_pause_in_it():
    is_loud = np.zeros(100, bool)
    is_loud[[*range(2, 6), *range(30, 50), *range(55, 60)]] = True
    assert _without_pauses(is_loud, 0.0, 2.0) == pytest.approx((0.6, 1.2))  # the end of a word before is left out
    assert _without_pauses(is_loud, 0.03, 0.09) == pytest.approx((0.04, 0.09))
    assert _without_pauses(is_loud, 1.3, 2.0) == (1.3, 2.0)
    assert _without_pauses(is_loud, 0.7, 0.7)[0] == pytest.approx(0.7)


def test_what_is_far_quieter_than_the_speech_is_a_pause():
    samples = np.concatenate([np.zeros(RATE // 2, np.float32), audio_files.voice(1.0, RATE)])
    found = _loud_frames(samples, RATE)
    assert len(found) == 75 and not found[:25].any() and found[25:].mean() > 0.7
    assert len(_loud_frames(samples[:0], RATE)) == 1


def test_words_beyond_the_decoders_positions_are_at_the_end():
    recogniser = tiny_seq2seq.whisper()
    samples = audio_files.voice(3.0, RATE)
    text = " ".join(["bir iki"] * 300)
    with torch.inference_mode():
        words = WhisperWindows(recogniser, samples).words_of(text)
    assert " ".join(word.text for word in words) == text
    assert words[0].confidence is not None and words[-1].confidence is None
    assert words[-1].start_s == words[-1].end_s == 3.0 and all(a.end_s <= 3.0 for a in words)


@pytest.mark.parametrize("seconds", [(3.0,), (20.0, 14.0)])
def test_words_make_the_text_and_lie_in_the_recording(seconds: tuple[float, ...]):
    recogniser = tiny_seq2seq.whisper()
    samples = np.concatenate([audio_files.voice(s, RATE, seed=n) for n, s in enumerate(seconds)])
    plain = transcript_of(recogniser, samples)
    found = transcript_of(recogniser, samples, words=True)
    assert found.text == plain.text != "" and not plain.words
    written = "".join(word.text for word in found.words)  # random weights end segments within words
    assert written.replace(" ", "") == found.text.replace(" ", "")
    for word in found.words:
        assert 0 <= word.start_s <= word.end_s <= len(samples) / RATE + 0.02
        assert word.confidence is not None and 0 < word.confidence <= 1
