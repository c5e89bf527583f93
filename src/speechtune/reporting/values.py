"""Settings and other values of a run as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from speechtune.terminal.formatting import shorten

__all__ = ["last_name", "value_text"]

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


def last_name(value: str) -> str:
    """Return the last name of a local path; anything else as it is."""
    if not _LOCAL_PATH.match(value) or not value.strip("./\\~"):
        return value
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
