"""Settings and other values of a run as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from speechtune.terminal.formatting import shorten

__all__ = ["last_name", "protocol_text", "value_text"]

_LOCAL_PATH = re.compile(r"~|\.{0,2}[/\\]|[A-Za-z]:[/\\]|file:")


def value_text(value: Any, *, limit: int = 400, text_of: Callable[[str], str] = str) -> str:
    """Return a value of a JSON file as text of at most `limit` characters; `text_of` is applied to strings."""
    if isinstance(value, (list, tuple)):
        text = " ".join(value_text(item, text_of=text_of) for item in value[:limit])
    elif isinstance(value, Mapping):
        text = ", ".join(f"{key} {value_text(item, text_of=text_of)}" for key, item in value.items()) or "none"
    elif value is None or isinstance(value, bool):
        text = {None: "not set", True: "yes", False: "no"}[value]
    else:
        text = f"{value:g}" if isinstance(value, float) else text_of(str(value))
    return shorten(text, limit)


def protocol_text(protocol: Mapping[str, Any]) -> str:
    """Return "default: normaliser; filters; 3 excluded; other settings; hash"."""
    if not protocol:
        return ""
    rest = dict(protocol)
    name, normaliser = rest.pop("name", "unnamed"), rest.pop("normalizer", "")
    filters = ", ".join(f"{k} {v}" for k, v in sorted((rest.pop("filters", None) or {}).items()))
    excluded = rest.pop("skipped", rest.pop("excluded", None))
    digest = rest.pop("hash", "")
    parts = [
        str(normaliser),
        f"filtered by {filters}" if filters else "no filter",
        "" if excluded is None else f"{excluded} excluded",
        *(f"{key.replace('_', ' ')} {value_text(value)}" for key, value in rest.items() if value not in (None, "")),
        f"hash {digest[:12]}" if digest else "",
    ]
    return f"{name}: " + "; ".join(filter(None, parts))


def last_name(value: str) -> str:
    """Return the last name of a local path; anything else as it is."""
    if not _LOCAL_PATH.match(value) or not value.strip("./\\~"):
        return value
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
