"""The position in the data, kept in a checkpoint: a resumed epoch sees each of the remaining utterances once.

checkpoint-400/data_state.json
    {"epoch": 1, "done": [{"settings": {"utterances_per_step": 16, ...}, "num_steps": 112}], "seconds": 8123.4,
     "batches": 0, "readers": 1, "parts": 1, "rows": "0f31...", "vocabulary": "77aa...", "bad_steps": 0,
     "loss_sum": 52.1, "skipped": [], "evaluation_due": ""}
"""

from __future__ import annotations

import hashlib
import json
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
    """What the model was trained on.

    Args:
        epoch: the current one, from 0.
        done: parts of it that are trained.
        seconds: audio seconds trained on so far, by one process.
        batches: of a stream, read so far by all processes together.
        readers: of a stream: processes x loader workers.
        parts: into which a step was divided: processes x accumulation rounds.
        rows, vocabulary: fingerprints of the training utterances and of the labels.
        bad_steps: steps skipped so far.
        loss_sum: of the losses of all steps so far.
        skipped: recordings found to be unusable while training.
        evaluation_due: an evaluation that a signal interrupted: "score", or "best" where the checkpoint may become the
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
    loss_sum: float = 0.0
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
        """Read that of a checkpoint folder.

        Raises:
            OutputError: there is none, or it is not of this version.
        """
        try:
            row = json.loads((checkpoint / DATA_STATE).read_text("utf-8"))
            row["done"] = [EpochPart.from_json(part) for part in row["done"]]
            skipped = row.pop("left_out", None) or row.get("skipped", [])  # its name until 0.1
            row["skipped"] = [Skipped.from_json(fields) for fields in skipped]
            return cls(**row)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{checkpoint}: training can't resume from here: {DATA_STATE} is missing or of another version.\n"
                "To start from its weights, give it as --model_name_or_path."
            ) from error


def rows_fingerprint(split: Any) -> str:
    """Return a hash of a PreparedSplit's durations and labels in their order, which decide the plan of an epoch."""
    digest = hashlib.blake2b(digest_size=8)
    for values in (split.table.durations_s, split.label_ids, split.label_ends):
        digest.update(values.tobytes())
    return digest.hexdigest()


def vocabulary_fingerprint(tokenizer: Any) -> str:
    """Return a hash of the labels and their ids."""
    return hashlib.blake2b(json.dumps(sorted(tokenizer.get_vocab().items())).encode(), digest_size=8).hexdigest()
