"""What is damaged: one file for each kind of case."""

from __future__ import annotations

from fuzz.case import Kind
from fuzz.kinds import archives, audio, checkpoints, index, models, options, tables, texts

__all__ = ["KINDS"]

KINDS: dict[str, Kind] = {
    "tables": tables.make,
    "audio": audio.make,
    "archives": archives.make,
    "options": options.make,
    "models": models.make,
    "checkpoints": checkpoints.make,
    "index": index.make,
    "texts": texts.make,
}
