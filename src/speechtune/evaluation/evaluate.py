"""Evaluate a model on a split: hypotheses, edit counts and rates, each utterance scored exactly once.

Memory grows only with the text of the hypotheses: labels are decided on the device, and edits are counted batch by
batch.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.evaluation.confidence import confidence_interval
from speechtune.evaluation.metrics import metric_named
from speechtune.evaluation.metrics.cer import character_edits
from speechtune.evaluation.metrics.wer import word_edits
from speechtune.evaluation.result_files import evaluation_files, merge_into_all_results, write_results
from speechtune.files import read_json, read_jsonl, write_atomically
from speechtune.text.score_normalisers import AsWritten, ScoreNormaliser
from speechtune.types import EditCounts, Hypothesis, Skipped, Utterance

if TYPE_CHECKING:
    import torch

    from speechtune.audio.samples import Samples
    from speechtune.models.batch import Batch
    from speechtune.models.recogniser import Recognised, Recogniser

__all__ = ["Evaluation", "recognise_split", "write_evaluation"]

log = logging.getLogger("speechtune")

AS_WRITTEN = AsWritten()
SUMS = ("hypotheses", "unaided", "skipped", "loss_sum", "loss_items", "infinite_losses", "nan_losses", "audio_s")


@dataclass(repr=False)
class Evaluation:
    """Hypotheses of a split, in the corpus' order, and their totals.

    Args:
        hypotheses: one an utterance.
        unaided: what the model alone writes, where a language model or hot words helped to choose the hypotheses; not
            of recordings that were recognised window by window.
        skipped: utterances that were not recognised because their audio could not be read.
        loss_sum, loss_items: of utterances with a finite loss.
        infinite_losses: utterances that CTC can't emit (more labels than frames).
        nan_losses: utterances whose loss is not a number.
        audio_s, runtime_s: audio recognised, and wall time.
        forms: how a text is split into "words" and "phones" before its tokens are counted; without an entry, at spaces.
        results: content of eval_results{suffix}.json, of an evaluation that was read.
        suffix: of its files: "", "_unseen_voice".
    """

    hypotheses: list[Hypothesis] = field(default_factory=list)
    unaided: list[Hypothesis] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_items: int = 0
    infinite_losses: int = 0
    nan_losses: int = 0
    audio_s: float = 0.0
    runtime_s: float = 0.0
    forms: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    suffix: str = ""

    @classmethod
    def read(cls, folder: Path, suffix: str = "", *, baseline: bool = False) -> Evaluation:
        """Read what `write_evaluation` wrote; an eval_results.json without hypotheses is an evaluation too.

        Args:
            baseline: read that of the starting model, before training.

        Raises:
            OutputError: a file can't be read.
        """
        results_file, hypotheses_file = evaluation_files(suffix, baseline=baseline)
        rows = [Hypothesis.from_json(row) for row in read_jsonl(folder / hypotheses_file)]
        results = read_json(folder / results_file)
        known_s = math.fsum(row.duration_s for row in rows if not math.isnan(row.duration_s))
        return cls(hypotheses=rows, audio_s=known_s, results=results, suffix=suffix)

    @property
    def name(self) -> str:
        """Name for people: "test", "unseen voice", "common_voice/de test"."""
        name = self.results.get("name") or self.suffix.replace("_", " ").strip() or self.results.get("split")
        return str(name or "evaluation")

    def __repr__(self) -> str:
        return f"Evaluation({self.name}: WER {self.wer:.2%}, CER {self.cer:.2%}, {len(self.hypotheses):,} utterances)"

    @property
    def wer(self) -> float:
        """Word error rate: word errors by reference words; nan without hypotheses."""
        return self.total("wer").rate if self.hypotheses else math.nan

    @property
    def cer(self) -> float:
        """Character error rate; nan without hypotheses."""
        return self.total("cer").rate if self.hypotheses else math.nan

    @property
    def num_utterances(self) -> int:
        return len(self.hypotheses) or self.results.get("eval_samples") or 0

    def counts(self, metric: str) -> list[EditCounts]:
        """Return the edit counts of each utterance by one metric."""
        if metric in ("wer", "cer"):
            return [h.words if metric == "wer" else h.characters for h in self.hypotheses]
        count, of = metric_named(metric).count, metric_named(metric).of
        if of == "written":
            return [count(*(h.written or (h.reference, h.hypothesis))) for h in self.hypotheses]
        form = self.forms.get(of, str)
        return [count(form(h.reference), form(h.hypothesis)) for h in self.hypotheses]

    def total(self, metric: str) -> EditCounts:
        """Return the sum of the utterances' edit counts."""
        return EditCounts.total(self.counts(metric))

    def metrics(self, names: Sequence[str] = ("wer", "cer"), *, prefix: str = "eval") -> dict[str, float]:
        """Return flat figures, named as in the Hugging Face scripts; nan where there is nothing to count."""
        rates = {name: self.total(name).rate for name in names}
        flat: dict[str, float] = {f"{prefix}_{n}": rate if self.hypotheses else math.nan for n, rate in rates.items()}
        if self.loss_items or self.infinite_losses or self.nan_losses:
            flat[f"{prefix}_loss"] = self.loss_sum / self.loss_items if self.loss_items else math.nan
        flat[f"{prefix}_samples"] = len(self.hypotheses)
        flat[f"{prefix}_runtime"] = round(self.runtime_s, 3)
        flat[f"{prefix}_audio_s_per_s"] = round(self.audio_s / max(self.runtime_s, 1e-9), 1)
        for name in ("infinite_losses", "nan_losses"):
            if getattr(self, name):
                flat[f"{prefix}_{name}"] = getattr(self, name)
        return flat

    def scores(self, names: Sequence[str] = ("wer", "cer")) -> dict[str, dict[str, Any]]:
        """Return rate, counts and 95 % interval of each metric; nan where there is nothing to count."""
        speakers = [h.speaker or None for h in self.hypotheses]
        table: dict[str, dict[str, Any]] = {}
        for name in names:
            counts = self.counts(name)
            total, bounds = EditCounts.total(counts), confidence_interval(counts, speakers)
            table[name] = {
                "rate": total.rate if counts else math.nan,
                **asdict(total),
                "low": bounds.low,
                "high": bounds.high,
                "interval": {"unit": bounds.unit, "groups": bounds.groups},
            }
        return table

    def without_help(self) -> Evaluation:
        """Return the evaluation of what the model alone writes, of the same utterances."""
        return Evaluation(self.unaided, audio_s=self.audio_s, runtime_s=self.runtime_s, forms=self.forms)

    def gain(self) -> dict[str, Any]:
        """Return the difference in WER to what the model alone writes, with its paired 95 % interval."""
        from speechtune.evaluation.significance import paired_bootstrap

        alone = {h.id: h for h in self.unaided}
        pairs = [(alone[h.id], h) for h in self.hypotheses if h.id in alone]
        found = paired_bootstrap(
            [before.words.edits for before, _ in pairs],
            [after.words.edits for _, after in pairs],
            [after.words.reference_length for _, after in pairs],
            speakers=[after.speaker or None for _, after in pairs],
        )
        return asdict(found)

    def score(self, metric: str) -> dict[str, Any] | None:
        """Return one metric of `results`: rate and counts, or the rate alone as `Trainer` writes it, or None."""
        score = (self.results.get("scores") or {}).get(metric) or {"rate": self.results.get(f"eval_{metric}")}
        return score if isinstance(score["rate"], (int, float)) and math.isfinite(score["rate"]) else None


def recognise_split(
    recogniser: Recogniser,
    model: torch.nn.Module,
    loader: Iterable[Batch],
    *,
    device: torch.device,
    normalise: Callable[[str], str] = str,
    read_audio: Callable[[Utterance], Samples] | None = None,
    with_loss: bool = True,
    on_batch: Callable[[float], None] | None = None,
    is_stopped: Callable[[], bool] | None = None,
) -> Evaluation | None:
    """Run a model over a split and gather the results of all processes; None if it was stopped.

    Args:
        recogniser: how this kind of model is run.
        model: the model, as it is or wrapped by accelerate.
        loader: this process' share of the batches.
        normalise: applied to hypotheses before scoring. References are normalised already, but a `ScoreNormaliser` is
            applied to the corpus' own transcripts too.
        read_audio: samples of an utterance that is too long for one pass; it has no loss.
        on_batch: called with the audio seconds of each batch.
        is_stopped: called before each batch; must return the same on all processes.
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
            _score(result, batch, recognised, normalise, recogniser, with_loss=with_loss)
            rows += [*batch.rows, *(item.row for item in batch.long)]
            if on_batch is not None:
                on_batch(batch.seconds)
    model.train(was_training)
    if num_long:
        limit_s = recogniser.model_input.max_whole_s
        log.info(f"recordings over {limit_s:g} s: {num_long}, recognised window by window; they have no loss")
    result, rows = _gathered(result, rows)
    order = sorted(range(len(rows)), key=rows.__getitem__)
    result.hypotheses = [result.hypotheses[i] for i in order]
    place = {hypothesis.id: i for i, hypothesis in enumerate(result.hypotheses)}
    result.unaided.sort(key=lambda hypothesis: place[hypothesis.id])
    result.forms = {"words": recogniser.words_of, "phones": recogniser.phones_of}
    result.runtime_s = time.perf_counter() - start
    return result


def _score(
    result: Evaluation,
    batch: Batch,
    recognised: Sequence[Recognised],
    normalise: Callable[[str], str],
    recogniser: Recogniser,
    *,
    with_loss: bool,
) -> None:
    words_of = recogniser.words_of

    def scored(utterance: Utterance, reference: str, text: str, output: Recognised | None = None) -> Hypothesis:
        hypothesis = " ".join(normalise(text).split())
        return Hypothesis(
            id=utterance.id,
            reference=reference,
            hypothesis=hypothesis,
            words=word_edits(words_of(reference), words_of(hypothesis)),
            characters=character_edits(reference, hypothesis),
            duration_s=utterance.duration_s,
            file=utterance.file,
            speaker=utterance.speaker,
            written=(AS_WRITTEN(utterance.text), AS_WRITTEN(text)) if isinstance(normalise, ScoreNormaliser) else None,
            word_times=() if output is None else _word_times(recogniser, output, len(hypothesis.split())),
        )

    utterances = [*batch.utterances, *(item.utterance for item in batch.long)]
    references = [*batch.texts, *(item.text for item in batch.long)]
    for utterance, reference, output in zip(utterances, references, recognised, strict=True):
        if isinstance(normalise, ScoreNormaliser):
            reference = normalise(utterance.text)
        result.hypotheses.append(scored(utterance, reference, output.text, output))
        if output.unaided is not None:
            result.unaided.append(scored(utterance, reference, output.unaided))
        if output.loss == math.inf:
            result.infinite_losses += 1
        elif output.loss == output.loss:
            result.loss_sum += output.loss
            result.loss_items += output.num_items
        elif with_loss and output.num_items:
            result.nan_losses += 1
    result.audio_s += batch.seconds


def _word_times(recogniser: Any, output: Recognised, num_words: int) -> tuple[tuple[float, float], ...]:
    """Return the times of the words where recognition tells them, and normalisation did not change their number."""
    found = [(round(word.start_s, 2), round(word.end_s, 2)) for word in output.words]
    if output.path is not None:
        from speechtune.decoding.ctc_path import word_times

        found = word_times(recogniser, output.path)
    return tuple(found) if len(found) == num_words else ()


def _gathered(result: Evaluation, rows: list[int]) -> tuple[Evaluation, list[int]]:
    """Return the sum of all processes' results, on every process."""
    import torch.distributed as distributed

    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return result, rows
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, (result, rows))
    whole, all_rows = Evaluation(), []
    for part, part_rows in gathered:
        for name in SUMS:
            setattr(whole, name, getattr(whole, name) + getattr(part, name))
        all_rows += part_rows
    return whole, all_rows


def write_evaluation(
    evaluation: Evaluation, results: dict[str, Any], *, folder: Path, suffix: str = "", baseline: bool = False
) -> None:
    """Write `hypotheses{suffix}.jsonl` and `eval_results{suffix}.json`; without a suffix, all_results.json too.

    Args:
        results: flat metrics, scores and protocol; numbers that are not finite become null.
        baseline: of the starting model, before training: in files of its own, that begin with "baseline_".
    """
    rows = "".join(json.dumps(h.as_json(), ensure_ascii=False) + "\n" for h in evaluation.hypotheses)
    results_file, hypotheses_file = evaluation_files(suffix, baseline=baseline)
    write_atomically(folder / hypotheses_file, rows)
    write_results(folder / results_file, results)
    if not (suffix or baseline):
        merge_into_all_results(folder, results)
