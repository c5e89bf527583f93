"""What the settings of generation of all sequence-to-sequence models have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from speechtune.errors import ModelError

if TYPE_CHECKING:
    from transformers import GenerationConfig

__all__ = ["set_beams"]


def set_beams(generation: GenerationConfig, name: str, args: Any) -> None:
    """Set the number of beams that the training arguments ask for, in place, and check the whole.

    Args:
        name: of the checkpoint, for messages.
        args: Seq2SeqTrainingArguments, or None.

    Raises:
        ModelError: the settings contradict each other, so a trained model could not be saved.
    """
    num_beams = getattr(args, "generation_num_beams", None)
    if num_beams is not None:
        generation.num_beams = num_beams
    try:
        generation.validate(strict=True)
    except ValueError as error:
        raise ModelError(
            f"{name}: generation_config.json contradicts itself, and transformers would refuse to save it: {error}"
        ) from error
