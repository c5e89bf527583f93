"""Sentences that explain a run's figures to a reader who does not know what a WER is.

Each rule states one fact that the files hold and says no more than they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speechtune.evaluation.confidence import FEW_SPEAKERS
from speechtune.evaluation.evaluate import Evaluation
from speechtune.reporting.plots import series_of
from speechtune.reporting.run_folder import Run
from speechtune.terminal.formatting import interval_text, percent
from speechtune.types import EditCounts

__all__ = ["counts_in", "findings", "in_plain_words", "interval_in_words"]

FEW_WORDS = 1000  # below, the interval of a WER is some points wide and a ranking of models is mostly luck


def counts_in(score: Mapping[str, Any] | None) -> EditCounts | None:
    """Return the edit counts of a score; None where only its rate is known."""
    names = ("hits", "substitutions", "deletions", "insertions")
    return EditCounts(*(score[name] for name in names)) if score and all(name in score for name in names) else None


def in_plain_words(score: Mapping[str, Any]) -> str:
    """Return one sentence on a word error rate with (or without) its counts, as in eval_results.json."""
    counts = counts_in(score)
    if counts is None:
        return f"Of every 100 words, about {_of(score['rate'], 100)} are wrong."
    spoken = counts.reference_length
    if spoken == 0:
        return "The references hold no words, so there is nothing to recognise."
    if counts.edits == 0:
        return f"Every one of the {spoken:,} words is recognised correctly."
    base = 100 if score["rate"] >= 0.03 else 1000
    right, replaced, missed, added = (
        _of(n / spoken, base) if n else ""
        for n in (counts.hits, counts.substitutions, counts.deletions, counts.insertions)
    )
    right = f"about {right}" if right[:1].isdigit() else right or "none"
    errors = [f"{replaced} are taken for another word" if replaced else "", f"{missed} are missed" if missed else ""]
    parts = [
        f"Of every {base:,} words spoken, {right} are recognised correctly",
        " and ".join(filter(None, errors)),
        f"{added} extra word{' is' if added in ('1', 'fewer than 1') else 's are'} inserted" if added else "",
    ]
    return "; ".join(filter(None, parts)) + "."


def interval_in_words(score: Mapping[str, Any]) -> str:
    """Return what a score's 95 % interval was computed over, and how far it can be trusted; may be empty."""
    interval = score.get("interval") or {}
    unit, groups = interval.get("unit"), interval.get("groups", 0)
    if unit == "utterances":
        return (
            f"The 95 % interval is over {groups:,} utterances, of one speaker or of unknown ones: for other speakers "
            "it is optimistic (too narrow)."
        )
    if unit == "speakers" and groups < FEW_SPEAKERS:
        return f"The 95 % interval is over {groups} speakers only, so it is wide and rough."
    return f"The 95 % interval is over {groups:,} speakers." if unit == "speakers" else ""


def findings(run: Run) -> list[str]:
    """Return facts worth a look, most important first; may be empty."""
    rules = [_main_evaluation, _language_model, _course_of_training, _not_finite, _skipped]
    return [sentence for rule in rules for sentence in rule(run)]


def _language_model(run: Run) -> list[str]:
    sentences = []
    for evaluation in run.evaluations:
        score = evaluation.score("wer")
        for name, what in (("gain_of_lm", "the language model"), ("gain_of_search", "the search")):
            gain = evaluation.results.get(name)
            if not (isinstance(gain, Mapping) and score and isinstance(gain.get("difference"), (int, float))):
                continue
            before, text = score["rate"] - gain["difference"], f"{100 * gain['difference']:+.1f} points"
            if isinstance(gain.get("low"), (int, float)):
                text += f", paired 95 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"
                text += "; it may be chance" if gain["low"] <= 0 <= gain["high"] else ""
            sentences.append(f"With {what} the WER is {percent(score['rate'])} instead of {percent(before)} ({text}).")
    return sentences


def _of(share: float, base: int) -> str:
    count = share * base
    if 0 < count < 0.5:
        return "fewer than 1"
    if base - 0.5 < count < base:
        return f"more than {base - 1:,}"
    return f"{count:,.0f}" if count else "none"


def _main_evaluation(run: Run) -> list[str]:
    if not run.evaluations:
        return []
    sentences = []
    evaluation = run.evaluations[0]
    rows = evaluation.hypotheses
    if rows:
        num_right = sum(row.words.edits == 0 for row in rows)
        sentences.append(f"{num_right:,} of {len(rows):,} utterances ({percent(num_right / len(rows))}) have no error.")
        num_empty = sum(not row.hypothesis.strip() and bool(row.reference.strip()) for row in rows)
        if num_empty == len(rows):
            sentences.append("Every hypothesis is empty, as those of a CTC model are at the start of its training.")
        elif num_empty > 0.02 * len(rows):
            sentences.append(f"{num_empty:,} hypotheses ({percent(num_empty / len(rows))}) are empty.")
    sentences.append(interval_in_words(evaluation.score("wer") or {}))
    return [s for s in sentences if s] + _kinds_of_errors(evaluation) + _other_evaluations(run)


def _kinds_of_errors(evaluation: Evaluation) -> list[str]:
    counts = counts_in(evaluation.score("wer"))
    if counts is None:
        return []
    sentences = []
    if counts.deletions > 0.5 * counts.edits:
        sentences.append("More than half of the errors are missed words.")
    if counts.insertions > 0.5 * counts.edits:
        sentences.append("More than half of the errors are insertions; look for hypotheses that repeat themselves.")
    if 0 < counts.reference_length < FEW_WORDS:
        sentences.append(
            f"The references hold only {counts.reference_length:,} words: small differences between models mean little."
        )
    return sentences


def _other_evaluations(run: Run) -> list[str]:
    main = run.evaluations[0]
    first = main.score("wer")
    sentences = []
    for other in run.evaluations[1:]:
        score = other.score("wer")
        if first and score and interval_text(first) and interval_text(score):
            above, below = score["low"] > first["high"], score["high"] < first["low"]
            if above or below:
                sentences.append(
                    f"The WER on {other.name}, {percent(score['rate'])}, is {'above' if above else 'below'} "
                    f"that on {main.name}: their 95 % intervals do not overlap."
                )
    return sentences


def _course_of_training(run: Run) -> list[str]:
    rates = series_of(run.log_history, "eval_wer")
    sentences = []
    if len(rates) >= 2:
        best_step, best = min(rates, key=lambda point: (point[1], point[0]))
        last_step, last = rates[-1]
        if best_step != last_step and last > best:
            sentences.append(
                f"In evaluations while training, the WER was lowest at step {best_step:,.0f} ({percent(best)}) "
                f"and {percent(last)} at the last one, step {last_step:,.0f}."
            )
    max_steps, step = run.state.get("max_steps"), run.state.get("global_step")
    if max_steps and step and step < max_steps:
        sentences.append(f"Training reached step {step:,} of {max_steps:,}.")
    return sentences


def _not_finite(run: Run) -> list[str]:
    steps = _count(run.bad_steps, "step")
    return [f"{steps} with a loss or gradient that was not finite, see below."] if run.bad_steps else []


def _skipped(run: Run) -> list[str]:
    return [f"{_count(run.skipped, 'utterance')} skipped, see below."] if run.skipped else []


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"
