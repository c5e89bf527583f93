"""Every test runs without network and with its own cache, so order and the machine's state can't matter."""

from __future__ import annotations

import os

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("SPEECHTUNE_CORPORA", raising=False)
