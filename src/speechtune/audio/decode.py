"""Decode audio files to mono float32 at the model's rate, or read their length without decoding.

    file or bytes -> kind, missing end (containers.py, mp3.py) -> libsndfile, else ffmpeg.py -> mono -> soxr, in blocks

Memory holds the result and one block, however long or dense the file is. The outcome is samples or an `AudioError`
with a reason that can be counted:

    missing_file     no such file                      bad_rate       sampling rate outside 1 to 768 kHz
    not_a_file       folder, device, pipe, /proc       too_long       over the caller's limit, or over 24 h
    unreadable       the system refuses to read it     non_finite     a sample is NaN or infinite
    empty            0 bytes                           out_of_range   samples beyond +-8: not scaled to [-1, 1]
    no_frames        a header without samples          undecodable    everything else that is not audio
    truncated        over 0.1 s of its audio is gone

Rejected: librosa (pulls in numba and scikit-learn), torchcodec (needs a system FFmpeg), one decoder for all (PyAV reads
MP3 at less than half of libsndfile's speed; libsndfile lacks M4A and WebM).
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from speechtune.audio import ffmpeg
from speechtune.audio.opening import COPY_AGAIN, TOLERANCE_S, Recording, opened, refuse

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["AudioHeader", "load_audio", "read_header"]

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
MAX_DURATION_S = 24 * 3600.0
MAX_PEAK = 8.0  # decoders overshoot full scale a little; 16-bit numbers stored as floats do so by far

_BLOCK_SAMPLES = 1 << 20  # decoded and resampled at once
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports 2^63 - 1 for a FLAC without a length


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """Length and format of a recording, as its file tells them."""

    duration_s: float
    sampling_rate: int  # Hz, of the file
    num_channels: int
    format: str  # WAV, FLAC, MP3, OGG, NIST, MP4, WEBM, ...


def read_header(audio: str | bytes, *, name: str = "") -> AudioHeader:
    """Read length, rate and channels of a recording without decoding it.

    Exact for MP3 of any bit rate, whose frames are counted. Formats without a length (AAC streams, WebM from a
    browser) have their packets counted.

    Args:
        audio: path of a file, or the bytes of an encoded file.
        name: for messages; the path if empty.

    Raises:
        AudioError: it can't be read, is no audio, has no samples, or its end is known to be missing.
    """
    with opened(audio, name) as recording:
        header = _header(recording)
        if not header.duration_s > 0:
            refuse(recording.name, "has a header but no samples", "no_frames")
        _check_plausible(recording.name, header.duration_s, header.sampling_rate, MAX_DURATION_S)
        return header


def load_audio(
    audio: str | bytes, sampling_rate: int, *, name: str = "", max_duration_s: float = MAX_DURATION_S
) -> npt.NDArray[np.float32]:
    """Decode a recording to one channel at `sampling_rate`.

    Channels are averaged. Resampling is soxr's HQ: linear phase, 20 bits. Integer samples are divided by 2^(bits - 1).

    Args:
        audio: path of a file, or the bytes of an encoded file.
        sampling_rate: of the result, in Hz.
        name: for messages; the path if empty.
        max_duration_s: decoding stops with an error where a longer recording passes this limit.

    Returns:
        float32 (num_samples,), finite, nominally in [-1, 1]: decoding and resampling may overshoot a little.

    Raises:
        AudioError: see the table of reasons at the top of this file. Silence is no error: see `signal_problem`.
    """
    with opened(audio, name) as recording, np.errstate(invalid="ignore", over="ignore"):
        output = _Output(recording.name, sampling_rate, max_duration_s)
        return output.finish(_decode(recording, output))


class _Output:
    """Mono blocks of a recording, resampled as they come (to the same samples as resampling all at once)."""

    def __init__(self, name: str, sampling_rate: int, max_duration_s: float) -> None:
        self.name, self.max_duration_s = name, max_duration_s
        self._target_rate = self._rate = sampling_rate  # Hz
        self._earlier_s, self._num_decoded = 0.0, 0  # decoded at earlier rates, and at this one
        self._peak = 0.0  # NaN once a sample is NaN
        self._resampler: soxr.ResampleStream | None = None  # at this rate; None: not needed
        self._pending: list[npt.NDArray[np.float32]] = []  # at this rate
        self._num_pending = 0
        self._blocks: list[npt.NDArray[np.float32]] = []  # at the target rate

    @property
    def duration_s(self) -> float:
        return self._earlier_s + self._num_decoded / self._rate

    def add(self, block: npt.NDArray[np.float32], rate: int) -> None:
        """Append decoded samples (n,) at `rate` Hz, which may change on the way: in HE-AAC and joined MP3s."""
        if rate != self._rate:
            self._resample(is_last=True)
            self._earlier_s, self._num_decoded, self._rate = self.duration_s, 0, rate
            is_target = rate == self._target_rate
            self._resampler = None if is_target else soxr.ResampleStream(rate, self._target_rate, 1, quality="HQ")
        self._pending.append(block)
        self._num_pending += len(block)
        self._num_decoded += len(block)
        _check_plausible(self.name, self.duration_s, rate, self.max_duration_s)
        if self._num_pending >= _BLOCK_SAMPLES:
            self._resample()

    def finish(self, expected_s: float) -> npt.NDArray[np.float32]:
        """Return all samples (num_samples,).

        Raises:
            AudioError: there are none, fewer than `expected_s` seconds, or they are no sound.
        """
        self._resample(is_last=True)
        samples = _joined(self._blocks)
        if self.duration_s < expected_s - TOLERANCE_S:
            found = f"is cut short or damaged: not all of its {expected_s:.2f} s can be decoded"
            refuse(self.name, f"{found}. {COPY_AGAIN}", "truncated")
        if not math.isfinite(self._peak):
            refuse(self.name, "has samples that are NaN or infinite", "non_finite")
        if self._peak > MAX_PEAK:
            found = f"has samples up to {self._peak:.6g}, where full scale is 1. Scale it to [-1, 1]"
            refuse(self.name, found, "out_of_range")
        if not len(samples):
            refuse(self.name, f"has no samples at {self._target_rate} Hz", "no_frames")
        return samples

    def _resample(self, *, is_last: bool = False) -> None:
        block = _joined(self._pending)
        self._num_pending = 0
        if len(block):
            self._peak = float(np.max([self._peak, block.max(), -block.min()]))
        if self._resampler is not None:
            block = self._resampler.resample_chunk(block, last=is_last)
        if len(block):
            self._blocks.append(block)


def _joined(blocks: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Concatenate and remove `blocks`, freeing each once it is copied."""
    if len(blocks) == 1:
        return blocks.pop()
    whole = np.empty(sum(map(len, blocks)), np.float32)
    end = len(whole)
    while blocks:
        block = blocks.pop()
        whole[end - len(block) : end] = block
        end -= len(block)
    return whole


class _SequentialFile(soundfile.SoundFile):
    """A file read from start to end: soundfile would seek after each block, which makes mpg123 lose its place."""

    def seekable(self) -> bool:
        return False


def _sound_file(recording: Recording) -> soundfile.SoundFile | None:
    """Open with libsndfile; return None if FFmpeg has to read the file.

    Opened by descriptor, since names may be anything ("-", "a.raw", not UTF-8); MP3 without its tags.
    """
    file, mp3 = recording.file, recording.mp3
    if mp3 is not None and not mp3.is_clean:
        return None
    file.seek(0 if mp3 is None else mp3.start)
    if mp3 is not None:
        file = io.BytesIO(file.read(mp3.end - mp3.start))
    try:
        sound = _SequentialFile(file if isinstance(file, io.BytesIO) else file.fileno(), closefd=False)
    except soundfile.LibsndfileError:
        if ffmpeg.can_open(recording.kind):
            return None
        raise
    # libsndfile reads no further than its guess of an MP3's length, and fails on a FLAC without a length.
    if (mp3.num_samples if mp3 is not None else 0) <= sound.frames < _UNKNOWN_FRAMES:
        return sound
    sound.close()
    return None


def _header(recording: Recording) -> AudioHeader:
    """Return what the file tells; duration_s is 0 if it has no samples."""
    mp3 = recording.mp3
    if mp3 is not None:
        return AudioHeader(mp3.duration_s, mp3.sampling_rate, mp3.num_channels, "MP3")
    if (sound := _sound_file(recording)) is None:
        return AudioHeader(*ffmpeg.read_header(recording.file, recording.kind), recording.kind)
    with sound:
        return AudioHeader(sound.frames / sound.samplerate, sound.samplerate, sound.channels, sound.format)


def _decode(recording: Recording, output: _Output) -> float:
    """Decode into `output`; return the duration in seconds that the file promises, 0 if it promises none."""
    mp3_duration_s = recording.mp3.duration_s if recording.mp3 is not None else 0.0
    if (sound := _sound_file(recording)) is None:
        return max(ffmpeg.decode(recording.file, recording.kind, output.add), mp3_duration_s)
    with sound:
        duration_s = mp3_duration_s or sound.frames / sound.samplerate
        _check_plausible(output.name, duration_s, sound.samplerate, output.max_duration_s)
        num_left, num_channels = sound.frames, sound.channels
        while num_left > 0:
            num_wanted = min(num_left, max(1, _BLOCK_SAMPLES // num_channels))
            try:
                block = sound.read(out=np.empty((num_wanted, num_channels), np.float32))
            except soundfile.LibsndfileError:  # FLAC "lost sync": the caller sees that samples are missing
                break
            output.add(block[:, 0] if num_channels == 1 else block.mean(axis=1), sound.samplerate)
            num_left = num_left - num_wanted if len(block) == num_wanted else 0
        return duration_s


def _check_plausible(name: str, duration_s: float, sampling_rate: int, max_duration_s: float) -> None:
    if not MIN_RATE_HZ <= sampling_rate <= MAX_RATE_HZ:
        found = f"has a sampling rate of {sampling_rate} Hz, outside {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
        refuse(name, f"{found}. Its header is broken", "bad_rate")
    if duration_s > min(max_duration_s, MAX_DURATION_S):
        limit = f"{max_duration_s:g} s" if max_duration_s < MAX_DURATION_S else f"{MAX_DURATION_S / 3600:.0f} h"
        refuse(name, f"lasts over {limit}. Cut it into pieces", "too_long")
