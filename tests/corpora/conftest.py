"""Stand-in corpora that are written once for all tests; nobody changes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from standins.corpora import lay_out

NAMES = [
    "common_voice/tr",
    "common_voice/it",
    "common_voice_11_0/hi",
    "librispeech_asr",
    "multilingual_librispeech/german",
    "timit_asr",
]


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpora folder with all of NAMES side by side, two folders down."""
    root = tmp_path_factory.mktemp("corpora")
    lay_out(root / "a" / "b", NAMES)
    return root
