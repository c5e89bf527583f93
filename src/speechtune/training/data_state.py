"""What of the data a run has been trained on, kept in a checkpoint, so that a resumed epoch sees the rest, each once.

checkpoint-400/data_state.json
    {"epoch": 1, "done": [{"settings": {"utterances_per_step": 16, ...}, "num_steps": 112}], "seconds": 8123.4,
     "batches": 0, "readers": 1, "parts": 1, "rows": "0f31...", "vocabulary": "77aa...", "bad_steps": 0, "skipped": [],
     "evaluation_due": ""}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechtune.data.batching import EpochPart
from speechtune.errors import OutputError
from speechtune.types import Skipped

__all__ = ["DATA_STATE", "DataState", "rows_fingerprint", "vocabulary_fingerprint"]

DATA_STATE = "data_state.json"


@dataclass
class DataState:
    """What has been trained on.

    Args:
        epoch: the one under way, from 0.
        done: parts of it that are trained.
        seconds: audio seconds trained on so far, by one process.
        batches: of a stream, read so far by all processes together.
        readers: of a stream: processes x loader workers.
        parts: that a step was shared out in: processes x accumulation rounds.
        rows, vocabulary: fingerprints of the utterances that the epochs are cut of, and of the labels.
        bad_steps: that were skipped so far.
        skipped: recordings found to be unusable while training.
        evaluation_due: an evaluation that a signal cut short: "score", or "best" where the checkpoint may become the
            best one; else empty.
    """

    epoch: int = 0
    done: list[EpochPart] = field(default_factory=list)
    seconds: float = 0.0
    batches: int = 0
    readers: int = 1
    parts: int = 1
    rows: str = ""
    vocabulary: str = ""
    bad_steps: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    evaluation_due: str = ""

    def write(self, path: Path) -> None:
        """Write all as JSON."""
        row = {
            **vars(self),
            "done": [part.as_json() for part in self.done],
            "skipped": [row.as_json() for row in self.skipped],
        }
        path.write_text(json.dumps(row, indent=1), "utf-8")

    @classmethod
    def read(cls, checkpoint: Path) -> DataState:
        """That of a checkpoint folder.

        Raises:
            OutputError: there is none, or it is not of this version.
        """
        try:
            row = json.loads((checkpoint / DATA_STATE).read_text("utf-8"))
            row["done"] = [EpochPart.from_json(part) for part in row["done"]]
            row["skipped"] = [_skipped(fields) for fields in row["skipped"]]
            return cls(**row)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{checkpoint}: training can't go on from here: {DATA_STATE} is missing or of another version.\n"
                "To start from its weights, give it as --model_name_or_path."
            ) from error


def _skipped(fields: Mapping[str, Any]) -> Skipped:
    known = dict(fields)
    if known["duration_s"] is None:
        known["duration_s"] = float("nan")
    return Skipped(**known)


def rows_fingerprint(split: Any) -> str:
    """Of a PreparedSplit's durations and labels, in their order: what plans of epochs are made of."""
    digest = hashlib.blake2b(digest_size=8)
    for values in (split.table.durations_s, split.label_ids, split.label_ends):
        digest.update(values.tobytes())
    return digest.hexdigest()


def vocabulary_fingerprint(tokenizer: Any) -> str:
    """Of the labels and their numbers."""
    return hashlib.blake2b(json.dumps(sorted(tokenizer.get_vocab().items())).encode(), digest_size=8).hexdigest()
