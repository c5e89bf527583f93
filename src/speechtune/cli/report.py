"""`speechtune report`: the page of one run, or that of a comparison of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["run"]


def run(folders: Sequence[Path], **options: Any) -> Path | int:
    """Write report.html of a run again, or compare several as `speechtune compare` does; return path or exit code.

    Args:
        folders: output folder of a run, or two and more.
        options: of `write_report`.
    """
    if len(folders) > 1:
        from speechtune.training.compare import main_compare

        return main_compare([str(folder) for folder in folders], **options)
    from speechtune.reporting.report import write_report

    return write_report(folders[0], **options)
