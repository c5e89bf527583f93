"""Fine-tune any pretrained speech model on any speech corpus, say how well it recognises, and put it to work.

    import speechtune as st

    model = st.load("runs/mine")                              # a trained folder, or a name on the hub
    model.transcribe("a.mp3").text
    st.evaluate(model, "my-recordings", split="test").wer
    st.compare("runs/first", "runs/mine")                     # is it better, or is that chance?
    st.fine_tune("openai/whisper-small", "my-recordings", output_dir="runs/mine", num_train_epochs=3)

Nothing heavy is imported before a function is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechtune.errors import SpeechtuneError
    from speechtune.training.api import Model, compare, evaluate, fine_tune, load

__all__ = ["Model", "SpeechtuneError", "compare", "evaluate", "fine_tune", "load"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'speechtune' has no attribute {name!r}")
    module = "speechtune.errors" if name == "SpeechtuneError" else "speechtune.training.api"
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
