"""`--corrections fixed.csv`: transcripts that a person corrected, and utterances that they removed.

    id,file,text                                    as label_errors.csv of `speechtune doctor --with_model` has it, or
    common_voice_tr_17345,clips/17345.mp3,merhaba   one of the columns id and file beside text
    common_voice_tr_17346,clips/17346.mp3,          no text: the utterance is not used

The corpus stays as it is. A row whose text is the corpus' own changes nothing, so the whole list may be given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from speechtune.corpora.layout import BadRow
from speechtune.corpora.lines import csv_rows
from speechtune.corpora.table import SplitTable
from speechtune.errors import CorpusError

__all__ = ["Correction", "apply_corrections", "corrections_hash", "matched_rows", "read_corrections"]

FILE_COLUMNS = ("file", "audio", "path", "file_name")


@dataclass(frozen=True, slots=True)
class Correction:
    """One row of the table; `id` or `file` may be empty, not both. Where both are given, both must match."""

    id: str
    file: str
    text: str

    def names(self, id: str, file: str) -> bool:
        """Return whether it is about this utterance; "clips/1.mp3" is "/corpus/clips/1.mp3"."""
        given = self.file.removeprefix("./")
        return self.id in ("", id) and (not given or file == given or file.endswith(f"/{given}"))


def read_corrections(path: str | Path) -> list[Correction]:
    """Read a table of corrections.

    Raises:
        CorpusError: it can't be read, a row is damaged, a column is missing, or two rows differ on one utterance.
    """
    path = Path(path).expanduser()
    found: dict[tuple[str, str], Correction] = {}
    for number, row in csv_rows(path):
        where = f"--corrections {path}, line {number}"
        if isinstance(row, BadRow):
            raise CorpusError(f"{where}: {row.detail}.\nFix this row, or remove it.")
        file = next((row[name].strip() for name in FILE_COLUMNS if row.get(name)), "")
        if "text" not in row or not (row.get("id") or file):
            raise CorpusError(
                f"{where}: no text column, or neither id nor file.\nColumns: {', '.join(row)}.\n"
                "Give a CSV with the columns id (or file) and text; an empty text removes the utterance."
            )
        one = Correction((row.get("id") or "").strip(), file, row["text"].strip())
        if found.setdefault((one.id, one.file), one) != one:
            raise CorpusError(f"{where}: another text for {one.id or one.file} than in a row above.\nKeep one of them.")
    if not found:
        raise CorpusError(f"--corrections {path}: no rows.")
    return list(found.values())


def apply_corrections(table: SplitTable, corrections: Sequence[Correction]) -> SplitTable:
    """Return the table with corrected transcripts and without removed utterances, which are among its `skipped`."""
    texts, found, removed = table.texts, {}, []
    for correction, row in matched_rows(table, corrections):
        if not correction.text:
            removed.append(row)
        elif correction.text != texts[row].strip():
            found[row] = correction.text
    return table.corrected(found, removed=removed)


def matched_rows(table: SplitTable, corrections: Sequence[Correction]) -> list[tuple[Correction, int]]:
    """Return each correction with the row that it names; those of other splits are not among them."""
    files, ids = table.files, table.ids
    by_id = {id: row for row, id in enumerate(ids)}
    by_name: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        by_name.setdefault(PurePath(file).name, []).append(row)
    found = []
    for correction in corrections:
        if correction.id:
            rows = [by_id[correction.id]] if correction.id in by_id else []
        else:
            rows = by_name.get(PurePath(correction.file).name, [])
        found += [(correction, row) for row in rows if correction.names(ids[row], files[row])]
    return found


def corrections_hash(corrections: Sequence[Correction]) -> str:
    """Return a short hash of what they say, for the protocol of scores."""
    text = json.dumps(sorted((one.id, one.file, one.text) for one in corrections))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
