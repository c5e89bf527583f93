"""A trained folder or a name on the hub -> the recogniser for its family."""

from __future__ import annotations

from speechtune.models.ctc.setup import load_ctc
from speechtune.models.loading import family_of, model_config_of
from speechtune.models.recogniser import Recogniser
from speechtune.models.seq2seq.setup import load_seq2seq
from speechtune.options.table import Settings

__all__ = ["open_recogniser"]


def open_recogniser(settings: Settings) -> Recogniser:
    """Load a model as it is, for evaluation and transcription.

    Raises:
        ModelError: it is not there, or can't recognise speech.
    """
    if family_of(model_config_of(settings)) == "seq2seq":
        return load_seq2seq(settings)
    return load_ctc(settings)
