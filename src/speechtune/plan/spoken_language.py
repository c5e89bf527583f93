"""The language of a corpus that names none: heard by a multilingual Whisper in a few clips, compared with the text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from speechtune.corpora.table import SplitTable
from speechtune.errors import AudioError, OptionError
from speechtune.options.table import Settings
from speechtune.text.languages import find_language

if TYPE_CHECKING:
    from speechtune.corpora.stream import UtteranceStream
    from speechtune.types import Utterance

__all__ = ["needs_detection", "spoken_language"]

NUM_CLIPS = 8
NUM_TEXTS = 200
MIN_HEARD = 0.3  # mean probability of the likeliest language; below it the model can't tell
MIN_READ = 0.95  # of the language of the text
# Languages that a text can't be told apart by, or that have several codes
_ALIKE = ({"no", "nb", "nn", "da"}, {"id", "ms"}, {"hr", "sr", "bs"}, {"zh", "yue"}, {"jv", "jw"}, {"gl", "pt"})


def needs_detection(settings: Settings, model_config: Any) -> bool:
    """Return whether the model is a multilingual Whisper that has to be told a language, and none was set before."""
    if model_config is None or model_config.model_type != "whisper" or settings.model_config is not None:
        return False
    if settings.task == "translate":  # the text is in another language than the speech
        return False
    from speechtune.models.loading import checkpoint_of
    from speechtune.models.whisper.language import generation_config_of

    generation = generation_config_of(checkpoint_of(settings))
    if generation is None or not getattr(generation, "lang_to_id", None):
        return False
    return bool(getattr(generation, "is_multilingual", True)) and not isinstance(
        getattr(generation, "language", None), str
    )


def spoken_language(settings: Settings, rows: SplitTable | UtteranceStream, *, on_cpu: bool) -> tuple[str | None, str]:
    """Return Whisper's code of the spoken language and a note; None where the model can't tell.

    Loads the model, and decodes NUM_CLIPS recordings.

    Raises:
        OptionError: the transcripts are in another language.
    """
    from speechtune.models.loading import checkpoint_of
    from speechtune.models.whisper.language import language_probabilities

    utterances = _spread(rows)
    clips = _samples(utterances)
    if not clips:
        return None, ""
    probabilities = language_probabilities(checkpoint_of(settings), clips, on_cpu=on_cpu)
    heard = max(probabilities, key=probabilities.__getitem__)
    share = probabilities[heard]
    if share < MIN_HEARD:
        return None, ""
    texts = rows.texts[:NUM_TEXTS] if isinstance(rows, SplitTable) else [utterance.text for utterance in utterances]
    read = _language_of_text(texts)
    found = f"{_name(heard)} was heard in {len(clips)} clips (probability {share:.2f})"
    if read is not None and not _same(read, heard):
        raise OptionError(
            f"no --language: {found}, but the transcripts look like {_name(read)}.\n"
            f"Give the language of the transcripts, e.g. --language {read}; for a language that Whisper lacks, a "
            "related one."
        )
    return heard, f"no --language: {found}; using --language {heard}"


def _spread(rows: SplitTable | UtteranceStream) -> list[Utterance]:
    """Return NUM_CLIPS utterances from all over a table, or the first of a stream."""
    if isinstance(rows, SplitTable):
        chosen = np.linspace(0, len(rows) - 1, min(NUM_CLIPS, len(rows))).astype(int)
        return [rows[int(row)] for row in chosen]
    return list(islice(iter(rows), NUM_CLIPS))


def _samples(utterances: Sequence[Utterance]) -> list[Any]:
    from speechtune.audio.reader import AudioReader

    reader, clips = AudioReader(16_000), []
    for utterance in utterances:
        with suppress(AudioError):  # it is skipped and listed when the data is prepared
            clips.append(reader.samples(utterance))
    return clips


def _language_of_text(texts: Sequence[str]) -> str | None:
    """Return the ISO 639-1 code of the transcripts' language, or None if it is not clear."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    code, probability = identifier.classify(" ".join(texts))
    return str(code) if probability >= MIN_READ else None


def _same(read: str, heard: str) -> bool:
    return read == heard or any({read, heard} <= alike for alike in _ALIKE)


def _name(code: str) -> str:
    language = find_language(code)
    return f"{language.name} ({code})" if language else code
