"""Format numbers and durations for people, and make foreign text safe to print."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

__all__ = [
    "character_name",
    "clock_text",
    "duration_text",
    "interval_text",
    "percent",
    "points",
    "probability",
    "shorten",
    "visible",
]

# Controls, lone surrogates, and characters that reorder or hide their neighbours. Joiners (U+200C, U+200D) stay:
# Hindi and Persian are spelt with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)


def visible(text: str, *, written: str = "[U+{:04X}]") -> str:
    """Return foreign text (transcripts, names, messages) without anything that a terminal would act on.

    Controls, lone surrogates and reordering characters are written out, e.g. "[U+202E]"; tabs become spaces; line feeds
    stay. `written="\\\\u{:04x}"` keeps JSON as it was for its reader. HTML needs escaping as well.
    """
    return _INVISIBLE.sub(lambda match: written.format(ord(match[0])), text.replace("\t", " "))


def percent(rate: float) -> str:
    """0.184 -> "18.4 %"; two digits below 1 %, none from 1000 % up; nan and infinity are "no reference"."""
    if not math.isfinite(rate):
        return "no reference"
    value = rate * 100
    if value >= 999.5:
        return f"{value:,.0f} %"
    return f"{value:.2f} %" if 0 < value < 1 else f"{value:.1f} %"


def points(difference: float) -> str:
    """-0.087 -> "-8.7", the difference of two rates in percentage points; two digits below 1; "" where unknown."""
    if not math.isfinite(difference):
        return ""
    value = difference * 100
    return f"{value:+.1f}" if abs(value) >= 0.995 or not value else f"{value:+.2f}"


def probability(p_value: float) -> str:
    """0.0423 -> "0.042", a p-value; "< 0.001" below that; "" where it is not known."""
    if not math.isfinite(p_value):
        return ""
    return f"{p_value:.2f}" if p_value >= 0.0995 else f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001"


def interval_text(score: Mapping[str, Any] | None) -> str:
    """ "14.8 to 72.0 %", the 95 % interval of a score; empty where it has none.

    From two or three speakers an interval can be wider than all rates together: then it is said that it is not known.
    """
    low, high = (score or {}).get("low"), (score or {}).get("high")
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    interval = (score or {}).get("interval") or {}
    if high - low > 1 and interval.get("unit") == "speakers":
        return f"unknown: {interval.get('groups')} speakers"
    return f"{percent(low).removesuffix(' %')} to {percent(high)}"


def duration_text(seconds: float) -> str:
    """4.25 -> "4.2 s", 42 -> "42 s", 1270 -> "21 min 10 s", 5400 -> "1 h 30 min"."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def clock_text(seconds: float) -> str:
    """3723 -> "1:02:03", 100000 -> "1 d 3:46:40"; "-:--:--" where it is not known."""
    if not math.isfinite(seconds):
        return "-:--:--"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours}:{minutes:02}:{rest:02}" if days else f"{hours}:{minutes:02}:{rest:02}"


def shorten(text: str, limit: int) -> str:
    """`text`, or its first `limit` - 1 characters and an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def character_name(character: str) -> str:
    """A character as it can be read in a table: the space as an open box, a combining mark on a dotted circle."""
    if character == " ":
        return "␣"
    if character and unicodedata.category(character).startswith("M"):
        return f"◌{character}"
    return character
