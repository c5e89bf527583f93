"""Common Voice as Mozilla ships it: cv-corpus-<release>-<date>/<locale>/{train,dev,test,...}.tsv and clips/*.mp3.

Columns are those of the tables, which are also those that the hub had: client_id, path, sentence, up_votes, age, ...
Durations come from clip_durations.tsv where the release has it (from 15.0 on).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row
from speechtune.corpora.lines import clip_rows, tsv_rows

TABLES = {
    "train": "train.tsv",
    "validation": "dev.tsv",
    "test": "test.tsv",
    "validated": "validated.tsv",
    "other": "other.tsv",
    "invalidated": "invalidated.tsv",
}


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """Detect one locale's folder: tables of splits beside clips/."""
    if "clips" not in names or not names & {"train.tsv", "validated.tsv", "test.tsv"}:
        return []
    splits = {split: (folder / table,) for split, table in TABLES.items() if table in names}
    match = re.search(r"cv-corpus-(\d+)(\.\d+)?", f"{folder.parent.name} {folder.name}")
    release = match[1] + (match[2] or ".0") if match else None
    language = folder.name.split("-")[0].lower()
    return [Found(root=folder, splits=splits, config=folder.name, release=release, language=language)]


# train.tsv of release 6.1, Turkish (client_id shortened here):
# client_id path sentence up_votes down_votes age gender accent locale segment (tabs between)
# 41a2e66f...	common_voice_tr_20972695.mp3	Dokunulmazlık günleri nihayet sona ermişti.	2	0	thirties
# f1ab7384...	common_voice_tr_18266795.mp3	Bu konuda gerçek nedir?	2	0	fourties	male		tr
# Quotes have no meaning: sentences that begin with one are not closed by another.
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Yield the rows of one table.

    Raises:
        CorpusError: the table has no `path` column.
    """
    durations_s = _durations_s(reading.seen(found.root / "clip_durations.tsv"))
    for table in found.splits[split]:
        clips = f"{found.root}{os.sep}clips{os.sep}"
        for row in clip_rows(reading.table(table), "path"):
            if isinstance(row, BadRow):
                yield row
                continue
            line, name, fields = row
            name = name if "." in name else f"{name}.mp3"  # release 1 left the ending out
            yield Row(
                id=name.rpartition(".")[0],
                audio=clips + name,
                columns=fields,
                duration_s=durations_s.get(name, math.nan),
                speaker=fields.get("client_id") or None,
                language=found.language,
                line=line,
            )


# clip_durations.tsv:
# clip	duration[ms]
# common_voice_tr_17341269.mp3	4968
# common_voice_tr_17341270.mp3	4104
def _durations_s(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    durations_s: dict[str, float] = {}
    for _, fields in tsv_rows(path, ["clip", "duration[ms]"]):
        if isinstance(fields, dict) and fields["duration[ms]"].isdigit():
            durations_s[fields["clip"]] = int(fields["duration[ms]"]) / 1000
    return durations_s


LAYOUT = Layout(
    name="common_voice",
    version=1,
    names=re.compile(r"(?:[\w-]+/)?common_voice(?:_(?P<release>\d+_\d+))?"),
    default_text_column="sentence",
    detect=detect,
    read=read,
    how_to_get=(
        "Common Voice comes from Mozilla, not from the hub: https://commonvoice.mozilla.org/datasets leads to it.\n"
        "Download a language's archive (cv-corpus-<release>-<language>.tar.gz); it may stay packed."
    ),
    licence="CC0-1.0",
    archives=re.compile(
        r"(?:\d+-)?cv-corpus-(?P<release>\d+(?:\.\d+)?)-.*?(?:-(?P<config>[a-z]{2,3}(?:-[A-Za-z]+)?))?\.(?:tar\.gz|tgz|tar)"
    ),
    config_hints={
        "sw": "'sw' is Swahili; Swedish is 'sv-SE'.",
        "sv": "Swedish is 'sv-SE'.",
        "zh": "Chinese is 'zh-CN', 'zh-HK' or 'zh-TW'.",
        "pt-BR": "Portuguese is 'pt'.",
    },
    default_release="6.1",
)
