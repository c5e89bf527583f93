"""How well a model recognises a split: hypotheses, edit counts and rates, each utterance scored exactly once.

Nothing grows with the corpus but the hypotheses' text: labels are decided on the device and edits counted as batches
come.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speechtune.audio.samples import Samples
from speechtune.evaluation.metrics.cer import character_edits
from speechtune.evaluation.metrics.per import phone_edits
from speechtune.evaluation.metrics.wer import word_edits
from speechtune.evaluation.significance import confidence_interval
from speechtune.files import write_atomically
from speechtune.types import EditCounts, Hypothesis, Skipped, Utterance

__all__ = ["Evaluation", "recognise_split", "write_evaluation"]

log = logging.getLogger("speechtune")


@dataclass
class Evaluation:
    """Hypotheses of a split, in the corpus' order, and what they add up to.

    Args:
        hypotheses: one an utterance.
        skipped: what could not be recognised because its audio could not be read.
        loss_sum, loss_items: of utterances with a finite loss.
        infinite_losses: utterances that CTC can't emit (more labels than frames).
        nan_losses: utterances whose loss is not a number: the model computes nothing sensible.
        audio_s, runtime_s: audio recognised, and wall time.
    """

    hypotheses: list[Hypothesis] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_items: int = 0
    infinite_losses: int = 0
    nan_losses: int = 0
    audio_s: float = 0.0
    runtime_s: float = 0.0
    phones_of: Callable[[str], str] = str

    @property
    def words(self) -> EditCounts:
        return EditCounts.total(h.words for h in self.hypotheses)

    @property
    def characters(self) -> EditCounts:
        return EditCounts.total(h.characters for h in self.hypotheses)

    def counts(self, metric: str) -> list[EditCounts]:
        """Edit counts of each utterance by one metric."""
        if metric == "wer":
            return [h.words for h in self.hypotheses]
        if metric == "cer":
            return [h.characters for h in self.hypotheses]
        assert metric == "per", metric
        return [phone_edits(self.phones_of(h.reference), self.phones_of(h.hypothesis)) for h in self.hypotheses]

    def metrics(self, names: Sequence[str] = ("wer", "cer"), *, prefix: str = "eval") -> dict[str, float]:
        """Flat figures, named as the Hugging Face scripts name them; nan where there is nothing to count."""
        rates = {name: EditCounts.total(self.counts(name)).rate for name in names}
        flat: dict[str, float] = {f"{prefix}_{n}": rate if self.hypotheses else math.nan for n, rate in rates.items()}
        if self.loss_items or self.infinite_losses or self.nan_losses:
            flat[f"{prefix}_loss"] = self.loss_sum / self.loss_items if self.loss_items else math.nan
        flat[f"{prefix}_samples"] = len(self.hypotheses)
        flat[f"{prefix}_runtime"] = round(self.runtime_s, 3)
        flat[f"{prefix}_audio_s_per_s"] = round(self.audio_s / max(self.runtime_s, 1e-9), 1)
        if self.infinite_losses:
            flat[f"{prefix}_infinite_losses"] = self.infinite_losses
        if self.nan_losses:
            flat[f"{prefix}_nan_losses"] = self.nan_losses
        return flat

    def scores(self, names: Sequence[str] = ("wer", "cer")) -> dict[str, dict[str, float]]:
        """Counts, rate and 95 % interval of each metric; utterances of one speaker are drawn together.

        nan where there is nothing to count.
        """
        speakers = [h.speaker or h.id for h in self.hypotheses]
        table: dict[str, dict[str, float]] = {}
        for name in names:
            counts = self.counts(name)
            total = EditCounts.total(counts)
            low, high = confidence_interval(counts, groups=speakers) if counts else (math.nan, math.nan)
            table[name] = {"rate": total.rate if counts else math.nan, **asdict(total), "low": low, "high": high}
        return table


def recognise_split(
    recogniser: Any,
    model: Any,
    loader: Iterable[Any],
    *,
    device: Any,
    normalise: Callable[[str], str] = str,
    read_audio: Callable[[Utterance], Samples] | None = None,
    with_loss: bool = True,
    on_batch: Callable[[float], None] | None = None,
    is_stopped: Callable[[], bool] | None = None,
) -> Evaluation | None:
    """Run a model over a split, and gather what all processes found; None if it was stopped.

    Args:
        recogniser: how this kind of model is run.
        model: the model, or what accelerate made of it.
        loader: this process' share of the batches.
        normalise: applied to hypotheses before scoring (references are normalised already).
        read_audio: samples of an utterance that is too long for one pass; it has no loss.
        on_batch: called with the audio seconds of each batch.
        is_stopped: asked before each batch; where it says so on one process, it has to on all.
    """
    import torch

    from speechtune.decoding.long_form import transcribe_samples
    from speechtune.models.recogniser import Recognised

    start = time.perf_counter()
    num_long = 0
    result = Evaluation()
    rows: list[int] = []
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in loader:
            if is_stopped is not None and is_stopped():
                model.train(was_training)
                return None
            result.skipped += batch.skipped
            recognised = recogniser.recognise(model, batch.to(device), with_loss=with_loss) if len(batch) else []
            for item in batch.long:
                assert read_audio is not None
                text = transcribe_samples(recogniser, read_audio(item.utterance), model=model)
                recognised.append(Recognised(text, math.nan, 0))
                num_long += 1
            if not recognised:
                continue
            _score(result, batch, recognised, normalise, words_of=recogniser.words_of, with_loss=with_loss)
            rows += [*batch.rows, *(item.row for item in batch.long)]
            if on_batch is not None:
                on_batch(batch.seconds)
    model.train(was_training)
    if num_long:
        limit_s = recogniser.model_input.max_whole_s
        log.info(f"{num_long} recordings over {limit_s:g} s were cut at pauses to be recognised; they have no loss")
    result, rows = _gathered(result, rows)
    order = sorted(range(len(rows)), key=rows.__getitem__)
    result.hypotheses = [result.hypotheses[i] for i in order]
    result.phones_of = recogniser.phones_of
    result.runtime_s = time.perf_counter() - start
    return result


def _score(
    result: Evaluation,
    batch: Any,
    recognised: Sequence[Any],
    normalise: Callable[[str], str],
    *,
    words_of: Callable[[str], str],
    with_loss: bool,
) -> None:
    utterances = [*batch.utterances, *(item.utterance for item in batch.long)]
    references = [*batch.texts, *(item.text for item in batch.long)]
    for utterance, reference, said in zip(utterances, references, recognised, strict=True):
        hypothesis = " ".join(normalise(said.text).split())
        result.hypotheses.append(
            Hypothesis(
                id=utterance.id,
                reference=reference,
                hypothesis=hypothesis,
                words=word_edits(words_of(reference), words_of(hypothesis)),
                characters=character_edits(reference, hypothesis),
                duration_s=utterance.duration_s,
                file=utterance.file,
                speaker=utterance.speaker,
            )
        )
        if said.loss == float("inf"):
            result.infinite_losses += 1
        elif said.loss == said.loss:
            result.loss_sum += said.loss
            result.loss_items += said.num_items
        elif with_loss and said.num_items:
            result.nan_losses += 1
    result.audio_s += batch.seconds


def _gathered(result: Evaluation, rows: list[int]) -> tuple[Evaluation, list[int]]:
    """Everyone's results on every process."""
    import torch.distributed as distributed

    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return result, rows
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, (result, rows))
    whole, all_rows = Evaluation(), []
    for part, part_rows in gathered:
        whole.hypotheses += part.hypotheses
        whole.skipped += part.skipped
        whole.loss_sum += part.loss_sum
        whole.loss_items += part.loss_items
        whole.infinite_losses += part.infinite_losses
        whole.nan_losses += part.nan_losses
        whole.audio_s += part.audio_s
        all_rows += part_rows
    return whole, all_rows


def write_evaluation(evaluation: Evaluation, results: dict[str, Any], *, folder: Path, suffix: str = "") -> None:
    """Write `eval_results{suffix}.json` and `hypotheses{suffix}.jsonl`; what is not finite is null there."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for h in evaluation.hypotheses:
        row = asdict(h)
        row["duration_s"] = h.duration_s if h.duration_s == h.duration_s else None
        rows.append(json.dumps(row, ensure_ascii=False))
    write_atomically(folder / f"hypotheses{suffix}.jsonl", "".join(row + "\n" for row in rows))
    text = json.dumps(_finite(results), ensure_ascii=False, indent=2)
    write_atomically(folder / f"eval_results{suffix}.json", text + "\n")


def _finite(value: Any) -> Any:
    """JSON has no nan and no infinity."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
