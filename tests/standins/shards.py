"""Tiny shards: tar as WebDataset writes it, Parquet as the hub has it, with FLAC recordings of a quarter second."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf

from standins.corpora import tone


def audio_bytes(name: str, duration_s: float = 0.25) -> bytes:
    file = io.BytesIO()
    sf.write(file, tone(name, duration_s, 8_000), 8_000, format="FLAC")
    return file.getvalue()


def write_tar(path: Path, rows: list[tuple[str, str]], mode: str = "w", as_json: bool = False) -> Path:
    with tarfile.open(path, mode) as tar:
        for key, text in rows:
            side = json.dumps({"text": text, "speaker": "s1"}).encode() if as_json else text.encode()
            for name, data in ((f"{key}.flac", audio_bytes(key)), (f"{key}.{'json' if as_json else 'txt'}", side)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, rows: list[tuple[str, str]], row_group_size: int = 3) -> Path:
    audio = pa.array(
        [{"bytes": audio_bytes(key), "path": f"{key}.flac"} for key, _ in rows],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"audio": audio, "sentence": [text for _, text in rows], "speaker_id": list(range(len(rows)))})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def rows_of(shard: int, number: int = 7) -> list[tuple[str, str]]:
    return [(f"{shard}{n:04d}", f"text {shard} {n}") for n in range(number)]
