"""doctor.html: the doctor's tables, and the likeliest label errors beside their recordings, in one offline file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechtune.doctor.label_errors import Judged
from speechtune.doctor.roles import Corpus
from speechtune.doctor.tables import Shown
from speechtune.evaluation.error_analysis import diff
from speechtune.files import explain_write_errors, write_atomically
from speechtune.reporting.audio import Clips
from speechtune.reporting.page import page_parts
from speechtune.reporting.plots import template_environment
from speechtune.reporting.table import cut
from speechtune.training.data import corpus_audio

__all__ = ["write_page"]

MAX_SHOWN = 100  # of the likeliest label errors
SHOWN_CHARACTERS = 1_200


def write_page(
    folder: Path, corpus: Corpus, shown: Shown, remarks: Sequence[str], judged: Sequence[Judged], *, command: str
) -> Path:
    """Write `folder`/doctor.html and return its path.

    Raises:
        OutputError: it can't be written.
    """
    queue = judged[:MAX_SHOWN]
    tables = [role.split.table for role in corpus.roles]
    clips = Clips(corpus.settings.report_audio_mb * 1e6, corpus_audio(corpus.settings, tables))
    utterances = []
    for one in queue:
        clips.add(one.row)
        parts, num_hidden = cut(diff(one.row.reference, one.row.hypothesis), SHOWN_CHARACTERS)
        utterances.append({"judged": one, "row": one.row, "parts": parts, "num_hidden": num_hidden})
    text = (
        template_environment()
        .get_template("doctor.html")
        .render(
            title=corpus.title,
            shown=shown,
            remarks=remarks,
            utterances=utterances,
            num_judged=len(judged),
            command=command.replace(" --", " \\\n    --"),
            **page_parts(clips),
        )
    )
    path = folder / "doctor.html"
    with explain_write_errors("doctor.html", folder):
        write_atomically(path, text)
    return path
