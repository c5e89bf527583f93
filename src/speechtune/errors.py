"""User-facing exceptions. Each carries one message: where, what was found, what to do.

    SpeechtuneError             exit code 2, printed without a traceback
    ├── OptionError             an option is unknown, misspelt, missing or contradicts another
    ├── CorpusError             a corpus, split or column is missing or can't be read
    │   └── ArchiveError        an archive is damaged or unsafe (.., links, bombs)
    ├── AudioError              one recording is unusable; caught per utterance, which is then skipped and listed
    ├── TextError               transcripts are unusable: empty vocabulary, unknown language, labels too long
    ├── ModelError              a model, tokenizer or checkpoint doesn't fit
    ├── OutputError             the output folder is in use, not writable, or full
    ├── TrainingError           training can't continue: too many non-finite steps, a lost process
    └── PublishError            the hub refuses: token, name, reach

`assert` is for our own bugs; these are for mistakes and conditions that a user can fix.
"""

from __future__ import annotations

__all__ = [
    "ArchiveError",
    "AudioError",
    "CorpusError",
    "ModelError",
    "OptionError",
    "OutputError",
    "PublishError",
    "SpeechtuneError",
    "TextError",
    "TrainingError",
]


class SpeechtuneError(Exception):
    """Base of every error that a user can fix. `str(error)` is the whole message."""

    exit_code = 2


class OptionError(SpeechtuneError):
    """An option is unknown, misspelt, missing or contradicts another."""


class CorpusError(SpeechtuneError):
    """A corpus, split or column is missing or can't be read."""


class ArchiveError(CorpusError):
    """An archive is damaged or unsafe."""


class AudioError(SpeechtuneError):
    """One recording is unusable. `reason` is a short slug that is counted (`undecodable`, `no_frames`, ...)."""

    def __init__(self, message: str, *, reason: str = "undecodable") -> None:
        super().__init__(message)
        self.reason = reason


class TextError(SpeechtuneError):
    """Transcripts are unusable."""


class ModelError(SpeechtuneError):
    """A model, tokenizer or checkpoint doesn't fit."""


class OutputError(SpeechtuneError):
    """The output folder is in use, not writable, or full."""


class TrainingError(SpeechtuneError):
    """Training can't continue. Its state was saved before this was raised."""

    exit_code = 1


class PublishError(SpeechtuneError):
    """The hub refuses."""
