"""Multilingual LibriSpeech as OpenSLR ships it: mls_<language>/{train,dev,test}/{transcripts.txt,segments.txt,audio/}.

audio/<speaker>/<book>/<speaker>_<book>_<number>.flac (.opus in the small edition). The limited-supervision subsets are
lists of ids in train/limited_supervision; here they are the splits that the hub has, `9_hours` and `1_hours` (its older
names train.9h, train.1h are understood), and their union `10_hours`, the subset of the paper's section 5.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row
from speechtune.corpora.lines import numbered_lines

LANGUAGES = {
    "dutch": "nl", "english": "en", "french": "fr", "german": "de", "italian": "it", "polish": "pl",
    "portuguese": "pt", "spanish": "es",
}  # fmt: skip
LIMITED = {"9_hours": ("9hr",), "1_hours": ("1hr",), "10_hours": ("9hr", "1hr")}


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """Detect one language's folder."""
    splits: dict[str, tuple[Path, ...]] = {}
    for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        if name in names and (folder / name / "transcripts.txt").is_file():
            splits[split] = (folder / name,)
    if not splits:
        return []
    lists = folder / "train" / "limited_supervision"
    for split, parts in LIMITED.items():
        if "train" in splits and all((lists / part).is_dir() for part in parts):
            splits[split] = (folder / "train", *(lists / part for part in parts))
    match = re.fullmatch(r"(?:mls_)?([a-z]+)(?:_opus)?", folder.name)
    config = match[1] if match and match[1] in LANGUAGES else None
    return [Found(root=folder, splits=splits, config=config, language=LANGUAGES.get(config or ""))]


# mls_portuguese/train/transcripts.txt:
# 12249_10229_000001	gritou gloria partindo no seu encalço a mulher de paulo maciel abraçou-se a elle ...
# 12249_10229_000002	levantou-se muito nervoso abriu a janella que dava para o rio e poz-se a mirar ...
# 12249_10229_000003	as raças deixaram de ser guerreiras e ainda se armam os povos abandonaram a ...
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Yield the rows of the split, in the order of transcripts.txt."""
    folder, *lists = found.splits[split]
    wanted = _handles(lists, reading) if lists else None
    segments = _segments(reading.seen(folder / "segments.txt"))
    table = folder / "transcripts.txt"
    table = reading.table(table, header=0) if wanted is None else reading.seen(table)
    reading.expected += len(wanted or ())
    suffix: str | None = None
    for number, line in numbered_lines(table):
        if isinstance(line, BadRow):
            yield line
            continue
        where = f"{table.name}:{number}"
        id, tab, text = line.partition("\t")
        match = re.fullmatch(r"(\d+)_(\d+)_\d+", id)
        if not match or not tab:
            yield BadRow(where, f"no utterance id: {id[:50]!r}")
            continue
        if wanted is not None and id not in wanted:
            continue
        stem = str(folder / "audio" / match[1] / match[2] / id)
        if suffix is None:
            suffix = ".opus" if os.path.exists(f"{stem}.opus") else ".flac"  # noqa: PTH110
        url, begin_s, end_s = segments.get(id, ("", math.nan, math.nan))
        columns = {
            "file": id + suffix,
            "text": text,
            "speaker_id": match[1],
            "chapter_id": match[2],
            "id": id,
            "original_path": url,
        }
        yield Row(
            id=id,
            audio=stem + suffix,
            columns=columns,
            duration_s=end_s - begin_s,
            speaker=match[1],
            language=found.language,
            line=where,
        )


def _handles(lists: list[Path], reading: Reading) -> set[str]:
    """Ids in all handles.txt below these folders (1hr has six folders of ten minutes)."""
    ids: set[str] = set()
    for folder in lists:
        for path in sorted(folder.rglob("*.txt")):
            ids |= {line.strip() for _, line in numbered_lines(reading.seen(path)) if isinstance(line, str)}
    return ids


# mls_portuguese/train/segments.txt, in this form (id, book, begin and end in seconds):
# 12249_10229_000001	http://www.archive.org/download/.../canaa_05_aranha_64kb.mp3	330.05	345.86
# 12249_10229_000002	http://www.archive.org/download/.../canaa_05_aranha_64kb.mp3	417.44	436.01
def _segments(path: Path) -> dict[str, tuple[str, float, float]]:
    segments: dict[str, tuple[str, float, float]] = {}
    if path.is_file():
        for _, line in numbered_lines(path):
            fields = line.split("\t") if isinstance(line, str) else []
            try:
                segments[fields[0]] = (fields[1], float(fields[2]), float(fields[3]))
            except (IndexError, ValueError):
                continue  # its header is read instead
    return segments


LAYOUT = Layout(
    name="multilingual_librispeech",
    version=1,
    names=re.compile(r"(?:facebook/)?(?:multilingual_librispeech|mls)"),
    default_text_column="text",
    detect=detect,
    read=read,
    how_to_get=(
        "Multilingual LibriSpeech is free at https://www.openslr.org/94: mls_<language>.tar.gz (German 115 GB) or\n"
        "mls_<language>_opus.tar.gz (a tenth of it)."
    ),
    licence="CC-BY-4.0",
    archives=re.compile(r"mls_(?P<config>[a-z]+?)(?:_opus)?\.(?:tar\.gz|tgz|tar)"),
    hub_name="facebook/multilingual_librispeech",
    column_aliases={"transcript": "text"},
    languages=LANGUAGES,
    split_aliases={
        "train.9h": ("9_hours",),
        "train.1h": ("1_hours",),
        "train.10h": ("10_hours",),
        "limited_supervision": ("10_hours",),
    },
)
