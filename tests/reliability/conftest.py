from __future__ import annotations

import os
from pathlib import Path

import pytest
from reliability.tiny import write_corpus


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("SPEECHTUNE_LONG_TESTS"):
            item.add_marker(pytest.mark.skip(reason="long: SPEECHTUNE_LONG_TESTS=1 runs it"))


@pytest.fixture(autouse=True)
def _healthy_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test poisons (faults.py) is well again when it ends."""
    from speechtune.models.ctc.recogniser import CtcRecogniser
    from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser

    for kind in (CtcRecogniser, Seq2SeqRecogniser):
        monkeypatch.setattr(kind, "losses", kind.losses)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve utterances to train on, four to evaluate on."""
    return write_corpus(tmp_path / "corpus")
