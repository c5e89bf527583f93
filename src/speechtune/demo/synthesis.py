"""Text to speech with libespeak-ng, called through ctypes.

libespeak-ng keeps its state in globals, and much of it (vibrato, wave position, noise) carries over from one call to
the next, even through its `espeak_Terminate`. So a `Speaker` loads the library, speaks under one lock and unloads it:
its output depends only on the voice and the sequence of texts. Rejected: one long-lived instance (not reproducible
once work is split), the `espeak-ng` program (rarely installed).
"""

from __future__ import annotations

import ctypes
import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from speechtune.errors import OptionError
from speechtune.text.espeak import CHARS_UTF8, data_path, load_library, start_library

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SAMPLING_RATE", "Speaker"]

SAMPLING_RATE = 22_050  # Hz; what espeak-ng's voices are made at
RATE_LIMITS_WPM = (80, 450)
NOISE_SEED = 1

# From espeak-ng/speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS, INITIALIZE_PHONEME_IPA = 0x1, 0x2
EVENT_LIST_TERMINATED, EVENT_PHONEME = 0, 7
PARAMETER_RATE, PARAMETER_PITCH, PARAMETER_RANGE = 1, 3, 4

_lock = threading.Lock()


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h, with the last member's union as phoneme events use it."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


class Speaker:
    """A synthetic voice, used in a `with` statement; a process has one at a time.

    Args:
        voice: language of espeak-ng, optionally with a variant: `tr`, `tr+f2`, `en-us+Andy`.

    Raises:
        OptionError: on entering, if espeakng-loader is not installed or has no such voice.
    """

    def __init__(self, voice: str) -> None:
        self.voice = voice
        self._library: ctypes.CDLL | None = None
        self._chunks: list[bytes] = []
        self._phonemes: list[tuple[int, str]] = []
        self._callback = _Callback(self._collect)

    def __enter__(self) -> Speaker:
        _lock.acquire()
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._library is not None:
            self._library.espeak_Terminate()
            _unload(self._library)
            self._library = None
        _lock.release()

    def say(self, text: str, *, rate_wpm: int = 175, pitch: int = 50, pitch_range: int = 50) -> np.ndarray:
        """Speak `text`.

        Args:
            rate_wpm: words a minute, 80 to 450.
            pitch: 0 to 99, around the voice's own.
            pitch_range: 0 (monotone) to 99.

        Returns:
            Samples, int16, shape (num_samples,), mono, at SAMPLING_RATE.
        """
        import numpy as np

        assert self._library is not None, "use a Speaker in a with statement"
        assert RATE_LIMITS_WPM[0] <= rate_wpm <= RATE_LIMITS_WPM[1], rate_wpm
        self._library.espeak_SetParameter(PARAMETER_RATE, rate_wpm, 0)
        self._library.espeak_SetParameter(PARAMETER_PITCH, pitch, 0)
        self._library.espeak_SetParameter(PARAMETER_RANGE, pitch_range, 0)
        self._chunks.clear()
        self._phonemes.clear()
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.frombuffer(b"".join(self._chunks), dtype=np.int16)

    @property
    def phonemes(self) -> list[tuple[int, str]]:
        """Phonemes of the last text: (first sample, IPA with stress and length marks); "" is a pause."""
        return list(self._phonemes)

    def _collect(self, samples: int | None, num_samples: int, events: Any) -> int:
        if samples and num_samples > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * num_samples))
        index = 0
        while (event := events[index]).type != EVENT_LIST_TERMINATED:
            if event.type == EVENT_PHONEME:
                self._phonemes.append((event.sample, event.string.decode("utf-8", "replace")))
            index += 1
        return 0  # continue

    def _start(self) -> None:
        self._library = library = load_library()
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        start_library(library, AUDIO_OUTPUT_SYNCHRONOUS, INITIALIZE_PHONEME_EVENTS | INITIALIZE_PHONEME_IPA)
        library.espeak_ng_SetRandSeed(NOISE_SEED)  # initialising seeds it with the time of day
        library.espeak_SetSynthCallback(self._callback)
        if library.espeak_SetVoiceByName(self.voice.encode()) != 0:
            raise OptionError(
                f"espeak-ng has no voice {self.voice!r}.\nIts voices are the files in {data_path()}/lang."
            )


def _unload(library: ctypes.CDLL) -> None:
    """Unload the library and its globals from the process; ctypes has no public function for this."""
    import _ctypes

    unload = getattr(_ctypes, "dlclose" if os.name == "posix" else "FreeLibrary")
    unload(library._handle)
