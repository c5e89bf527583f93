"""Tables of docs/performance.md: each script replaces the text between its two markers."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def write_table(name: str, table: str, *, page: Path = PAGE) -> None:
    """Replace the text between `<!-- NAME -->` and `<!-- /NAME -->`; a missing section is added."""
    text = page.read_text("utf-8") if page.exists() else "# Performance\n"
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text:
        text += f"\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}", "utf-8")
