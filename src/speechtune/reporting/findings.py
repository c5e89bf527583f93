"""What a run's figures mean, in sentences: for the report's head, so that nobody has to know what a WER is.

Each rule states one fact that the files hold and says no more than they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speechtune.reporting.plots import series_of
from speechtune.reporting.run_folder import Evaluation, Run
from speechtune.terminal.formatting import percent

__all__ = ["findings", "in_plain_words"]

FEW_WORDS = 1000  # below, the interval of a WER is some points wide and a ranking of models is mostly luck


def in_plain_words(score: Mapping[str, Any]) -> str:
    """One sentence on a word error rate with (or without) its counts.

    Args:
        score: rate and perhaps hits, substitutions, deletions, insertions, as in eval_results.json.
    """
    hits, replaced, missed, added = (score.get(k) for k in ("hits", "substitutions", "deletions", "insertions"))
    if hits is None or replaced is None or missed is None or added is None:
        return f"Of every 100 words, about {_of(score['rate'], 100)} are wrong."
    spoken = hits + replaced + missed
    if spoken == 0:
        return "The references hold no words, so there is nothing to recognise."
    if replaced + missed + added == 0:
        return f"Every one of the {spoken:,} words is recognised right."
    base = 100 if score["rate"] >= 0.03 else 1000
    right = _of(hits / spoken, base)
    sentence = f"Of every {base:,} words spoken, {'about ' if right[0].isdigit() else ''}{right} are recognised right"
    parts = [
        f"{_of(replaced / spoken, base)} are taken for another word" if replaced else "",
        f"{_of(missed / spoken, base)} are missed" if missed else "",
    ]
    sentence += "; " + " and ".join(p for p in parts if p) if any(parts) else ""
    if added:
        sentence += f"; on top, {_of(added / spoken, base)} are written that nobody said"
    return sentence + "."


def findings(run: Run) -> list[str]:
    """Facts worth a look, most important first; may be empty."""
    rules = [_main_evaluation, _course_of_training, _not_finite, _skipped]
    return [sentence for rule in rules for sentence in rule(run)]


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
    rows = evaluation.rows
    if rows:
        num_right = sum(row.words.edits == 0 for row in rows)
        sentences.append(f"{num_right:,} of {len(rows):,} utterances ({percent(num_right / len(rows))}) have no error.")
        num_empty = sum(not row.hypothesis.strip() and bool(row.reference.strip()) for row in rows)
        if num_empty == len(rows):
            sentences.append(
                "Every hypothesis is empty: the model says nothing (a CTC model that was trained too briefly does)."
            )
        elif num_empty > 0.02 * len(rows):
            sentences.append(f"{num_empty:,} hypotheses ({percent(num_empty / len(rows))}) are empty.")
    return sentences + _kinds_of_errors(evaluation) + _other_evaluations(run)


def _kinds_of_errors(evaluation: Evaluation) -> list[str]:
    score = evaluation.score("wer")
    if score is None or "hits" not in score:
        return []
    sentences = []
    words = score["hits"] + score["substitutions"] + score["deletions"]
    edits = score["substitutions"] + score["deletions"] + score["insertions"]
    if edits and score["deletions"] > 0.5 * edits:
        sentences.append("More than half of the errors are missed words.")
    if edits and score["insertions"] > 0.5 * edits:
        sentences.append(
            "More than half of the errors are words that nobody said; look for hypotheses that repeat themselves."
        )
    if 0 < words < FEW_WORDS:
        sentences.append(f"The score rests on {words:,} words only: small differences between models mean little.")
    return sentences


def _other_evaluations(run: Run) -> list[str]:
    main = run.evaluations[0]
    first = main.score("wer")
    sentences = []
    for other in run.evaluations[1:]:
        score = other.score("wer")
        if first and score and {"low", "high"} <= first.keys() & score.keys():
            above, below = score["low"] > first["high"], score["high"] < first["low"]
            if above or below:
                sentences.append(
                    f"The WER on {other.name}, {percent(score['rate'])}, is {'above' if above else 'below'} "
                    f"that on {main.name} by more than chance: their 95 % intervals do not overlap."
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
    if isinstance(max_steps, int) and isinstance(step, int) and 0 < step < max_steps:
        sentences.append(f"Training stands at step {step:,} of {max_steps:,}.")
    return sentences


def _not_finite(run: Run) -> list[str]:
    if not run.bad_steps:
        return []
    return [f"{_count(run.bad_steps, 'step')} with a loss or gradient that was not finite, see below."]


def _skipped(run: Run) -> list[str]:
    if not run.skipped:
        return []
    return [f"{_count(run.skipped, 'utterance')} skipped, see below."]


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"
