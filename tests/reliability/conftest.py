from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from reliability.forks import ForkServer
from reliability.tiny import write_corpus


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("SPEECHTUNE_LONG_TESTS"):
            item.add_marker(pytest.mark.skip(reason="long: SPEECHTUNE_LONG_TESTS=1 runs it"))


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> None:
    """Each run collects garbage several times; what torch and transformers made on import is none."""
    import speechtune.training.trainer  # noqa: F401

    gc.freeze()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Runs commands in processes of their own."""
    with ForkServer(tmp_path_factory.mktemp("logs"), {}) as server:
        yield server


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
