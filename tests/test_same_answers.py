"""The same logits of an utterance, to 1e-5 in float32: with any cache, workers and neighbours in its batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny_families import tiny_model

from speechtune.audio.cache import AudioCache
from speechtune.audio.reader import AudioReader
from speechtune.corpora import open_corpus
from speechtune.data.batching import BatchSettings
from speechtune.data.dataset import BatchMaker, SpeechDataset, StepSampler, evaluation_loader, training_loader
from speechtune.data.prepare import prepare_split
from speechtune.models.encoder.padding import make_padding_invariant
from speechtune.models.frames import num_frames
from speechtune.models.inputs import WaveformInput

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # WavLM, of transformers

NUM_CLIPS = 14
TOLERANCE = 1e-5
FAMILIES = ["wav2vec2 group norm", "wav2vec2 layer norm", "wavlm group norm", "sew"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A table of clips of 0.2 to 0.9 s, half of them to be resampled."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    lines = ["file_name,transcription,split"]
    for i, duration_s in enumerate(random.permutation(np.linspace(0.2, 0.9, NUM_CLIPS))):
        sampling_rate = (16_000, 22_050)[i % 2]
        samples = 0.2 * random.standard_normal(int(duration_s * sampling_rate))
        soundfile.write(folder / f"{i}.flac", samples.astype(np.float32), sampling_rate)
        lines.append(f"{i}.flac,word {i},train")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return open_corpus(str(folder), None, cache_dir=str(folder / "cache")).read(
        "train", text_column="transcription", progress=False
    )


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Any:
    model = tiny_model(request.param)
    make_padding_invariant(model)
    return model


def dataset(table: Any, *, cache: Path | None = None) -> SpeechDataset:
    from transformers import Wav2Vec2FeatureExtractor

    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    reader = AudioReader(16_000, cache=None if cache is None else AudioCache(cache, 16_000))
    split = prepare_split(table, table.texts, encode=lambda text: [1, 2], limits=None)
    return SpeechDataset(split, BatchMaker(reader, WaveformInput(extractor)))


def logits_of(model: Any, batches: Any) -> dict[int, torch.Tensor]:
    """Logits (T, V) of each row, real frames alone."""
    found: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        for batch in batches:
            logits = model(**batch.inputs).logits
            frames = num_frames(model.config, batch.input_lengths).tolist()
            for row, values, length in zip(batch.rows, logits, frames, strict=True):
                found[row] = values[:length].clone()
    return found


def assert_same(found: dict[int, torch.Tensor], expected: dict[int, torch.Tensor]) -> None:
    assert sorted(found) == sorted(expected) == list(range(NUM_CLIPS))
    for row, values in expected.items():
        torch.testing.assert_close(found[row], values, rtol=TOLERANCE, atol=TOLERANCE * float(values.abs().max()))


def trained_on(table: Any, order: str, batch_size: int, *, workers: int = 0, **options: Any) -> Any:
    rows = dataset(table, **options)
    settings = BatchSettings(utterances_per_step=batch_size, order=order)
    sampler = StepSampler(rows.split.table.durations_s, settings)
    return training_loader(rows, sampler, num_workers=workers, pin_memory=False)


def test_each_utterance_has_the_logits_it_has_alone(corpus: Any, model: Any):
    alone = logits_of(model, evaluation_loader(dataset(corpus), batch_size=1))
    assert_same(logits_of(model, trained_on(corpus, "bucketed", 4)), alone)
    assert_same(logits_of(model, trained_on(corpus, "random", 5)), alone)
    assert_same(logits_of(model, evaluation_loader(dataset(corpus), batch_size=8)), alone)


def test_audio_cache_empty_full_or_absent_gives_the_same_batches(corpus: Any, tmp_path: Path):
    without = list(trained_on(corpus, "bucketed", 4))
    filling = list(trained_on(corpus, "bucketed", 4, cache=tmp_path / "audio"))
    filled = list(trained_on(corpus, "bucketed", 4, cache=tmp_path / "audio"))
    for other in (filling, filled):
        for expected, batch in zip(without, other, strict=True):
            assert batch.rows == expected.rows
            assert all(torch.equal(batch.inputs[name], value) for name, value in expected.inputs.items())


def test_two_workers_give_the_same_batches_in_the_same_order(corpus: Any, tmp_path: Path):
    here = list(trained_on(corpus, "bucketed", 4))
    for options in ({}, {"cache": tmp_path / "audio"}):
        apart = list(trained_on(corpus, "bucketed", 4, workers=2, **options))
        for expected, batch in zip(here, apart, strict=True):
            assert batch.rows == expected.rows
            assert torch.equal(batch.labels, expected.labels)
            assert all(torch.equal(batch.inputs[name], value) for name, value in expected.inputs.items())
