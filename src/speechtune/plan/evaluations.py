"""What a training evaluates beside its own split: the starting model, further sets, and the split to choose weights on.

Each is a RunPlan of one evaluation, so that corpus, language, normalisation and protocol are decided and built as those
of `speechtune evaluate`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from speechtune.corpora.table import SplitTable
from speechtune.errors import OptionError
from speechtune.options.table import Options, Settings
from speechtune.plan.corpus import find_corpus, read_split, shared_speech, split_plan
from speechtune.plan.plan import RunPlan
from speechtune.text.languages import language_of

if TYPE_CHECKING:
    from speechtune.corpora.corpus import Corpus

__all__ = ["add_evaluations"]

Protocol = Callable[[Settings, str | None], Mapping[str, Any]]


def add_evaluations(
    plan: RunPlan, options: Options, corpus: Corpus, model_config: Any, *, protocol_of: Protocol
) -> RunPlan:
    """Return the plan of a training with the evaluations beside its own.

    Args:
        corpus: of the run.
        model_config: transformers' config of the starting model.
        protocol_of: settings and language -> how scores are computed.

    Raises:
        OptionError: they were requested and are not possible.
        CorpusError: a further set is not there.
    """
    settings = plan.settings
    if not (plan.do_train and plan.do_eval):
        _check_unused(plan)
        return plan
    training = _training_rows(corpus, settings)
    further: list[RunPlan] = []
    warnings: list[str] = []
    for text in settings.also_evaluate or ():
        one, rows = _further(plan, text, protocol_of)
        if any(other.suffix == one.suffix or _names(other) == _names(one) for other in (plan, *further)):
            raise OptionError(f"--also_evaluate {text}: {one.scored} is evaluated already. Name each set once.")
        further.append(replace(one, notes=()))
        warnings += one.notes
        if training is not None and isinstance(rows, SplitTable):
            warnings.append(shared_speech(training, rows, force=settings.force))
    selection, note = _selection(plan, corpus, protocol_of) if plan.mixes_weights else (None, "")
    baseline = [
        _of_starting_model(one, model_config, protocol_of) for one in (_own(plan), *further) if _wanted(options, plan)
    ]
    notes = [*(f"warning: {text}" for text in warnings if text), note]
    return replace(
        plan,
        baseline=tuple(baseline),
        further=tuple(further),
        selection=selection,
        notes=(*plan.notes, *(text for text in notes if text)),
    )


def _check_unused(plan: RunPlan) -> None:
    """Check that nothing was asked for that needs a training and its evaluation; one mixture needs no evaluation."""
    names = ("baseline", "also_evaluate", "average_checkpoints", "interpolate_weights")
    asked = [name for name in names if getattr(plan.settings, name)]
    if not plan.do_train and asked:
        raise OptionError(f"--{asked[0]}: this run trains nothing. Leave it out.")
    if len(plan.settings.interpolate_weights or ()) == 1:
        asked.remove("interpolate_weights")
    if asked:
        raise OptionError(f"--{asked[0]}: this run evaluates nothing. Give --do_eval too, or leave it out.")


# ---- the starting model


def _wanted(options: Options, plan: RunPlan) -> bool:
    """Whether the starting model is evaluated.

    The original scripts' names do so only if asked: the README's commands take no longer and write what they wrote.

    Raises:
        OptionError: it is asked for and can't recognise.
    """
    settings = plan.settings
    reason, may_work = _why_not(plan)
    if settings.baseline is None:
        return not reason and options.command in ("train", "plan")
    if settings.baseline and reason and not may_work:
        raise OptionError(f"--baseline: the starting model can't recognise yet: {reason}.\nLeave the option out.")
    return settings.baseline


def _why_not(plan: RunPlan) -> tuple[str, bool]:
    """Return why the starting model is not evaluated by default (empty: it is), and whether it may work if asked."""
    settings = plan.settings
    if settings.model_config is not None:
        return "its weights are random", False
    if plan.model_type == "speech-encoder-decoder":  # nothing in its config says whether it was ever trained
        return "its decoder may be fresh from `speechtune warmstart`", True
    if not plan.is_seq2seq and not plan.has_trained_head:
        return "it has no head for letters", False
    if settings.phones:
        return "it may write letters, and phones are learnt", True
    if settings.streaming:
        return "a stream would be read twice", True
    return "", True


def _of_starting_model(plan: RunPlan, model_config: Any, protocol_of: Protocol) -> RunPlan:
    """Return the same evaluation of the starting model: with its own tokenizer, and in a context that it can take."""
    settings = plan.settings
    if plan.is_seq2seq:
        settings = replace(settings, encoder_context=_context(settings, model_config))
    else:
        settings = replace(settings, tokenizer_name_or_path=None)
    return replace(plan, settings=settings, protocol=protocol_of(settings, plan.language))


def _context(settings: Settings, model_config: Any) -> Any:
    """Return the run's encoder context, or the model's own where the model has yet to learn the run's."""
    if model_config.model_type != "whisper" or settings.encoder_context in (None, "full"):
        return settings.encoder_context
    from speechtune.models.whisper.context import HARMLESS_S, tuned_context

    tuned = tuned_context(model_config)
    least = HARMLESS_S if tuned == "full" else min(HARMLESS_S, float(tuned))
    return settings.encoder_context if float(settings.encoder_context) >= least else tuned


# ---- sets


def _own(plan: RunPlan) -> RunPlan:
    """Return the run's own evaluation, without the training."""
    return replace(plan, train=None, do_train=False, resume_from=None, clears_output=False, notes=())


def _evaluation_of(
    plan: RunPlan, settings: Settings, protocol_of: Protocol, corpus: Corpus | None = None
) -> tuple[RunPlan, Any]:
    """Return the evaluation that these settings name, and its rows."""
    corpus = corpus or find_corpus(settings)
    streaming = settings.streaming and corpus.layout.stream is not None
    named = language_of(corpus.language or settings.dataset_config_name, None)
    language = named or plan.language
    if language != plan.language:
        settings = replace(settings, language=None)  # the user's is that of the run's own corpus
    settings = replace(settings, streaming=streaming)
    rows = read_split(corpus, settings, settings.eval_split_name, max_samples=settings.max_eval_samples)
    found = replace(
        _own(plan),
        settings=settings,
        corpus=corpus.label,
        language=language,
        evaluation=split_plan(settings.eval_split_name, rows),
        protocol=protocol_of(settings, language),
    )
    if named is None and plan.model_type == "whisper" and language and corpus.label != plan.corpus:
        note = f"--also_evaluate: {found.scored} names no language, so Whisper is told the run's: {language}"
        found = replace(found, notes=(note,))
    return replace(found, suffix="_" + re.sub(r"\W+", "-", found.scored)), rows


def _further(plan: RunPlan, text: str, protocol_of: Protocol) -> tuple[RunPlan, Any]:
    """Return the evaluation of a set of --also_evaluate: NAME[:CONFIG[:SPLIT]], without NAME the run's own corpus."""
    name, _, rest = text.partition(":")
    config, _, split = rest.partition(":")
    settings, same = plan.settings, name in ("", plan.settings.dataset_name)
    changed = replace(
        settings,
        dataset_name=name or settings.dataset_name,
        dataset_config_name=config or (settings.dataset_config_name if same else None),
        eval_split_name=split or "test",
        # Another corpus has its own columns.
        text_column_name=settings.text_column_name if same else None,
        audio_column_name=settings.audio_column_name if same else "audio",
        corrections=settings.corrections if same else None,
    )
    return _evaluation_of(plan, changed, protocol_of)


def _names(plan: RunPlan) -> tuple[str | None, ...]:
    settings = plan.settings
    return settings.dataset_name, settings.dataset_config_name, settings.eval_split_name


def _training_rows(corpus: Corpus, settings: Settings) -> SplitTable | None:
    """Return the training rows, to look for shared speech, where further sets are asked for."""
    if not settings.also_evaluate or settings.streaming:
        return None
    assert settings.train_split_name is not None
    rows = read_split(corpus, settings, settings.train_split_name, max_samples=settings.max_train_samples)
    assert isinstance(rows, SplitTable)
    return rows


def _selection(plan: RunPlan, corpus: Corpus, protocol_of: Protocol) -> tuple[RunPlan | None, str]:
    """Return the evaluation of the split to choose weights on, and a note where there is none.

    It is the validation split, unless that is trained on. Never the test split: the chosen weights' score on it would
    be too good.
    """
    settings = plan.settings
    if settings.average_checkpoints is None and len(settings.interpolate_weights or ()) == 1:
        return None, ""  # the user has chosen
    split = "validation"
    option = "--interpolate_weights" if settings.interpolate_weights else "--average_checkpoints"
    train_splits = settings.train_split_name or ""
    is_trained = any(part.strip().startswith(split) for part in train_splits.split("+"))
    if is_trained or settings.streaming or split not in corpus.present(f"{train_splits}+{split}").split("+"):
        why = "is trained on" if is_trained else "is missing" if not settings.streaming else "would be a stream"
        advice = "--train_split_name train leaves it out of training" if is_trained else "one number alone is a choice"
        return None, (
            f"warning: {option}: the {split} split {why}, so there is no split to choose on (never the test split): "
            f"all mixtures are scored, the final weights are kept; {advice}"
        )
    if settings.eval_split_name == split:
        return _own(plan), ""
    return _evaluation_of(plan, replace(settings, eval_split_name=split), protocol_of, corpus)[0], ""
