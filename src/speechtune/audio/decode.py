"""Audio files in, mono float32 at the model's rate out; and their length without decoding them.

    file or bytes -> kind, missing end (containers.py, mp3.py) -> libsndfile, else ffmpeg.py -> one channel -> soxr

Whatever the bytes are, the answer is samples or an `AudioError` with a reason that can be counted:

    missing_file     no such file                      bad_rate       sampling rate outside 1 to 768 kHz
    unreadable       the system refuses to read it     too_long       over 24 h: a broken header
    empty            0 bytes                           non_finite     a sample is NaN or infinite
    no_frames        a header without samples          out_of_range   samples beyond +-8: not scaled to [-1, 1]
    truncated        over 0.1 s of its audio is gone   undecodable    everything else that is not audio

Rejected: librosa (pulls in numba and scikit-learn), torchcodec (needs a system FFmpeg), one decoder for all (PyAV reads
MP3 at less than half of libsndfile's speed; libsndfile lacks M4A and WebM).
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np
import soundfile
import soxr

from speechtune.audio import ffmpeg
from speechtune.audio.containers import find_missing_end, kind_of, sphere_fields
from speechtune.audio.mp3 import Mp3Scan, scan_mp3
from speechtune.audio.pcm import Samples, full_scale
from speechtune.errors import AudioError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["AudioHeader", "bytes_key", "file_key", "load_audio", "read_header", "signal_problem"]

TOLERANCE_S = 0.1  # audio that may be missing at the end: MP3 frames last up to 72 ms, AAC frames up to 128 ms
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
MAX_DURATION_S = 24 * 3600.0
MAX_PEAK = 8.0  # decoders overshoot full scale a little; 16-bit numbers stored as floats do so by far
MIN_SPEECH_S = 0.025  # one frame of a wav2vec2 feature encoder
SILENCE_PEAK = 1e-4  # -80 dB of full scale, around the mean
CLIPPED_LEVEL, CLIPPED_SHARE = 0.985, 0.01  # more than 1 % of the samples at full scale: cut off by the recorder

_BLOCK_SAMPLES = 1 << 22  # decoded at once, over all channels: memory never follows a header's claim
_UNKNOWN_FRAMES = 1 << 62  # libsndfile says 2^63 - 1 where a FLAC doesn't tell


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """What a file says of itself."""

    duration_s: float
    sampling_rate: int  # Hz, of the file
    num_channels: int
    format: str  # WAV, FLAC, MP3, OGG, NIST, MP4, WEBM, ...


@dataclass(frozen=True, slots=True)
class _Recording:
    """An opened file, looked at but not decoded."""

    file: BinaryIO
    kind: str  # as containers.kind_of says, or MP3
    mp3: Mp3Scan | None
    name: str  # for messages


def file_key(path: str) -> str:
    """Name of a file's content by its path, size and time of change: 32 hexadecimal digits.

    Raises:
        AudioError: the file is not there.
    """
    try:
        status = os.stat(path)  # noqa: PTH116  (a Path object costs more than the call)
    except (OSError, ValueError) as error:
        _refuse_to_open(_shown(path, ""), error)
    text = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"  # noqa: PTH100
    return hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()


def bytes_key(data: bytes) -> str:
    """Name of an encoded file's content: a hash of its bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_header(audio: str | bytes, *, name: str = "") -> AudioHeader:
    """Length, rate and channels of a recording, without decoding it.

    Exact for MP3 of any bit rate, whose frames are counted. Formats that don't tell their length (AAC streams, WebM
    from a browser) have their packets counted.

    Args:
        audio: path of a file, or the bytes of an encoded file.
        name: how messages call it; the path if empty.

    Raises:
        AudioError: it can't be read, is no audio, has no samples, or its end is known to be missing.
    """
    with _Opened(audio, name) as recording:
        header = _header(recording)
        if not header.duration_s > 0:
            _refuse(recording.name, "has a header but no samples", "no_frames")
        _check_plausible(recording.name, header.duration_s, header.sampling_rate)
        return header


def load_audio(audio: str | bytes, sampling_rate: int, *, name: str = "") -> npt.NDArray[np.float32]:
    """Decode a recording to one channel at `sampling_rate`.

    Channels are averaged. Resampling is soxr's HQ: linear phase, 20 bits. Integer samples are divided by 2^(bits - 1).

    Args:
        audio: path of a file, or the bytes of an encoded file.
        sampling_rate: wanted, in Hz.
        name: how messages call it; the path if empty.

    Returns:
        float32 (num_samples,), finite, nominally in [-1, 1]: decoding and resampling may overshoot a little.

    Raises:
        AudioError: see the table of reasons at the top of this file. Silence is no error: see `signal_problem`.
    """
    with _Opened(audio, name) as recording:
        with np.errstate(invalid="ignore", over="ignore"):
            samples, rate = _decode(recording)
        low, high = float(samples.min()), float(samples.max())
        if not math.isfinite(high - low):
            _refuse(recording.name, "has samples that are NaN or infinite", "non_finite")
        if max(high, -low) > MAX_PEAK:
            found = f"has samples up to {max(high, -low):.6g}, where full scale is 1. Scale it to [-1, 1]"
            _refuse(recording.name, found, "out_of_range")
        if rate != sampling_rate:
            samples = soxr.resample(samples, rate, sampling_rate, quality="HQ")
        if not len(samples):
            _refuse(recording.name, f"is too short to have a sample at {sampling_rate} Hz", "no_frames")
        return samples


def signal_problem(samples: Samples, sampling_rate: int) -> str | None:
    """Why decoded audio may be useless for speech recognition: 'non_finite', 'too_short', 'silent', 'clipped' or None.

    Args:
        samples: float32 or int16 (num_samples,).
        sampling_rate: in Hz.
    """
    if len(samples) < MIN_SPEECH_S * sampling_rate:
        return "non_finite" if not np.isfinite(samples).all() else "too_short"
    scale = full_scale(samples)
    low, high = float(samples.min()) / scale, float(samples.max()) / scale
    if not math.isfinite(high - low):
        return "non_finite"
    if high - low < 2 * SILENCE_PEAK:
        return "silent"
    if max(high, -low) >= CLIPPED_LEVEL:
        level = CLIPPED_LEVEL * scale
        num_clipped = int(np.count_nonzero(samples >= level) + np.count_nonzero(samples <= -level))
        if num_clipped > CLIPPED_SHARE * len(samples):
            return "clipped"
    return None


class _Opened:
    """Context that opens a recording, looks at it, and turns whatever goes wrong inside into an AudioError."""

    def __init__(self, audio: str | bytes, name: str) -> None:
        self._audio = audio
        self._name = _shown(audio, name)
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Recording:
        try:
            self._file = _open(self._audio, self._name)
            return _look(self._file, self._name)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self._file is not None:
            self._file.close()
        if isinstance(error, OSError):
            _refuse_to_open(self._name, error)
        # Decoders raise nearly anything on hostile bytes. What is no Exception (Ctrl-C), and our own bugs, pass.
        if isinstance(error, Exception) and not isinstance(error, (AudioError, AssertionError)):
            found = f"can't be decoded: {_one_line(error)}. Convert it to WAV or FLAC, or leave it out"
            _refuse(self._name, found, "undecodable", error)


def _open(audio: str | bytes, name: str) -> BinaryIO:
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return io.BytesIO(audio)
    try:
        if not stat.S_ISREG(os.stat(audio).st_mode):  # noqa: PTH116  (opening a pipe would wait for ever)
            _refuse(name, "is not a file", "unreadable")
        return open(audio, "rb", buffering=0)  # noqa: PTH123
    except (OSError, ValueError) as error:
        _refuse_to_open(name, error)


def _look(file: BinaryIO, name: str) -> _Recording:
    """Find the kind of a file, and whether its end is missing."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        _refuse(name, "is empty (0 bytes). Copy it again, or leave it out", "empty")
    file.seek(0)
    head = file.read(1024)
    kind, mp3 = kind_of(head), None
    if kind == "NIST" and "shorten" in sphere_fields(head).get("sample_coding", ""):
        found = "is SPHERE audio compressed with shorten. Convert it with the LDC's sph2pipe (sph2pipe -f wav IN OUT)"
        _refuse(name, found, "undecodable")
    missing = find_missing_end(file, size, kind)
    if not kind:
        file.seek(0)
        mp3 = scan_mp3(file.read())
    if mp3 is not None:
        kind = "MP3"
        if mp3.is_cut:
            missing = "its last MP3 frame is incomplete"
        elif mp3.lost_samples > TOLERANCE_S * mp3.sampling_rate:
            missing = f"about {mp3.lost_samples / mp3.sampling_rate:.2f} s of MP3 frames are missing or damaged"
    if missing:
        _refuse(name, f"is cut short: {missing}. Copy it again, or leave it out", "truncated")
    return _Recording(file, kind, mp3, name)


def _header(recording: _Recording) -> AudioHeader:
    """What the file says of itself; duration_s is 0 where it has no samples."""
    mp3 = recording.mp3
    if mp3 is not None:
        return AudioHeader(mp3.num_samples / mp3.sampling_rate, mp3.sampling_rate, mp3.num_channels, "MP3")
    try:
        with _sound_file(recording) as sound:
            if sound.frames < _UNKNOWN_FRAMES:
                return AudioHeader(sound.frames / sound.samplerate, sound.samplerate, sound.channels, sound.format)
    except soundfile.LibsndfileError:
        if not ffmpeg.can_open(recording.kind):
            raise
    return AudioHeader(*ffmpeg.read_header(recording.file, recording.kind), recording.kind)


def _sound_file(recording: _Recording) -> soundfile.SoundFile:
    """Open with libsndfile: by descriptor, since names may be anything ("-", "a.raw", not UTF-8); MP3 without tags."""
    if recording.mp3 is not None:
        recording.file.seek(recording.mp3.start)
        return soundfile.SoundFile(io.BytesIO(recording.file.read(recording.mp3.end - recording.mp3.start)))
    recording.file.seek(0)
    if isinstance(recording.file, io.BytesIO):
        return soundfile.SoundFile(recording.file)
    return soundfile.SoundFile(recording.file.fileno(), closefd=False)


def _decode(recording: _Recording) -> tuple[npt.NDArray[np.float32], int]:
    """Mono float32 (num_samples,) at the file's own rate in Hz, and that rate."""
    mp3, name = recording.mp3, recording.name
    decoded = None
    if mp3 is None or mp3.is_clean:
        try:
            with _sound_file(recording) as sound:
                # libsndfile reads no further than its guess of an MP3's length, and fails on a FLAC that doesn't tell.
                if (mp3.num_samples if mp3 is not None else 0) <= sound.frames < _UNKNOWN_FRAMES:
                    _check_plausible(name, sound.frames / sound.samplerate, sound.samplerate)
                    decoded = _read_blocks(sound, name), sound.samplerate, sound.frames
        except soundfile.LibsndfileError:
            if not ffmpeg.can_open(recording.kind):
                raise
    if decoded is None:
        decoded = ffmpeg.decode(recording.file, recording.kind, MAX_DURATION_S)
    samples, rate, expected = decoded
    expected = mp3.num_samples if mp3 is not None else expected
    if len(samples) < expected - TOLERANCE_S * rate:
        found = f"is cut short or damaged: not all of its {expected / rate:.2f} s can be decoded"
        _refuse(name, f"{found}. Copy it again, or leave it out", "truncated")
    if not len(samples):
        _refuse(name, "has a header but no samples", "no_frames")
    return samples, rate


def _read_blocks(sound: soundfile.SoundFile, name: str) -> npt.NDArray[np.float32]:
    """Mean of the channels, (num_samples,), as far as it can be decoded."""
    block_frames = max(1, sound.frames)
    if sound.format != "MP3":  # whose frames were counted; soundfile seeks after each block, which unsettles mpg123
        block_frames = min(block_frames, max(1, _BLOCK_SAMPLES // sound.channels))
    blocks: list[npt.NDArray[np.float32]] = []
    num_samples = 0
    while True:
        block = np.empty((block_frames, sound.channels), np.float32)
        try:
            block = sound.read(out=block)
        except soundfile.LibsndfileError:  # FLAC "lost sync": the caller sees that samples are missing
            break
        blocks.append(block[:, 0] if sound.channels == 1 else block.mean(axis=1))
        num_samples += len(block)
        _check_plausible(name, num_samples / sound.samplerate, sound.samplerate)
        if len(block) < block_frames or num_samples >= sound.frames:
            break
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros(0, np.float32), *blocks])


def _check_plausible(name: str, duration_s: float, sampling_rate: int) -> None:
    if not MIN_RATE_HZ <= sampling_rate <= MAX_RATE_HZ:
        found = f"has a sampling rate of {sampling_rate} Hz, outside {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz"
        _refuse(name, f"{found}. Its header is broken", "bad_rate")
    if duration_s > MAX_DURATION_S:
        found = f"lasts {duration_s / 3600:.1f} h by its header; more than {MAX_DURATION_S / 3600:.0f} h is not read"
        _refuse(name, f"{found}. Cut it into pieces", "too_long")


def _shown(audio: str | bytes, name: str) -> str:
    """What messages call a recording, on one line."""
    if not name:
        name = f"audio of {len(audio)} bytes" if not isinstance(audio, (str, os.PathLike)) else os.fspath(audio)
    return name if name.isprintable() else repr(name)


def _one_line(error: BaseException) -> str:
    text = getattr(error, "error_string", None) or str(error) or type(error).__name__  # libsndfile's, without the path
    return " ".join(text.split())[:200].rstrip(".")


def _refuse(name: str, found: str, reason: str, cause: BaseException | None = None) -> NoReturn:
    raise AudioError(f"{name}: {found}.", reason=reason) from cause


def _refuse_to_open(name: str, error: OSError | ValueError) -> NoReturn:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        _refuse(name, "no such file", "missing_file", error)
    _refuse(name, f"can't be read: {getattr(error, 'strerror', None) or error}", "unreadable", error)
