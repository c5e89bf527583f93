"""Columns of the usual names in tables without a fixed layout: manifests, shards, hub datasets."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, TypedDict

__all__ = ["ID_COLUMNS", "TEXT_COLUMNS", "as_text", "first_present", "known_facts", "likely_text_column"]

# likeliest first
TEXT_COLUMNS = (
    "text", "sentence", "transcription", "transcript", "normalized_text", "raw_transcription", "raw_text",
)  # fmt: skip
ID_COLUMNS = ("id", "utt_id", "utterance_id")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id", "spk", "spk_id")
DURATION_COLUMNS = ("duration_s", "duration", "duration_in_seconds", "audio_duration")
LANGUAGE_COLUMNS = ("language", "lang", "locale")


class Facts(TypedDict):
    """Fields of a `Row` that a column may hold."""

    duration_s: float
    speaker: str | None
    language: str | None


def likely_text_column(names: Collection[str]) -> str | None:
    """Return the likeliest transcript column among these; None if there is none."""
    return next((name for name in TEXT_COLUMNS if name in names), None)


def first_present(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """Return the first of these columns that has a value in this row."""
    return next((name for name in names if fields.get(name) not in (None, "")), None)


def as_text(value: Any) -> str | None:
    """Return a scalar as text; None for nothing, lists and objects."""
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
    """Return duration, speaker and language from columns of the usual names."""
    duration, speaker, language = (
        columns.get(first_present(columns, names) or "")
        for names in (DURATION_COLUMNS, SPEAKER_COLUMNS, LANGUAGE_COLUMNS)
    )
    try:
        duration_s = float(duration or "nan")
    except ValueError:
        duration_s = math.nan
    return Facts(duration_s=duration_s, speaker=speaker, language=language)
