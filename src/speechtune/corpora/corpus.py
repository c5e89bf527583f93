"""A corpus that was found: its splits, read into tables or streams."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechtune.audio.packed import open_arrow
from speechtune.corpora.archive import unpack
from speechtune.corpora.columns import likely_text_column
from speechtune.corpora.index import index_split
from speechtune.corpora.layout import Found, Layout, Reading, canonical_split
from speechtune.corpora.stream import UtteranceStream
from speechtune.corpora.table import IndexedSplit, SplitTable, corpus_columns
from speechtune.errors import CorpusError

__all__ = ["Corpus"]


@dataclass(frozen=True)
class Corpus:
    """One configuration of a corpus on disk or on the hub. `open_corpus` makes it.

    Args:
        name: as the user gave it.
        layout: knows how to read it.
        found: its folder and splits.
        cache: folder for indexes and unpacked archives.
        newer_than_s: older indexes are not used (Unix time); 0 uses any.
        allow_outside_audio: read audio that a local table names outside its folder.
    """

    name: str
    layout: Layout
    found: Found
    cache: Path
    newer_than_s: float = 0.0
    allow_outside_audio: bool = False

    @property
    def config_name(self) -> str | None:
        return self.found.config

    @property
    def language(self) -> str | None:
        """ISO 639 code, where the layout or the configuration names one."""
        return self.found.language

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.found.splits)

    @property
    def default_text_column(self) -> str:
        return self.found.text_column or self.layout.default_text_column

    @property
    def label(self) -> str:
        """`common_voice/tr`: its name in messages and scores."""
        return f"{self.name}/{self.config_name}" if self.config_name else self.name

    def present(self, splits: str) -> str:
        """Return those of `train+validation` that the corpus has; all of them if it has none, for `read` to report."""
        present = []
        for text in splits.split("+"):
            try:
                self._parse(text)
            except CorpusError:
                continue
            present.append(text)
        return "+".join(present) or splits

    def read(
        self,
        splits: str,
        *,
        text_column: str | None = None,
        audio_column: str = "audio",
        max_workers: int | None = None,
        progress: bool = True,
    ) -> SplitTable:
        """Return the utterances of `splits`; headers of audio files are read the first time, then kept.

        Args:
            splits: `train`, `train+validation`, `train[:100]`, `train[:10%]`; `dev` is `validation`.
            text_column: the transcript's column; None takes the corpus' own.
            audio_column: for corpora that are tables with several; others have only one.
            max_workers: processes that read headers; None takes one per core.
            progress: show it.

        Raises:
            CorpusError: no such split or column, or none of a split's clips can be read.
        """
        tables = []
        for split, start, stop in self._parse(splits):
            index = index_split(
                self.layout,
                self.found,
                split,
                self._reading(audio_column),
                label=self.label,
                max_workers=max_workers,
                progress=progress,
                newer_than_s=self.newer_than_s,
            )
            self._check_not_empty(index)
            table = SplitTable([index], self._present_column(text_column, corpus_columns(open_arrow(index.table))))
            rows = _rows(start, stop, len(table))
            tables.append(table if len(rows) == len(table) else table.select(np.arange(rows.start, rows.stop)))
        return SplitTable.concat(tables)

    def stream(self, splits: str, *, text_column: str | None = None, audio_column: str = "audio") -> UtteranceStream:
        """Return the utterances of `splits` in order, without an index; for layouts with `stream`.

        Args:
            splits: as for `read`, but no part of a split.
            text_column: the transcript's column; None takes the likeliest of the first record.
            audio_column: as for `read`.

        Raises:
            CorpusError: no such split, or a shard is torn or missing. A missing column shows at the first utterance.
        """
        assert self.layout.stream is not None, "only shards and hub datasets are streamed"
        parsed = self._parse(splits)
        if any(start or stop for _, start, stop in parsed):
            raise CorpusError(f"{self.label}: a stream has no parts of splits: '{splits}'.\nUse --max_train_samples.")
        names = [split for split, _, _ in parsed]
        shards = self.layout.stream(self.found, names, self._reading(audio_column))
        column = self._text_column(text_column) if text_column else None
        return UtteranceStream(shards, text_column=column, label=self.label, split="+".join(names))

    def _reading(self, audio_column: str) -> Reading:
        return Reading(lambda archive: unpack(archive, self.cache), self.cache, audio_column, self.allow_outside_audio)

    def _text_column(self, name: str | None) -> str:
        return self.layout.column_aliases.get(name, name) if name else self.default_text_column

    def _present_column(self, name: str | None, columns: Sequence[str]) -> str:
        """Return the text column among those of a table: as asked for, else the default, else the likeliest."""
        if name is not None:
            return name if name in columns else self._text_column(name)
        wanted = self.default_text_column
        return wanted if wanted in columns else likely_text_column(columns) or wanted

    def _check_not_empty(self, index: IndexedSplit) -> None:
        if len(open_arrow(index.table)):
            return
        skipped = index.read_skipped()
        where = f"{self.label}, split {index.name}"
        if not skipped:
            raise CorpusError(f"{where}: it has no rows.\nSplits: {', '.join(self.splits)}.")
        first = skipped[0]
        raise CorpusError(
            f"{where}: none of its {len(skipped)} utterances can be used.\n"
            f"First: {first.named.rstrip('.')}.\n"
            f"Check that the audio is where the table says, under {self.found.root}"
        )

    def _parse(self, splits: str) -> list[tuple[str, str, str]]:
        """Return [(split, first row, row after the last)], the numbers as written: '', '100', '-5', '10%'."""
        parsed = []
        for text in splits.split("+"):
            match = re.fullmatch(r"([^\[\]]+?)\s*(?:\[\s*(-?\d+%?)?\s*:\s*(-?\d+%?)?\s*\])?", text.strip())
            if not match:
                raise CorpusError(f"{self.label}: '{text}' names no split.\nSplits: {', '.join(self.splits)}.")
            parsed.append((self._split_name(match[1]), match[2] or "", match[3] or ""))
        whole = [name for name, start, stop in parsed if not start and not stop]
        if twice := [name for name in whole if whole.count(name) > 1]:
            raise CorpusError(f"{self.label}: '{splits}' takes split {twice[0]} twice.")
        return parsed

    def _split_name(self, name: str) -> str:
        aliases = self.layout.split_aliases
        for candidate in (name, canonical_split(name), *aliases.get(name, ())):
            if candidate in self.found.splits:
                return candidate
        near = difflib.get_close_matches(name, [*self.splits, *aliases], n=1)
        hint = f"\nDid you mean {near[0]}?" if near else ""
        raise CorpusError(f"{self.label}: no split '{name}'.\nSplits: {', '.join(self.splits)}.{hint}")


def _rows(start: str, stop: str, num_rows: int) -> range:
    """Return the row numbers of `train[start:stop]`; percentages are rounded to the nearest row, as `datasets` does."""

    def number(text: str, default: int) -> int:
        if text.endswith("%"):
            return round(int(text[:-1]) * num_rows / 100)
        return int(text) if text else default

    return range(num_rows)[number(start, 0) : number(stop, num_rows)]
