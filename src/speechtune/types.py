"""Dataclasses shared between modules: small, frozen, without behaviour beyond sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["EditCounts", "Hypothesis", "Segment", "Skipped", "Transcript", "Utterance", "Word"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording and its transcript. The audio is not decoded; at most its header was read."""

    id: str  # unique within a split; stable between runs
    audio: str | bytes  # path of a file, or the bytes of an encoded file
    audio_key: str  # names the audio's content (path, size, mtime or a hash): key of the decoded-audio cache
    text: str  # transcript as the corpus has it, not normalised
    duration_s: float  # from the header or the corpus' own table; nan where unknown
    file: str  # for messages: a path, or "archive.tar:member", or "data.parquet:row"
    speaker: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """One utterance that is not used, and why. Counted and listed in skipped.jsonl."""

    split: str
    id: str
    file: str
    reason: str  # slug that is counted: undecodable, too_long, empty_transcript, ...
    detail: str = ""  # one line for a human
    duration_s: float = float("nan")

    @property
    def key(self) -> tuple[str, str, str]:
        """Names the row of the corpus; malformed rows have no id, but a file and line."""
        return self.split, self.id, self.file

    @property
    def named(self) -> str:
        """File and detail on one line, whatever characters the name has; a recording's detail starts with it."""
        file = self.file if self.file.isprintable() else repr(self.file)
        what = self.detail or self.reason
        return what if what.startswith(file) else f"{file}: {what}"

    def as_json(self) -> dict[str, Any]:
        """Row of skipped.jsonl; an unknown duration is null."""
        return _with_null_duration(asdict(self))

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Skipped:
        """Read what `as_json` returned."""
        return cls(**_with_nan_duration(row))


@dataclass(frozen=True, slots=True)
class EditCounts:
    """Counts of one alignment of a reference with a hypothesis; their `total` is a corpus' counts."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def reference_length(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def edits(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Edits per reference token. An empty reference has rate 0 without insertions, else infinity."""
        if self.reference_length == 0:
            return float("inf") if self.edits else 0.0
        return self.edits / self.reference_length

    @classmethod
    def total(cls, counts: Iterable[EditCounts]) -> EditCounts:
        """Their sum: a corpus' counts."""
        hits = substitutions = deletions = insertions = 0
        for one in counts:
            hits += one.hits
            substitutions += one.substitutions
            deletions += one.deletions
            insertions += one.insertions
        return cls(hits, substitutions, deletions, insertions)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The model's text for one utterance beside its reference; both normalised.

    `written` is reference and hypothesis with case and punctuation, where the normaliser of scores removes them.
    `word_times` are begin and end of each word of the hypothesis in seconds, where the model tells them.
    """

    id: str
    reference: str
    hypothesis: str
    words: EditCounts
    characters: EditCounts
    duration_s: float = float("nan")
    file: str = ""
    speaker: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)  # of the corpus, that tell groups apart: gender, accent
    written: tuple[str, str] | None = None
    word_times: tuple[tuple[float, float], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Row of hypotheses.jsonl; an unknown duration is null, what is not there is left out."""
        row = _with_null_duration(asdict(self))
        written = row.pop("written")
        for name in ("columns", "word_times"):
            if not row[name]:
                del row[name]
        return row if written is None else {**row, "reference_written": written[0], "hypothesis_written": written[1]}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Hypothesis:
        """Read what `as_json` returned."""
        words, characters = EditCounts(**row["words"]), EditCounts(**row["characters"])
        row = _with_nan_duration({**row, "words": words, "characters": characters})
        written = row.pop("reference_written", None), row.pop("hypothesis_written", None)
        times = tuple((start, end) for start, end in row.pop("word_times", ()))
        return cls(**row, written=None if None in written else written, word_times=times)


def _with_null_duration(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "duration_s": None} if row["duration_s"] != row["duration_s"] else row


def _with_nan_duration(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "duration_s": float("nan")} if row.get("duration_s") is None else row


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a recording."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None  # 0 to 1; None where the model gives none


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech, short enough for a subtitle where its words are known."""

    text: str
    start_s: float
    end_s: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a model recognised in one recording."""

    text: str
    file: str = ""
    segments: tuple[Segment, ...] = ()
    duration_s: float = float("nan")

    @property
    def words(self) -> tuple[Word, ...]:
        """All words with their times; empty for models that tell none."""
        return tuple(word for segment in self.segments for word in segment.words)

    def __str__(self) -> str:
        return self.text
