"""Draws docs/images/architecture.svg, the rooms by layers: `python docs/generate.py` writes it."""

from __future__ import annotations

from html import escape

# A room imports only rooms below it, or to its right: the order of tests/test_layers.py, backwards.
LAYERS = [
    [("cli", "the commands, exit codes and messages")],
    [
        ("demo", "all of it, on synthetic voices"),
        ("doctor", "check a corpus"),
        ("training", "build and run a plan: train, evaluate, save"),
    ],
    [("plan", "every default and fallback is decided here, once")],
    [("publishing", "upload to the hub, export"), ("reporting", "report.html, plots, model card")],
    [("evaluation", "hypotheses, error rates, intervals"), ("decoding", "recordings of any length → text")],
    [("data", "what is skipped, batches, epochs"), ("models", "CTC, sequence-to-sequence, Whisper, adapters")],
    [
        ("corpora", "find, index, stream"),
        ("text", "normalise, vocabulary"),
        ("audio", "decode, probe, cache"),
    ],
    [("options", "every option once, and parsing"), ("terminal", "progress, tables")],
    [("distributed", ""), ("files", ""), ("types", ""), ("errors", "")],
]
STEPS = [
    ("words", "a command line, a recipe,\nor Python keywords"),
    ("Options", "what the user asked for,\ntyped"),
    ("RunPlan", "what will be done: frozen,\ncomplete, printable"),
    ("results", "model, scores, report,\ncheckpoints"),
]
ARROWS = [("parse", "options"), ("resolve", "plan"), ("run", "training")]
WIDTH, MARGIN, GAP = 860, 20, 10
STEP_WIDTH, STEP_HEIGHT, ROW_HEIGHT = 154, 74, 44
INK, PALE, BLUE, FILL, DEEP = "#1f2937", "#6b7280", "#1d4ed8", "#eff6ff", "#dbeafe"


def architecture_svg() -> str:
    """Return the picture: the road of a run above, the rooms below."""
    top = 2 * MARGIN + STEP_HEIGHT + 34
    height = top + len(LAYERS) * (ROW_HEIGHT + GAP) + MARGIN - GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" role="img" '
        'aria-label="words are parsed into Options, resolved into a RunPlan, and run to results; below, the rooms">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_road(),
        _text(
            MARGIN, top - 12, "Rooms of src/speechtune: a room imports only rooms below it, or to its right", 12, PALE
        ),
    ]
    for number, layer in enumerate(LAYERS):
        parts += _row(layer, top + number * (ROW_HEIGHT + GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _road() -> list[str]:
    """Draw words -> Options -> RunPlan -> results."""
    space = (WIDTH - 2 * MARGIN - len(STEPS) * STEP_WIDTH) / len(ARROWS)
    parts = []
    for number, (name, about) in enumerate(STEPS):
        x = MARGIN + number * (STEP_WIDTH + space)
        emphasis = name == "RunPlan"
        parts.append(_box(x, MARGIN, STEP_WIDTH, STEP_HEIGHT, BLUE if emphasis else "#ffffff", BLUE))
        ink = "#ffffff" if emphasis else INK
        parts.append(_text(x + STEP_WIDTH / 2, MARGIN + 24, name, 16, ink, weight=600, middle=True))
        for line_number, line in enumerate(about.split("\n")):
            y = MARGIN + 44 + 15 * line_number
            parts.append(_text(x + STEP_WIDTH / 2, y, line, 11, "#dbeafe" if emphasis else PALE, middle=True))
    for number, (verb, room) in enumerate(ARROWS):
        start = MARGIN + (number + 1) * STEP_WIDTH + number * space
        y, end = MARGIN + STEP_HEIGHT / 2, start + space - 6
        parts.append(
            f'<path d="M{start + 6:.0f} {y:.0f} H{end - 7:.0f}" stroke="{BLUE}" stroke-width="2" fill="none"/>'
        )
        parts.append(f'<path d="M{end - 9:.0f} {y - 5:.0f} l9 5 l-9 5 z" fill="{BLUE}"/>')
        parts.append(_text(start + space / 2, y - 9, verb, 13, INK, weight=600, middle=True))
        parts.append(_text(start + space / 2, y + 19, f"{room}/", 11, PALE, middle=True))
    return parts


def _row(layer: list[tuple[str, str]], y: float) -> list[str]:
    """Draw one layer; boxes are as wide as their text needs."""
    weights = [max(len(name) + 4, len(about) * 0.8) for name, about in layer]
    free = WIDTH - 2 * MARGIN - GAP * (len(layer) - 1)
    parts, x = [], float(MARGIN)
    on_the_road = {room for _, room in ARROWS}
    for (name, about), weight in zip(layer, weights, strict=True):
        width = free * weight / sum(weights)
        parts.append(_box(x, y, width, ROW_HEIGHT, DEEP if name in on_the_road else FILL, "#bfdbfe"))
        parts.append(_text(x + 12, y + (19 if about else 28), name, 14, INK, weight=600))
        if about:
            parts.append(_text(x + 12, y + 36, about, 11.5, "#4b5563"))
        x += width + GAP
    return parts


def _box(x: float, y: float, width: float, height: float, fill: str, stroke: str) -> str:
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {size} rx="7" fill="{fill}" stroke="{stroke}"/>'


def _text(x: float, y: float, text: str, size: float, fill: str, *, weight: int = 400, middle: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" font-weight="{weight}" fill="{fill}"{anchor}>'
        f"{escape(text, quote=False)}</text>"
    )
