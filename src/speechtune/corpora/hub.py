"""Datasets of the hub, through `datasets`, with the audio left encoded.

A downloaded dataset is read from the Arrow files that `datasets` keeps, memory-mapped, never decoded by it (that would
need torchcodec and a system FFmpeg). Offline, its cache is used.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from speechtune.corpora.cache import fingerprint, stamp
from speechtune.corpora.columns import likely_text_column
from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, Shard, canonical_split
from speechtune.corpora.shard_files import arrow_rows, record_row
from speechtune.errors import CorpusError

if TYPE_CHECKING:
    import datasets

__all__ = ["HubDataset", "hub_corpus"]

STREAM_BATCH = 8  # rows asked for at once


@dataclass(frozen=True)
class HubDataset:
    """Name of a hub dataset and how to load it. Errors of the hub's libraries become a CorpusError."""

    name: str
    config: str | None = None
    token: str | bool | None = None
    cache_dir: str | None = None
    force: bool = False  # download again

    def builder(self) -> datasets.DatasetBuilder:
        """Return what describes the dataset; only its description is downloaded."""
        import datasets

        with self._errors(), _offline_where_unreachable():
            return datasets.load_dataset_builder(self.name, self.config, cache_dir=self.cache_dir, token=self.token)

    def load(self, split: str, *, streaming: bool = False) -> Any:
        """Return the split: a datasets.Dataset, downloaded where needed, or an IterableDataset."""
        import datasets

        with self._errors(split), _offline_where_unreachable():
            return datasets.load_dataset(
                self.name,
                self.config,
                split=split,
                cache_dir=self.cache_dir,
                token=self.token,
                streaming=streaming,
                download_mode="force_redownload" if self.force and not streaming else None,
            )

    @contextlib.contextmanager
    def _errors(self, split: str | None = None) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the hub's libraries raise a dozen types
            where = f"{self.name}, split {split}: " if split else ""
            raise CorpusError(where + _reason(error)) from error


@contextlib.contextmanager
def _offline_where_unreachable() -> Iterator[None]:
    """Switch the hub's library to its offline mode where there is no network: by itself it retries for 23 s."""
    import datasets
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or _reachable(constants.ENDPOINT):
        yield
        return
    before = datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = False, before


def _reachable(endpoint: str) -> bool:
    address = urlsplit(endpoint)
    if address.scheme in getproxies() or not address.hostname:
        return True  # the proxy reaches it
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError:
        return False
    return True


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "Dataset scripts are no longer supported" in text:
        return "the hub has it as a Python script, which today's `datasets` doesn't run."
    if type(error).__name__ in ("ConnectionError", "OfflineModeIsEnabled", "ConnectError", "ConnectTimeout"):
        return "the hub can't be reached, and the local cache has no copy."
    if type(error).__name__ == "DatasetNotFoundError":
        return f"the hub has no such dataset, or it needs a token (--token): {text[:200]}"
    return f"the hub's answer: {type(error).__name__}: {text[:300]}"


def hub_corpus(dataset: HubDataset, known: Layout | None = None) -> tuple[Layout, Found]:
    """Return a hub dataset as a corpus.

    Args:
        dataset: what to load.
        known: the layout of the same corpus from its publisher, for other names of columns and splits.

    Raises:
        CorpusError: it can't be reached, is private, doesn't exist, has no such configuration, or is a script.
    """
    builder = dataset.builder()
    names = list(map(str, builder.info.splits or builder.config.data_files or ()))
    hub_names = {canonical_split(name): name for name in names}  # the hub's own split names are kept
    language = re.match(r"[a-z]{2,3}(?=$|[-_])", dataset.config or "")
    languages = known.languages if known else {}
    found = Found(
        root=Path(builder.cache_dir),
        splits=dict.fromkeys(hub_names, ()),
        config=dataset.config,
        language=languages.get(dataset.config or "") or (language[0] if language else None),
        text_column=likely_text_column(builder.info.features or {}),
    )

    def read(found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
        data = dataset.load(hub_names[split])
        reading.expected += len(data)
        for file in data.cache_files:
            path = reading.seen(Path(file["filename"]))
            name = Path(f"{hub_names[split]}-{path.stem}")
            yield from arrow_rows(name, path, audio_column=reading.audio_column, key=fingerprint(stamp(path)))

    def stream(found: Found, splits: Sequence[str], reading: Reading) -> list[Shard]:
        shards: list[Shard] = []
        for split in (hub_names[split] for split in splits):
            data = dataset.load(split, streaming=True).decode(False)
            column = reading.audio_column
            shards += [partial(_streamed_rows, dataset.name, split, data, n, column) for n in range(data.num_shards)]
        return shards

    layout = Layout(
        name=f"hub:{dataset.name}",
        version=1,
        default_text_column=known.default_text_column if known else "text",
        detect=lambda folder, names: [],
        read=read,
        how_to_get="",
        stream=stream,
        column_aliases={ours: theirs for theirs, ours in known.column_aliases.items()} if known else {},
        split_aliases=known.split_aliases if known else {},
        searched=False,
    )
    return layout, found


def _streamed_rows(
    name: str, split: str, data: Any, number: int, audio_column: str, *, part: int, num_parts: int
) -> Iterator[Row | BadRow]:
    """Yield records of shard `number` as they come over the network."""
    record = 0
    try:
        # Not iter(shard): in a loader worker that would divide it a second time.
        for batch in data.shard(num_shards=data.num_shards, index=number).iter(STREAM_BATCH):
            if audio_column not in batch:
                raise CorpusError(
                    f"{name}: no column '{audio_column}'.\nColumns: {', '.join(batch)}.\n"
                    "Name it with --audio_column_name."
                )
            for cells in zip(*batch.values(), strict=True):
                if record % num_parts == part:
                    values = dict(zip(batch, cells, strict=True))
                    audio = values.pop(audio_column)
                    audio = audio.get("bytes") if isinstance(audio, dict) else audio
                    id_ = f"{split}-{number}/{record}"
                    where = f"{name}:{split}-{number}:{record}"
                    yield record_row(audio, values, where=where, id_=id_, key="", audio_column=audio_column)
                record += 1
    except (OSError, ValueError, RuntimeError) as error:
        raise CorpusError(
            f"{name}, split {split}, shard {number} after record {record - 1}: {_reason(error)}"
        ) from error
