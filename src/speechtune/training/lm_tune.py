"""`speechtune lm tune`: the weights of a language model for a trained model, found on a validation split."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from speechtune.data.dataset import SpeechDataset
from speechtune.decoding.fusion import Fusion, Weights
from speechtune.decoding.search import DEFAULT_BEAMS, LM_NAMES, WEIGHTS, attach_prompt, ctc_search, fusion_of
from speechtune.errors import OptionError
from speechtune.evaluation.lm_weights import tune
from speechtune.evaluation.metrics.wer import word_edits
from speechtune.files import explain_write_errors, read_json, write_atomically
from speechtune.options.table import Options
from speechtune.plan.plan import RunPlan
from speechtune.plan.resolve import resolve
from speechtune.terminal.formatting import visible
from speechtune.text.score_normalisers import ScoreNormaliser
from speechtune.types import Utterance

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from speechtune.models.recogniser import Recognised, Recogniser

__all__ = ["run"]

log = logging.getLogger("speechtune")

MAX_UTTERANCES = 1000  # without --max_eval_samples: more change the weights little


def run(options: Options) -> int:
    """Find the weights, write them beside the language model in the model's folder, and print what they bring.

    Returns:
        Exit code, 0.

    Raises:
        OptionError: the split is for testing, or there is more than one process.
        SpeechtuneError: as evaluation.
    """
    config = options.config
    if any("test" in part for part in config.eval_split_name.split("+")) and not config.force:
        raise OptionError(
            f"--eval_split_name {config.eval_split_name}: weights that are tuned on a test split make its scores too "
            "good.\nGive a split for validation, or --force."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise OptionError("speechtune lm tune runs in one process.")
    if config.max_eval_samples is None:
        options = replace(options, config=replace(config, max_eval_samples=MAX_UTTERANCES))
    with tempfile.TemporaryDirectory(prefix="speechtune-tune-") as folder:
        plan = resolve(replace(options, training={**options.training, "output_dir": folder}))
        for note in (*plan.notes, *_trained_on(plan)):
            log.info(note)
        return _tune(plan)


def _trained_on(plan: RunPlan) -> list[str]:
    """Return a warning where the model was trained on the split, and so needs less help there than elsewhere."""
    trained = read_json(Path(plan.settings.model_name_or_path) / "settings.json").get("plan", {})
    same = trained.get("settings", {}).get("dataset_name") == plan.settings.dataset_name
    splits = set(str((trained.get("train") or {}).get("name", "")).split("+"))
    shared = splits & set(plan.settings.eval_split_name.split("+"))
    if not (same and shared):
        return []
    return [f"warning: the model was trained on {' and '.join(sorted(shared))}: weights found there are too small"]


def _tune(plan: RunPlan) -> int:
    from speechtune.training.build import build_arguments, build_recogniser
    from speechtune.training.data import build_datasets, read_corpus

    args, data = build_arguments(plan), read_corpus(plan)
    recogniser = build_recogniser(plan, data, args)
    attach_prompt(recogniser, plan.settings.prompt)
    dataset = build_datasets(plan, data, recogniser, args).evaluation
    assert isinstance(dataset, SpeechDataset)
    fusion = fusion_of(plan.settings)
    assert fusion is not None
    rows = _recognised(recogniser, dataset, args, plan.settings.num_beams)
    recognised = [row.recognised for row in rows]
    _describe(fusion, [row.text for row in rows])

    # A language model was built from transcripts as training sees them; errors are counted as scores count them.
    as_in_training = data.normalise if plan.is_seq2seq else str
    of_scores = data.normalise_hypothesis

    def normalise(text: str) -> str:
        return " ".join(as_in_training(text).split())

    def words(text: str) -> str:
        return recogniser.words_of(" ".join(of_scores(text).split()))

    if isinstance(of_scores, ScoreNormaliser):
        references = [words(row.utterance.text) for row in rows]
    else:
        references = [recogniser.words_of(row.text) for row in rows]
    search = _search(recogniser, fusion, recognised, plan.settings.num_beams, normalise)
    found = tune(search, fusion, references, normalise=normalise, words_of=words)
    total = max(1, sum(len(text.split()) for text in references))
    alone = sum(
        word_edits(text, words(row.unaided or row.text)).edits for text, row in zip(references, recognised, strict=True)
    )
    facts = {"wer": found.errors / total, "wer_without_lm": alone / total, "utterances": len(references)}
    path, weights = _write(plan, found.weights, facts), found.weights
    line = (
        f"alpha {weights.alpha:g}, beta {weights.beta:g}, unknown words {weights.unknown:g}: WER "
        f"{100 * facts['wer']:.1f} % on {plan.corpus} {plan.settings.eval_split_name}, "
        f"{100 * facts['wer_without_lm']:.1f} % without -> {path}"
    )
    print(visible(line))
    if found.errors >= alone:
        print("The language model does not help here.")
    return 0


class _Row(NamedTuple):
    utterance: Utterance
    text: str  # its transcript, as training sees it
    recognised: Recognised


def _recognised(
    recogniser: Recogniser, dataset: SpeechDataset, args: TrainingArguments, num_beams: int | None
) -> list[_Row]:
    """Recognise a split once, and keep the evidence."""
    import torch

    from speechtune.data.dataset import evaluation_loader
    from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
    from speechtune.terminal.progress import evaluation_progress

    recogniser.model.to(args.device).eval()
    recogniser.keeps_evidence = True
    if isinstance(recogniser, Seq2SeqRecogniser):
        recogniser.num_beams = num_beams or DEFAULT_BEAMS[recogniser.kind]
    loader = evaluation_loader(
        dataset, batch_size=args.per_device_eval_batch_size, num_workers=args.dataloader_num_workers
    )
    rows: list[tuple[int, _Row]] = []
    num_long = 0
    with torch.inference_mode(), evaluation_progress(dataset.split.hours * 3600, enabled=True) as advance:
        for batch in loader:
            num_long += len(batch.long)
            found = recogniser.recognise(recogniser.model, batch.to(args.device), with_loss=False) if len(batch) else []
            rows += zip(batch.rows, map(_Row, batch.utterances, batch.texts, found), strict=True)
            advance(batch.seconds)
    if num_long:
        log.info(f"{num_long} recordings are too long for one pass and were not used")
    rows.sort(key=lambda row: row[0])
    return [row for _, row in rows]


def _search(
    recogniser: Recogniser,
    fusion: Fusion,
    recognised: Sequence[Recognised],
    num_beams: int | None,
    normalise: Callable[[str], str],
) -> Callable[[Weights], list[Mapping[str, float]]]:
    """Return a function from weights to the texts of each utterance, best first, with the model's log probabilities."""
    from speechtune.models.ctc.recogniser import CtcRecogniser

    if isinstance(recogniser, CtcRecogniser):

        def of_frames(weights: Weights) -> list[Mapping[str, float]]:
            beams = num_beams or DEFAULT_BEAMS[CtcRecogniser.kind]
            search = ctc_search(recogniser, fusion.with_weights(weights), beams)
            try:
                found = search.n_best([row.evidence.astype("float32") for row in recognised])
            finally:
                search.close()
            return [{beam.text: beam.acoustic for beam in utterance} for utterance in found]

        return of_frames

    def of_beams(weights: Weights) -> list[Mapping[str, float]]:
        score = fusion.with_weights(weights).score
        return [
            dict(sorted(row.evidence.items(), key=lambda beam: beam[1] + score(normalise(beam[0])), reverse=True))
            for row in recognised
        ]

    return of_beams


def _describe(fusion: Fusion, references: Sequence[str]) -> None:
    """Say how well the language model knows the references."""
    if fusion.model is None:
        return
    units = [fusion.model.units(text) for text in references]
    log_prob = sum(map(fusion.model.sentence, units))
    count = sum(map(len, units))
    unknown = sum(unit not in fusion.model for text in units for unit in text)
    perplexity = math.exp(-log_prob / max(1, count + len(units)))
    log.info(f"language model: perplexity {perplexity:.1f}, {unknown / max(1, count):.1%} unknown words")


def _write(plan: RunPlan, weights: Weights, facts: dict[str, Any]) -> Path:
    """Write lm.json beside the language model, which is copied into the model's folder; return its path."""
    folder, lm = Path(plan.settings.model_name_or_path).expanduser(), Path(str(plan.settings.lm))
    if folder.is_dir() and not (lm.parent.samefile(folder) and lm.name in LM_NAMES):
        zipped = lm.read_bytes()[:2] == b"\x1f\x8b"
        with explain_write_errors("the language model", folder):
            lm = Path(shutil.copyfile(lm, folder / LM_NAMES[0 if zipped else 1]))
        (folder / LM_NAMES[1 if zipped else 0]).unlink(missing_ok=True)
        log.info(f"copied to {lm}: --lm auto finds it")
    where = {"dataset": plan.corpus, "split": plan.settings.eval_split_name}
    row = {"lm": lm.name, "weights": asdict(weights), "tuned_on": where | facts}
    write_atomically(lm.parent / WEIGHTS, json.dumps(row, indent=1) + "\n")
    return lm.parent / WEIGHTS
