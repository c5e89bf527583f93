"""Whisper's prompt: the tokens for language and task before every transcript, the same in labels and in generation.

    <|startoftranscript|><|hi|><|transcribe|><|notimestamps|> text <|endoftext|>

In training only the first is an input; the model learns to write the others. In generation all are forced. An
English-only checkpoint has neither language nor task token.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from speechtune.errors import ModelError, OptionError
from speechtune.text.languages import find_language, near_languages

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["preceding_tokens", "prompt_in", "set_prompt"]

log = logging.getLogger("speechtune")

# Whisper's code where it differs from ISO 639-1, or where it has one language of several.
_WHISPER_CODES = {"jv": "jw", "nb": "no"}
_END_OF_ENGLISH = 50256  # <|endoftext|> of the English models, whose text vocabulary is GPT-2's


def set_prompt(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
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
        language: the user's (`hindi`, `hi`); it wins.
        corpus_language: the corpus'.
        task: transcribe or translate.
        training: without a language, English is used; in evaluation the model detects it.

    Returns:
        Whether the language is known; if not, it is detected clip by clip.

    Raises:
        OptionError: the model doesn't have the language or the task.
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
        log.warning(f"{name} has the task {before}; --task {task} overrides it")
    tokenizer.language = None
    tokenizer.set_prefix_tokens(language=code, task=task, predict_timestamps=False)
    generation.language, generation.task = code, task
    generation.forced_decoder_ids = None
    if getattr(model.config, "forced_decoder_ids", None) is not None:
        model.config.forced_decoder_ids = None
    if code is None:
        log.warning("no --language: Whisper detects it for each recording")
        return False
    forced = [generation.decoder_start_token_id, generation.lang_to_id[f"<|{code}|>"], generation.task_to_id[task]]
    _check_agreement(tokenizer, [*forced, generation.no_timestamps_token_id], name=name)
    return True


@contextmanager
def prompt_in(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, language: str) -> Iterator[None]:
    """Give tokenizer and generation config the prompt of another language meanwhile; English-only models have none.

    Args:
        language: in any spelling.

    Raises:
        OptionError: the model doesn't have it.
    """
    generation = model.generation_config
    if not generation.is_multilingual:
        yield
        return
    code = _whisper_code(language, _codes(generation))
    if code is None:
        raise OptionError(f"The model has no token for the language {language}.")
    before = generation.language, tokenizer.language
    tokenizer.set_prefix_tokens(language=code)
    generation.language = code
    try:
        yield
    finally:
        generation.language, tokenizer.language = before
        tokenizer.set_prefix_tokens()


def preceding_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the tokens of a text that Whisper takes for what was said before: <|startofprev|> and the text's.

    Raises:
        OptionError: the text is empty, has special tokens or too many, or the vocabulary has no <|startofprev|>.

    Source: Radford et al. 2022, section 2.3; as `get_prompt_ids` of transformers.
    """
    start = tokenizer.get_vocab().get("<|startofprev|>")
    if start is None:
        raise OptionError("--prompt: this Whisper's vocabulary has no <|startofprev|>. Leave it out.")
    tokens = list(tokenizer(f" {text.strip()}", add_special_tokens=False, verbose=False).input_ids)
    most = int(model.config.max_target_positions) // 2 - 1  # as in openai/whisper: half of the decoder's positions
    if not text.strip() or max(tokens) >= int(tokenizer.eos_token_id):
        raise OptionError(f"--prompt {text!r}: expected words or a sentence, without special tokens.")
    if len(tokens) > most:
        raise OptionError(f"--prompt: {len(tokens)} tokens; Whisper takes {most}. Shorten it.")
    return [start, *tokens]


def _codes(generation: GenerationConfig) -> set[str]:
    return {token.removeprefix("<|").removesuffix("|>") for token in generation.lang_to_id}


def _complete(generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Fill in what generation configs from before 2023, and those of random weights, lack."""
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


def _set_english(
    tokenizer: PreTrainedTokenizerBase, *, name: str, language: str | None, corpus_language: str | None, task: str
) -> None:
    found = find_language(language) if language else None
    if language and (found is None or found.code != "en"):
        raise OptionError(
            f"--language {language}: {name} knows English only.\nTake a multilingual model (openai/whisper-small "
            "instead of openai/whisper-small.en), or leave the option out for English."
        )
    if task != "transcribe":
        raise OptionError(
            f"--task {task}: {name} knows English only, there is nothing to translate.\nLeave the option out."
        )
    if not language and corpus_language not in (None, "en"):
        log.warning(f"the corpus' language is {corpus_language}; {name} knows English only")
    tokenizer.language = tokenizer.task = None
    tokenizer.set_prefix_tokens(predict_timestamps=False)


def _language(
    generation: GenerationConfig, *, name: str, language: str | None, corpus_language: str | None, training: bool
) -> str | None:
    """Return Whisper's code of the language; None if it is to be detected."""
    known = _codes(generation)
    for spelling, is_option in ((language, True), (corpus_language, False)):
        if not spelling:
            continue
        code = _whisper_code(spelling, known)
        if code is not None:
            return code
        if is_option or training:
            near = ", ".join(near_languages(spelling, sorted(known)))
            which = f"--language {spelling}" if is_option else f"The corpus' language is {spelling}"
            raise OptionError(
                f"{which}: {name} has no token for it. It knows {len(known)} languages; near ones: {near or 'none'}.\n"
                "Give --language with one of them; for a language it lacks, a related one."
            )
        log.warning(f"{name} has no token for the corpus' language {corpus_language}")
    remembered = getattr(generation, "language", None)
    if isinstance(remembered, str):
        return _whisper_code(remembered, known)
    if training:
        log.warning("no --language, and the corpus names none: using English (<|en|>)")
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


def _check_agreement(tokenizer: PreTrainedTokenizerBase, forced: list[int], *, name: str) -> None:
    in_labels = list(tokenizer.prefix_tokens)
    if in_labels != forced:
        raise ModelError(
            f"{name}: the tokenizer's prompt {tokenizer.convert_ids_to_tokens(in_labels)} is not what "
            f"generation_config.json forces, {tokenizer.convert_ids_to_tokens(forced)}.\n"
            "The two belong to different models; take both from the same folder."
        )
