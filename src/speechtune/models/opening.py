"""A trained folder or a name on the hub -> the recogniser for its family."""

from __future__ import annotations

from speechtune.models.ctc.setup import load_ctc
from speechtune.models.loading import family_of, model_config_of
from speechtune.models.recogniser import Recogniser
from speechtune.models.seq2seq.setup import load_seq2seq
from speechtune.models.transducer.setup import load_transducer
from speechtune.options.table import Settings

__all__ = ["open_recogniser"]


def open_recogniser(settings: Settings) -> Recogniser:
    """Load a model as it is, for evaluation and transcription.

    Raises:
        ModelError: it is not there, or can't recognise speech.
    """
    family = family_of(model_config_of(settings))
    if family == "transducer":
        return load_transducer(settings)
    return load_seq2seq(settings) if family == "seq2seq" else load_ctc(settings)
