"""C7: evaluation outside the model, 2,000 clips: from logits to text and scores; and scoring alone.

The model is a stand-in with precomputed logits, and batches are precomputed too, so that only the cost of everything
around a model remains: gathering logits or decoding labels, text, alignment. Neither side computes a loss.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import Result, Rounds, cost_of, lengths_like, letter_tokenizer, main, one_thread, sentence

NUM_CLIPS = 2000
NUM_PAIRS = 2000
BATCH = 8
VOCABULARY = 32
FRAMES_PER_S = 50


def measure(tiny: bool = False) -> list[Result]:
    one_thread()
    num_clips = 24 if tiny else NUM_CLIPS
    durations_s = lengths_like("cv", num_clips)
    texts = [sentence(duration_s, seed=i) for i, duration_s in enumerate(durations_s)]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = letter_tokenizer(Path(folder))
        measured, scored = Rounds(), Rounds()
        outputs: dict[str, Any] = {}
        for _ in range(1 if tiny else 3):
            for side, run in (("ours", _ours), ("peer", _peer)):
                work = run(durations_s, texts, tokenizer, Path(folder))
                measured.add(side, cost_of(functools.partial(_keep, outputs, side, work)))
        pairs = _pairs(texts[: 10 if tiny else NUM_PAIRS])
        for number in range(2 if tiny else 8):  # the first warms up
            for side, score in (("ours", _score_ours), ("peer", _score_peer)):
                cost = cost_of(functools.partial(_keep, outputs, f"{side}_scores", functools.partial(score, pairs)))
                if number:
                    scored.add(side, cost)
    assert outputs["ours_scores"] == outputs["peer_scores"], (outputs["ours_scores"], outputs["peer_scores"])
    assert abs(outputs["ours"] - outputs["peer"]) < 1e-9, (outputs["ours"], outputs["peer"])
    ours_s, peer_s = (min(c.cpu_s for c in measured.costs[side]) for side in ("ours", "peer"))
    logits_mb = num_clips * FRAMES_PER_S * max(durations_s) * VOCABULARY * 4 / 1e6
    note = (
        f"ours {ours_s:.2f} s CPU with WER and CER, peer {peer_s:.1f} s with WER alone; the same WER "
        f"({outputs['ours']:.4f}); the peer holds {logits_mb:.0f} MB of logits, and again while it joins them"
    )
    both = "WER and CER on both sides, jiwer an utterance at a time; the same counts"
    return [
        Result(
            "C7",
            f"evaluation outside the model, {num_clips:,} clips",
            25.0,
            *measured.ratios("ours", "peer"),
            note=note,
        ),
        Result("C7", f"scoring {len(pairs):,} pairs", 8.0, *scored.ratios("ours", "peer"), note=both),
    ]


def _keep(outputs: dict[str, Any], name: str, work: Callable[[], Any]) -> None:
    outputs[name] = work()


def _frames(duration_s: float) -> int:
    return int(duration_s * FRAMES_PER_S)


def _logits(texts: list[str], durations_s: np.ndarray, tokenizer: Any, rows: list[int]) -> Any:
    """Return logits (B, T, V) of the texts with a wrong letter now and then."""
    import torch

    vocabulary = tokenizer.get_vocab()
    longest = max(_frames(durations_s[row]) for row in rows)
    logits = torch.randn(len(rows), longest, VOCABULARY, generator=torch.Generator().manual_seed(rows[0]))
    for place, row in enumerate(rows):
        ids = [vocabulary["|" if letter == " " else letter] for letter in texts[row]]
        ids[::29] = [3] * len(ids[::29])
        for i, label in enumerate(ids):
            frame = 2 * i
            if frame < _frames(durations_s[row]):
                logits[place, frame, label] += 30
                if frame + 1 < longest:
                    logits[place, frame + 1, 0] += 30
        logits[place, 2 * len(ids) :, 0] += 30
    return logits


def _batches(num_clips: int) -> list[list[int]]:
    return [list(range(i, min(i + BATCH, num_clips))) for i in range(0, num_clips, BATCH)]


def _ours(durations_s: np.ndarray, texts: list[str], tokenizer: Any, folder: Path) -> Any:
    """Precompute batches; return a function that evaluates and returns the WER."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor

    from speechtune.evaluation.evaluate import recognise_split
    from speechtune.models.batch import Batch
    from speechtune.models.ctc.recogniser import CtcRecogniser
    from speechtune.models.inputs import input_for
    from speechtune.types import Utterance

    ready: dict[int, Any] = {}

    class StandIn(torch.nn.Module):
        config = Wav2Vec2Config(vocab_size=VOCABULARY, conv_dim=[8], conv_kernel=[320], conv_stride=[320])

        def forward(self, input_values: Any) -> Any:
            return SimpleNamespace(logits=ready[int(input_values[0, 0])])

    batches = []
    for rows in _batches(len(texts)):
        ready[rows[0]] = _logits(texts, durations_s, tokenizer, rows)
        said = [Utterance(str(row), "", "", texts[row], float(durations_s[row]), "") for row in rows]
        values = {"input_values": torch.full((len(rows), 1), float(rows[0]))}
        lengths = [_frames(durations_s[row]) * 320 for row in rows]
        labels = torch.zeros(len(rows), 1, dtype=torch.int64)
        batches.append(Batch(said, [texts[row] for row in rows], rows, values, labels, [1] * len(rows), lengths, 1.0))
    model = StandIn()
    recogniser = CtcRecogniser(model, tokenizer=tokenizer, model_input=input_for(Wav2Vec2FeatureExtractor()))

    def evaluate() -> float:
        found = recognise_split(recogniser, model, batches, device=torch.device("cpu"), with_loss=False)
        assert found is not None
        return found.total("wer").rate

    return evaluate


def _peer(durations_s: np.ndarray, texts: list[str], tokenizer: Any, folder: Path) -> Any:
    import torch
    from peer import make_scorer
    from transformers import Trainer, TrainingArguments

    batches = _batches(len(texts))
    ready = [_logits(texts, durations_s, tokenizer, rows) for rows in batches]
    labels = []
    vocabulary = tokenizer.get_vocab()
    for rows in batches:
        ids = [torch.tensor([vocabulary["|" if c == " " else c] for c in texts[row]]) for row in rows]
        labels.append(torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-100))

    class StandIn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, number: Any, labels: Any = None) -> Any:
            logits = ready[int(number)]
            # Frames after the end of a clip are blank, like padding in the original.
            return {"loss": torch.zeros(()), "logits": logits}

    class Ready(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(texts)

        def __getitem__(self, row: int) -> int:
            return row

    def collate(rows: list[int]) -> dict[str, Any]:
        number = rows[0] // BATCH
        return {"number": torch.tensor(number), "labels": labels[number]}

    settings = TrainingArguments(
        output_dir=str(folder / "peer"),
        per_device_eval_batch_size=BATCH,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=StandIn(),
        args=settings,
        eval_dataset=Ready(),
        data_collator=collate,
        compute_metrics=make_scorer(tokenizer),
    )
    trainer.remove_callback(type(next(c for c in trainer.callback_handler.callbacks if "Printer" in type(c).__name__)))
    return lambda: float(trainer.evaluate()["eval_wer"])


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    """Return references and hypotheses with a few edits."""
    random = np.random.default_rng(0)
    pairs = []
    for text in texts:
        words = text.split()
        said = [word if random.random() > 0.2 else word[::-1] for word in words if random.random() > 0.05]
        pairs.append((text, " ".join(said)))
    return pairs


def _score_ours(pairs: list[tuple[str, str]]) -> tuple[int, int, int, int]:
    from speechtune.evaluation.metrics.cer import character_edits
    from speechtune.evaluation.metrics.wer import word_edits
    from speechtune.types import EditCounts

    words = EditCounts.total(word_edits(*pair) for pair in pairs)
    characters = EditCounts.total(character_edits(*pair) for pair in pairs)
    return words.edits, words.reference_length, characters.edits, characters.reference_length


def _score_peer(pairs: list[tuple[str, str]]) -> tuple[int, int, int, int]:
    import jiwer

    sums = [0, 0, 0, 0]
    for reference, hypothesis in pairs:
        for place, found in (
            (0, jiwer.process_words(reference, hypothesis)),
            (2, jiwer.process_characters(reference, hypothesis)),
        ):
            sums[place] += found.substitutions + found.deletions + found.insertions
            sums[place + 1] += found.substitutions + found.deletions + found.hits
    return tuple(sums)  # type: ignore[return-value]


if __name__ == "__main__":
    main(measure)
