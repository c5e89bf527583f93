"""comparison.html: complete, harmless, the same every time."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from evaluations import hypothesis

from speechtune.evaluation.compare import Scored, compare_evaluations
from speechtune.evaluation.comparison import Comparison
from speechtune.evaluation.evaluate import Evaluation
from speechtune.reporting.comparison import MAX_LISTED, write_comparison_page

WORDS = "bir iki üç dört"
ALIEN = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x1b \u202etxet {{ 7*7 }}"


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.text += " "
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        if self.tags[-1:] not in (["script"], ["style"]):
            self.text += data


def compared(num: int = 24, *, alien: str = "") -> Comparison:
    def system(name: str, every: int) -> Scored:
        rows = [
            hypothesis(
                f"u{i}{alien}",
                f"{WORDS}{alien}",
                f"bir yok üç dört{alien}" if i % every == 0 else f"{WORDS}{alien}",
                duration_s=1 + i % 5,
                speaker=f"s{i % 12}{alien}",
            )
            for i in range(num)
        ]
        return Scored(name + alien, Evaluation(rows, results={"dataset": "d" + alien, "model": alien}))

    return compare_evaluations([system("old", 2), system("new", 3), system("third", 5)])


def test_the_page_has_every_system_sentence_group_and_changed_utterance(tmp_path: Path):
    comparison = compared()
    page = Page(write_comparison_page(comparison, tmp_path).read_text("utf-8"))
    text = " ".join(page.text.split())
    for pair in comparison.pairs:
        assert pair.sentence in text
        assert f"{pair.num_better} better with {'ABC'[pair.b]}" in text
    assert all(name in text for name in ("old", "new", "third", "2 to 4 s", "s11"))
    assert page.tags.count("li") >= sum(pair.num_better + pair.num_worse for pair in comparison.pairs)
    assert "after Holm's correction" in text


def test_nothing_foreign_is_markup_and_nothing_is_loaded(tmp_path: Path):
    text = write_comparison_page(compared(alien=ALIEN), tmp_path).read_text("utf-8")
    page = Page(text)
    assert page.tags.count("script") == 3  # two of them hold data
    assert "img" not in page.tags
    assert "\u202e" not in text and "\x1b" not in text
    assert not [value for name, value in page.attributes if name in ("src", "href") and not value.startswith("#")]


def test_the_same_comparison_is_the_same_page_and_long_lists_are_cut(tmp_path: Path):
    comparison = compared(1_200)
    pages = [write_comparison_page(comparison, folder).read_bytes() for folder in (tmp_path / "a", tmp_path / "b")]
    assert pages[0] == pages[1] and len(pages[0]) < 2_000_000
    assert f"the {MAX_LISTED} with the largest change" in pages[0].decode()
