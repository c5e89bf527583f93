"""What a run could not use, from the preparation of its splits and from training, written and checked as it grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from speechtune.data.dataset import SpeechDataset
from speechtune.data.prepare import check_share_skipped
from speechtune.plan.output_folder import write_skipped
from speechtune.plan.plan import RunPlan
from speechtune.types import Skipped

if TYPE_CHECKING:
    from speechtune.training.data import AnyDataset, Datasets
    from speechtune.training.trainer import SpeechTrainer

__all__ = ["SkippedRecord"]

FEW = 100  # utterances of a stream, below which the share of skipped ones says little


class SkippedRecord:
    """The skipped utterances of one run.

    Args:
        plan: of the run.
        datasets: their prepared splits know what was dropped before training.
        trainer: knows what turned out to be unusable since; set once it is built.
    """

    trainer: SpeechTrainer

    def __init__(self, plan: RunPlan, datasets: Datasets) -> None:
        self._plan = plan
        self._roles: dict[str, AnyDataset | None] = {"train": datasets.train, "evaluation": datasets.evaluation}

    def rows(self) -> list[Skipped]:
        """Return all of them."""
        splits = [dataset.split for dataset in self._roles.values() if isinstance(dataset, SpeechDataset)]
        return [*(row for split in splits for row in split.dropped), *self.trainer.agreement.skipped.values()]

    def write(self) -> None:
        """Write skipped.jsonl; on the first process."""
        if self.trainer.args.process_index == 0:
            write_skipped(self._plan.folder, self.rows())

    def check(self, rows: Sequence[Skipped], *, num_recognised: int = 0) -> None:
        """Compare what turned out to be unusable, with what was skipped before, to --max_skipped.

        Args:
            rows: of any split.
            num_recognised: of the evaluation split, where it is a stream, whose length is known only at its end.

        Raises:
            CorpusError: it is more than that.
        """
        self.write()
        settings = self._plan.settings
        for role, dataset in self._roles.items():
            if dataset is None:
                continue
            if isinstance(dataset, SpeechDataset):
                found = [row for row in rows if row.split == dataset.split.table.split]
                skipped = list({row.key: row for row in [*dataset.split.dropped, *found]}.values())
                total = len(dataset.split) + len(dataset.split.dropped)
            else:
                skipped = found = [row for row in rows if row.split == dataset.stream.split]
                total = len(found) + (self.trainer.num_utterances if role == "train" else num_recognised)
                is_early = role == "train" or num_recognised
                if total < FEW and is_early and not settings.strict:
                    continue
            if found:
                path = str(self._plan.folder / "skipped.jsonl")
                check_share_skipped(
                    role, skipped, total=total, max_share=settings.max_skipped, strict=settings.strict, path=path
                )
