"""VoxPopuli's transcribed part: transcribed_data/<language>/asr_{train,dev,test}.tsv and <year>/<id>.ogg.

That is what the release's own `get_asr_data` writes. The hub's files (data/<language>/asr_*.tsv with the audio in
<split>/*.tar.gz or unpacked beside) are read too; archives are unpacked when the split is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row
from speechtune.corpora.lines import clip_rows

TABLES = {"train": "asr_train.tsv", "validation": "asr_dev.tsv", "test": "asr_test.tsv"}
ENDINGS = (".ogg", ".wav", ".flac")


def detect(folder: Path, names: frozenset[str]) -> list[Found]:
    """Detect one language's folder."""
    splits = {split: (folder / table,) for split, table in TABLES.items() if table in names}
    if not splits:
        return []
    return [Found(root=folder, splits=splits, config=folder.name, language=folder.name.split("_")[0].lower())]


# asr_train.tsv, in this form (tabs between):
# id raw_text normalized_text speaker_id split gender
# 20180206-0900-PLENARY-15-hr_20180206-16:10:06_5 ... poast genitalnog sakaenja ena u europi ... 119431 train female
# 20131007-0900-PLENARY-19-en_20131007-21:26:04_3 ... thank you very much commissioner ... 4520 train male
def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
    """Yield the rows of one table.

    Raises:
        CorpusError: the table has no `id` column.
    """
    for table in found.splits[split]:
        places = _audio(found.root, table.stem.removeprefix("asr_"), reading)
        for row in clip_rows(reading.table(table), "id", "audio_id"):
            if isinstance(row, BadRow):
                yield row
                continue
            line, id, fields = row
            yield Row(
                id=id,
                audio=places.get(id) or str(found.root / id[:4] / f"{id}.ogg"),
                columns=fields,
                speaker=fields.get("speaker_id") or None,
                language=found.language,
                line=line,
            )


def _audio(root: Path, split: str, reading: Reading) -> dict[str, str]:
    """Return audio files by id that are in folders or archives named after the split, not in folders by year."""
    places: dict[str, str] = {}
    for folder in (root / split, root / "audio" / split, root / "audio"):
        if not folder.is_dir():
            continue
        reading.seen(folder)
        for path in sorted(folder.iterdir()):
            if path.suffix in ENDINGS:
                places[path.stem] = str(path)
            elif path.name.endswith((".tar.gz", ".tar")) and split in f"{folder.name} {path.name}":
                files = reading.unpack(reading.seen(path))
                places |= {file.stem: str(file) for file in files.rglob("*") if file.suffix in ENDINGS}
    return places


LAYOUT = Layout(
    name="voxpopuli",
    version=1,
    names=re.compile(r"(?:facebook/)?voxpopuli"),
    default_text_column="normalized_text",
    detect=detect,
    read=read,
    how_to_get=(
        "VoxPopuli is free at https://github.com/facebookresearch/voxpopuli: python -m voxpopuli.get_asr_data makes\n"
        "transcribed_data/<language>; or download data/<language> of https://huggingface.co/datasets/facebook/voxpopuli."
    ),
    licence="CC0-1.0",
    hub_name="facebook/voxpopuli",
)
