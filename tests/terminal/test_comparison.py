"""The tables of a comparison."""

from __future__ import annotations

import io

from evaluations import hypothesis
from rich.console import Console

from speechtune.evaluation.compare import Scored, compare_evaluations
from speechtune.evaluation.evaluate import Evaluation
from speechtune.terminal.comparison import print_comparison

LONG = "a-folder-with-a-name-that-is-far-too-long-to-be-shown-in-a-table-of-eighty-columns"


def systems():
    words = "bir iki üç dört"
    for number, name in enumerate((LONG, f"{LONG}-2", "[red]c[/red]\x1b[31m")):
        texts = ["bir yok üç dört" if (i + number) % 3 else words for i in range(30)]
        rows = [
            hypothesis(f"u{i}", words, text, duration_s=1 + i % 9, speaker=f"speaker {i % 12}")
            for i, text in enumerate(texts)
        ]
        yield Scored(name, Evaluation(rows))


def test_tables_fit_80_columns_and_names_are_no_orders_to_the_terminal():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    comparison = compare_evaluations(list(systems()))
    print_comparison(comparison, console=console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.strip().startswith("C  [red]c[/red][U+001B]") for line in lines)
    assert sum(line.strip().startswith(("B - A ", "C - A ")) for line in lines) == 2
    assert comparison.pairs[0].sentence.replace(" ", "") in "".join(lines).replace(" ", "")


def test_a_file_gets_each_sentence_in_one_line():
    console = Console(file=io.StringIO(), width=240)
    comparison = compare_evaluations(list(systems())[:2])
    print_comparison(comparison, console=console)
    assert comparison.pairs[0].sentence in console.file.getvalue().splitlines()
