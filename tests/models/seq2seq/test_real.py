"""Real Whisper weights on real recordings: our road gives the text of plain `generate`, clip by clip."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
import torch

from speechtune.audio.decode import load_audio
from speechtune.audio.reader import AudioReader
from speechtune.data.dataset import BatchMaker
from speechtune.models.batch import Item
from speechtune.models.seq2seq.setup import load_seq2seq
from speechtune.options.table import Settings
from speechtune.types import Utterance

WEIGHTS = Path(os.environ.get("SPEECHTUNE_WHISPER_BASE", "/nowhere"))
CLIPS = Path(__file__).parents[2].parent / "shared/assets/common_voice/cv-corpus-6.1-2020-12-11/tr/clips"
NUM_CLIPS = int(os.environ.get("SPEECHTUNE_NUM_CLIPS", "4"))

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not (WEIGHTS / "model.safetensors").exists(),
        reason="SPEECHTUNE_WHISPER_BASE names no folder with whisper-base's weights (shared/assets/make_whisper.sh)",
    ),
    pytest.mark.skipif(not CLIPS.is_dir(), reason=f"no real clips in {CLIPS}"),
]


def test_clips() -> list[Path]:
    rows = (CLIPS.parent / "test.tsv").read_text("utf-8").splitlines()
    column = rows[0].split("\t").index("path")
    return [CLIPS / row.split("\t")[column] for row in rows[1:]][:NUM_CLIPS]


test_clips.__test__ = False  # type: ignore[attr-defined]


@cache
def plain_texts() -> list[str]:
    """Language and task given to plain `generate`, one clip a call."""
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    model = AutoModelForSpeechSeq2Seq.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(WEIGHTS)
    texts = []
    for clip in test_clips():
        samples = load_audio(str(clip), 16_000)
        features = processor(samples, sampling_rate=16_000, return_tensors="pt").input_features
        ids = model.generate(features, language="turkish", task="transcribe")
        texts += processor.batch_decode(ids, skip_special_tokens=True)
    return texts


def our_texts(**options: object) -> list[str]:
    recogniser = load_seq2seq(
        Settings(model_name_or_path=str(WEIGHTS), language="tr", **options)  # type: ignore[arg-type]
    )
    recogniser.model.eval()
    make_batch = BatchMaker(AudioReader(16_000), recogniser.model_input)
    labels = torch.tensor(recogniser.encode("bir")).numpy()
    items = [
        Item(row, Utterance(str(row), str(clip), str(clip), "bir", 5.0, str(clip)), "bir", labels)
        for row, clip in enumerate(test_clips())
    ]
    with torch.inference_mode():
        said = recogniser.recognise(recogniser.model, make_batch(items), with_loss=True)
    assert all(0 < row.loss < float("inf") for row in said)
    return [row.text for row in said]


def test_our_text_is_that_of_plain_generate_clip_by_clip():
    assert our_texts() == plain_texts()


def test_a_margin_of_8_s_says_nearly_the_same():
    from speechtune.evaluation.metrics.cer import character_edits

    edits = [
        character_edits(plain, ours) for plain, ours in zip(plain_texts(), our_texts(encoder_context=8.0), strict=True)
    ]
    assert sum(e.edits for e in edits) / sum(e.reference_length for e in edits) < 0.5
