"""What all offline pages share: one script, allowed by its hash, and one style sheet."""

from __future__ import annotations

import base64
import hashlib

import markupsafe

from speechtune.reporting.plots import template_source

__all__ = ["page_parts"]


def page_parts(script: str, *styles: str) -> dict[str, str]:
    """Return "script", "script_hash" and "style" of a page.

    Args:
        script: the page's own, a template; page.js (theme, search) comes before it.
        styles: style sheets of the page's own, templates; those of the report come before them.
    """
    code = template_source("page.js") + template_source(script)
    style = "".join(template_source(name) for name in ("report.css", "chart.css", *styles))
    return {
        "script": markupsafe.Markup(code),
        "script_hash": base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        "style": markupsafe.Markup(style),
    }
