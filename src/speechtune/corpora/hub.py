"""Datasets of the hub, through `datasets`, with the audio left encoded.

A dataset that was downloaded is read from the Arrow files that `datasets` keeps, memory-mapped, never decoded by it
(that would need torchcodec and a system FFmpeg). Offline, what lies in its cache is used.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from speechtune.corpora.cache import fingerprint, stamp
from speechtune.corpora.columns import ID_COLUMNS, TEXT_COLUMNS, as_text, first_present, known_facts
from speechtune.corpora.layout import BadRow, Found, Layout, Reading, Row, canonical_split
from speechtune.corpora.parquet_shard import packed_rows
from speechtune.corpora.stream import UtteranceStream
from speechtune.errors import CorpusError

__all__ = ["hub_corpus", "hub_stream"]

STREAM_BATCH = 8  # rows asked for at once


@dataclass(frozen=True)
class HubDataset:
    """Names a dataset of the hub and how to ask for it."""

    name: str
    config: str | None = None
    token: str | bool | None = None
    cache_dir: str | None = None
    force: bool = False  # download anew

    def builder(self) -> Any:
        """datasets.DatasetBuilder: what it has, nothing downloaded but its description."""
        import datasets

        with _offline_where_unreachable():
            return datasets.load_dataset_builder(self.name, self.config, cache_dir=self.cache_dir, token=self.token)

    def load(self, split: str, *, streaming: bool = False) -> Any:
        """datasets.Dataset, downloaded where needed; or an IterableDataset."""
        import datasets

        mode = "force_redownload" if self.force and not streaming else None
        with _offline_where_unreachable():
            return datasets.load_dataset(
                self.name,
                self.config,
                split=split,
                cache_dir=self.cache_dir,
                token=self.token,
                streaming=streaming,
                download_mode=mode,
            )


@contextlib.contextmanager
def _offline_where_unreachable() -> Iterator[None]:
    """Without a network the hub's library asks for 23 s before it looks into its cache; one look here spares that."""
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
        return True  # a proxy answers for it
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError:
        return False
    return True


def hub_corpus(dataset: HubDataset, known: Layout | None = None) -> tuple[Layout, Found]:
    """A dataset of the hub as a corpus.

    Args:
        dataset: what to ask for.
        known: the layout of the same corpus from its publisher, for the other names of columns and splits.

    Raises:
        CorpusError: it can't be reached, is private, doesn't exist, has no such configuration, or is a script.
    """
    try:
        builder = dataset.builder()
    except Exception as error:  # the hub's libraries raise a dozen kinds; each is the user's to mend
        raise CorpusError(_reason(error)) from error
    names = list(builder.info.splits or builder.config.data_files or ())
    own_names = {canonical_split(name): name for name in map(str, names)}
    features = builder.info.features or {}
    language = re.match(r"[a-z]{2,3}(?=$|[-_])", dataset.config or "")
    languages = known.languages if known else {}
    found = Found(
        root=Path(builder.cache_dir),
        splits=dict.fromkeys(own_names, ()),
        config=dataset.config,
        language=languages.get(dataset.config or "") or (language[0] if language else None),
        text_column=next((name for name in TEXT_COLUMNS if name in features), None),
    )
    access = _HubAccess(dataset, own_names)
    layout = Layout(
        name=f"hub:{dataset.name}",
        version=1,
        names=re.compile(r"(?!)"),
        default_text_column=known.default_text_column if known else "text",
        detect=lambda folder, names: [],
        read=access.read,
        how_to_get="",
        licence="",
        stream=access.stream,
        column_aliases={ours: theirs for theirs, ours in known.column_aliases.items()} if known else {},
        split_aliases=known.split_aliases if known else {},
        searched=False,
    )
    return layout, found


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "Dataset scripts are no longer supported" in text:
        return "the hub has it as a Python script, which today's `datasets` doesn't run."
    if type(error).__name__ in ("ConnectionError", "OfflineModeIsEnabled", "ConnectError", "ConnectTimeout"):
        return "the hub can't be reached, and the local cache has no copy."
    if type(error).__name__ == "DatasetNotFoundError":
        return f"the hub has no such dataset, or it needs a token (--token): {text[:200]}"
    return f"the hub's answer: {type(error).__name__}: {text[:300]}"


class _HubAccess:
    """Reads splits of a hub dataset; the hub's own split names are kept."""

    def __init__(self, dataset: HubDataset, own_names: dict[str, str]) -> None:
        self._dataset = dataset
        self._own_names = own_names

    def read(self, found: Found, split: str, reading: Reading) -> Iterator[Row | BadRow]:
        """Rows of the downloaded split.

        Raises:
            CorpusError: it can't be downloaded, or has no such audio column.
        """
        try:
            data = self._dataset.load(self._own_names[split])
        except Exception as error:
            raise CorpusError(f"{self._dataset.name}, split {split}: {_reason(error)}") from error
        reading.expected += len(data)
        for kept in data.cache_files:
            path = reading.seen(Path(kept["filename"]))
            name = Path(f"{self._own_names[split]}-{path.stem}")
            yield from packed_rows(name, path, audio_column=reading.audio_column, key=fingerprint(stamp(path)))

    def stream(self, found: Found, splits: Sequence[str], reading: Reading) -> HubSource:
        """The splits as they come over the network."""
        return HubSource(self._dataset, [self._own_names[split] for split in splits], reading.audio_column)


class HubSource:
    """Records of a hub dataset as they come over the network (a `StreamSource`)."""

    def __init__(self, dataset: HubDataset, splits: Sequence[str], audio_column: str) -> None:
        self._dataset = dataset
        self._audio_column = audio_column
        self._shards: list[tuple[str, int]] = []  # split, number in it
        self._open: dict[str, Any] = {}
        for split in splits:
            self._shards += [(split, number) for number in range(self._opened(split).num_shards)]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # a worker opens it again

    def _opened(self, split: str) -> Any:
        if split not in self._open:
            try:
                self._open[split] = self._dataset.load(split, streaming=True).decode(False)
            except Exception as error:
                raise CorpusError(f"{self._dataset.name}, split {split}: {_reason(error)}") from error
        return self._open[split]

    @property
    def num_shards(self) -> int:
        return len(self._shards)

    def rows(self, shard: int, start: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Row | BadRow]]:
        split, number = self._shards[shard]
        data = self._opened(split)
        data = data.shard(num_shards=data.num_shards, index=number)
        record = start
        try:
            # Not iter(data): in a loader worker that would share the shard out a second time.
            for batch in (data.skip(start) if start else data).iter(STREAM_BATCH):
                for values in _records(batch):
                    if wanted(record):
                        yield record, self._row(f"{split}-{number}", record, values)
                    record += 1
        except (OSError, ValueError, RuntimeError) as error:
            where = f"{self._dataset.name}, split {split}, shard {number} after record {record - 1}"
            raise CorpusError(f"{where}: {_reason(error)}") from error

    def _row(self, shard: str, record: int, values: dict[str, Any]) -> Row | BadRow:
        if self._audio_column not in values:
            raise CorpusError(
                f"{self._dataset.name}: no column '{self._audio_column}'.\nColumns: {', '.join(values)}.\n"
                "Name it with --audio_column_name."
            )
        audio = values.pop(self._audio_column)
        file = f"{self._dataset.name}:{shard}:{record}"
        data = audio.get("bytes") if isinstance(audio, dict) else audio
        if not data:
            return BadRow(file, f"no audio in column '{self._audio_column}'")
        columns = {name: as_text(value) for name, value in values.items() if not name.startswith("#")}
        id_column = first_present(columns, ID_COLUMNS)
        id_ = (columns[id_column] or "") if id_column else f"{shard}/{record}"
        return Row(id=id_, audio=data, columns=columns, file=file, **known_facts(columns))


def _records(batch: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in zip(*batch.values(), strict=True):
        yield dict(zip(batch, values, strict=True))


def hub_stream(
    name: str,
    config: str | None,
    split: str,
    *,
    text_column: str | None = None,
    audio_column: str = "audio",
    token: str | bool | None = None,
    cache_dir: str | None = None,
    consumer: int = 0,
    num_consumers: int = 1,
) -> UtteranceStream:
    """Utterances of a hub dataset as they come over the network, with the interface of `ShardStream`.

    Args:
        name: `openslr/librispeech_asr`.
        config: its configuration.
        split: as the hub calls it; several with `+`.
        text_column: of the transcript; None takes the likeliest.
        audio_column: of the audio.
        token: for private and gated datasets.
        cache_dir: of the hub's library.
        consumer: this reader's number, among
        num_consumers: readers that share the stream.

    Raises:
        CorpusError: it can't be reached or has no such split.
    """
    source = HubSource(HubDataset(name, config, token, cache_dir), split.split("+"), audio_column)
    return UtteranceStream(
        source,
        text_column=text_column,
        consumer=consumer,
        num_consumers=num_consumers,
        label=f"{name}/{config}" if config else name,
        split=split,
    )
