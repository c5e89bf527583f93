"""Whisper's prompt: the tokens for language and task before every transcript, the same in labels and in generation.

    <|startoftranscript|><|hi|><|transcribe|><|notimestamps|> text <|endoftext|>

Only the first is given in training; the model learns to write the others. When it generates they are all forced. A
checkpoint that knows only English has neither language nor task token.
"""

from __future__ import annotations

import logging
from typing import Any

from speechtune.errors import ModelError, OptionError
from speechtune.text.languages import find_language, near_languages

__all__ = ["set_prompt"]

log = logging.getLogger("speechtune")

# Whisper's own code where ISO 639-1 has another, or where it knows one language of several.
_WHISPER_CODES = {"jv": "jw", "nb": "no"}
_END_OF_ENGLISH = 50256  # <|endoftext|> of the English models, whose text vocabulary is GPT-2's


def set_prompt(
    model: Any,
    tokenizer: Any,
    *,
    name: str,
    language: str | None,
    corpus_language: str | None,
    task: str,
    training: bool,
) -> bool:
    """Set language and task in tokenizer and generation config.

    Args:
        name: of the model, for messages.
        language: what the user asks for (`hindi`, `hi`); it wins.
        corpus_language: what the corpus says it is.
        task: transcribe or translate.
        training: a language must be known, else English is taken; an evaluation lets the model find out.

    Returns:
        Whether the language is known; if not, it is detected clip by clip.

    Raises:
        OptionError: the model doesn't know the language or the task.
        ModelError: tokenizer and generation config don't belong together.
    """
    generation = model.generation_config
    _complete(generation, tokenizer)
    if not generation.is_multilingual:
        _set_english(tokenizer, name=name, language=language, corpus_language=corpus_language, task=task)
        return True
    code = _language(generation, name=name, language=language, corpus_language=corpus_language, training=training)
    before = getattr(generation, "task", None)
    if before is not None and before != task and not training:
        log.warning(f"{name} is set to {before}; it is asked to {task} here (--task {before} for what it is set to)")
    tokenizer.language = None
    tokenizer.set_prefix_tokens(language=code, task=task, predict_timestamps=False)
    generation.language, generation.task = code, task
    generation.forced_decoder_ids = None
    if getattr(model.config, "forced_decoder_ids", None) is not None:
        model.config.forced_decoder_ids = None
    if code is None:
        log.warning("the language is not known: Whisper guesses it for each recording (--language says it)")
        return False
    forced = [generation.decoder_start_token_id, generation.lang_to_id[f"<|{code}|>"], generation.task_to_id[task]]
    _check_agreement(tokenizer, [*forced, generation.no_timestamps_token_id], name=name)
    return True


def _complete(generation: Any, tokenizer: Any) -> None:
    """Fill in what generation configs from before 2023, and random weights, lack."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TASK_IDS

    vocabulary = tokenizer.get_vocab()
    if getattr(generation, "is_multilingual", None) is None:
        generation.is_multilingual = hasattr(generation, "lang_to_id") or tokenizer.eos_token_id != _END_OF_ENGLISH
    if getattr(generation, "no_timestamps_token_id", None) is None and "<|notimestamps|>" in vocabulary:
        generation.no_timestamps_token_id = vocabulary["<|notimestamps|>"]
    if not generation.is_multilingual:
        return
    if not getattr(generation, "lang_to_id", None):
        tokens = [f"<|{code}|>" for code in LANGUAGES]
        generation.lang_to_id = {token: vocabulary[token] for token in tokens if token in vocabulary}
    if not getattr(generation, "task_to_id", None):
        generation.task_to_id = {task: vocabulary[f"<|{task}|>"] for task in TASK_IDS}


def _set_english(tokenizer: Any, *, name: str, language: str | None, corpus_language: str | None, task: str) -> None:
    asked = find_language(language) if language else None
    if language and (asked is None or asked.code != "en"):
        raise OptionError(
            f"--language {language}: {name} knows English only.\nTake a multilingual model (openai/whisper-small "
            "instead of openai/whisper-small.en), or leave the option out for English."
        )
    if task != "transcribe":
        raise OptionError(
            f"--task {task}: {name} knows English only, there is nothing to translate.\nLeave the option out."
        )
    if not language and corpus_language not in (None, "en"):
        log.warning(f"the corpus says its language is {corpus_language}; {name} knows English only")
    tokenizer.language = tokenizer.task = None
    tokenizer.set_prefix_tokens(predict_timestamps=False)


def _language(
    generation: Any, *, name: str, language: str | None, corpus_language: str | None, training: bool
) -> str | None:
    """Whisper's code of the language; None where it is to be detected."""
    known = {token.removeprefix("<|").removesuffix("|>") for token in generation.lang_to_id}
    for spelling, is_asked in ((language, True), (corpus_language, False)):
        if not spelling:
            continue
        code = _whisper_code(spelling, known)
        if code is not None:
            return code
        if is_asked or training:
            near = ", ".join(near_languages(spelling, sorted(known)))
            which = f"--language {spelling}" if is_asked else f"The corpus' language is {spelling}"
            raise OptionError(
                f"{which}: {name} has no token for it. It knows {len(known)} languages; near ones: {near or 'none'}.\n"
                "Give --language with one of them; for a language it lacks, a related one."
            )
        log.warning(f"{name} has no token for the corpus' language {corpus_language}")
    remembered = getattr(generation, "language", None)
    if isinstance(remembered, str):
        return _whisper_code(remembered, known)
    if training:
        log.warning("no --language, and the corpus names none: English is taken (<|en|>)")
        return "en"
    return None


def _whisper_code(spelling: str, known: set[str]) -> str | None:
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    key = spelling.strip().lower().removeprefix("<|").removesuffix("|>")
    found = find_language(spelling)
    candidates = [key, TO_LANGUAGE_CODE.get(key, "")]
    if found is not None:
        candidates += [found.code, _WHISPER_CODES.get(found.code, "")]
    return next((code for code in candidates if code in known), None)


def _check_agreement(tokenizer: Any, forced: list[int], *, name: str) -> None:
    in_labels = list(tokenizer.prefix_tokens)
    if in_labels != forced:
        raise ModelError(
            f"{name}: the tokenizer's prompt {tokenizer.convert_ids_to_tokens(in_labels)} is not what "
            f"generation_config.json forces, {tokenizer.convert_ids_to_tokens(forced)}.\n"
            "The two belong to different models; take both from the same folder."
        )
