"""Every test runs without network and with its own cache, so order and the machine's state can't matter."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from reliability.forks import ForkServer

gc.set_threshold(50_000, 20, 100)  # collecting the tests took 15 s with the default, 11 s with this
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that are not there yet: pytest's own, made for every test, would be searched for the next free name."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def _own_cache(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(next(caches)))
    monkeypatch.delenv("SPEECHTUNE_CORPORA", raising=False)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Runs collect garbage several times each; what earlier tests and imports left is not looked at again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Runs commands in processes of their own."""
    with ForkServer(tmp_path_factory.mktemp("logs"), {}) as server:
        yield server
