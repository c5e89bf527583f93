"""What all offline pages share: templates/page.html, one script, allowed by its hash, one style sheet, data."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import markupsafe

from speechtune.reporting.audio import Clips
from speechtune.reporting.plots import template_source
from speechtune.reporting.table import page_json

__all__ = ["page_parts"]

SHARED = ("page.js", "audio.js", "spectrum.js")  # theme, elements; players and keys; spectrograms


def page_parts(clips: Clips, *names: str, tables: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """Return what page.html names: "clips", "data", "audio", "script", "script_hash" and "style".

    Args:
        clips: the recordings in the page.
        names: scripts and style sheets of the page's own, templates; they come after the shared ones.
        tables: rows of its tables of utterances, see `table_rows`.
    """
    code = "".join(map(template_source, (*SHARED, *(name for name in names if name.endswith(".js")))))
    styles = ("report.css", "chart.css", *(name for name in names if name.endswith(".css")))
    data, audio = page_json(tables or {}, clips)
    return {
        "clips": clips,
        "data": markupsafe.Markup(data),
        "audio": markupsafe.Markup(audio),
        "script": markupsafe.Markup(code),
        "script_hash": base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        "style": markupsafe.Markup("".join(map(template_source, styles))),
    }
