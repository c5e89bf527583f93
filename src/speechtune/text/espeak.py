"""Loading of libespeak-ng (GPL-3), which is never bundled: the optional wheel `espeakng-loader` brings it."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType

from speechtune.errors import OptionError

__all__ = ["data_path", "is_installed", "load_library", "start_library"]

MAX_DATA_PATH_CHARS = 140  # libespeak-ng keeps the path of its data in a buffer of 160 bytes
CHARS_UTF8 = 1  # from espeak-ng/speak_lib.h, as the next
INITIALIZE_DONT_EXIT = 0x8000  # without it a missing data folder ends the process


def is_installed() -> bool:
    """Return whether the optional package espeakng-loader is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


def _loader() -> ModuleType:
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError:
        raise OptionError(
            "Phonemes (--phoneme_language) and the demo's synthetic voices need espeak-ng (GPL-3).\n"
            'Install it with: pip install "speechtune[phonemes]"'
        ) from None


def data_path() -> str:
    """Return the path of espeak-ng's data, or of a link to it if it is too long for the library's buffer.

    Raises:
        OptionError: espeakng-loader is not installed.
    """
    path: str = _loader().get_data_path()
    if len(os.fsencode(path)) <= MAX_DATA_PATH_CHARS:
        return path
    link = Path(tempfile.mkdtemp(prefix="espeak-")) / "espeak-ng-data"
    link.symlink_to(path, target_is_directory=True)
    return str(link)


def load_library() -> ctypes.CDLL:
    """Return libespeak-ng, not yet initialised, with globals of its own.

    The library keeps its state in globals, which a process has once for each file; so a copy of the file is loaded.

    Raises:
        OptionError: espeakng-loader is not installed, or its library can't be loaded.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="espeak-", ignore_cleanup_errors=True) as folder:
            return ctypes.CDLL(shutil.copy(_loader().get_library_path(), folder))
    except OSError as error:
        raise OptionError(f"espeak-ng's library can't be loaded: {error}.") from None


def start_library(library: ctypes.CDLL, output: int, options: int = 0) -> None:
    """Initialise the library with an output mode and options of speak_lib.h.

    Raises:
        OptionError: it can't read its data.
    """
    path = data_path()
    if library.espeak_Initialize(output, 0, os.fsencode(path), options | INITIALIZE_DONT_EXIT) < 0:
        raise OptionError(
            f"espeak-ng can't read its data in {path}.\n"
            "Reinstall it with: pip install --force-reinstall espeakng-loader"
        )
