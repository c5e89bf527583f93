"""What columns of tables without a fixed layout probably mean: manifests, shards, hub datasets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

__all__ = ["ID_COLUMNS", "TEXT_COLUMNS", "as_text", "first_present", "known_facts"]

TEXT_COLUMNS = ("text", "sentence", "transcription", "transcript", "normalized_text")  # likeliest first
ID_COLUMNS = ("id", "utt_id", "utterance_id")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id", "spk", "spk_id")
DURATION_COLUMNS = ("duration_s", "duration", "duration_in_seconds", "audio_duration")
LANGUAGE_COLUMNS = ("language", "lang", "locale")


class Facts(TypedDict):
    """Fields of a `Row` that a column may tell."""

    duration_s: float
    speaker: str | None
    language: str | None


def first_present(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of these columns that has a value in this row."""
    return next((name for name in names if fields.get(name) not in (None, "")), None)


def as_text(value: Any) -> str | None:
    """A scalar as text; None for nothing, lists and objects."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else None  # Python refuses to print huge numbers
    return None


def known_facts(columns: Mapping[str, str | None]) -> Facts:
    """Duration, speaker and language where a column of a usual name has them."""
    speaker, language = first_present(columns, SPEAKER_COLUMNS), first_present(columns, LANGUAGE_COLUMNS)
    return Facts(
        duration_s=_number(columns, DURATION_COLUMNS),
        speaker=columns[speaker] if speaker else None,
        language=columns[language] if language else None,
    )


def _number(columns: Mapping[str, str | None], names: tuple[str, ...]) -> float:
    name = first_present(columns, names)
    try:
        return float(columns[name] or "nan") if name else math.nan
    except ValueError:
        return math.nan
