"""Recordings and transcripts that can't be used, one function each; and code that makes a model misbehave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from reliability.tiny import SAMPLING_RATE, read_manifest, write_clip, write_manifest


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def no_frames(path: Path) -> None:
    sf.write(path, np.zeros(0, np.float32), SAMPLING_RATE, format="WAV", subtype="PCM_16")


def truncated(path: Path) -> None:
    write_clip(path, 1.0, seed=1, format="FLAC")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def one_nan(path: Path) -> None:
    samples = np.random.default_rng(1).standard_normal(8000).astype(np.float32) * 0.1
    samples[4000] = np.nan
    sf.write(path, samples, SAMPLING_RATE, format="WAV", subtype="FLOAT")


def silent(path: Path) -> None:
    sf.write(path, np.zeros(8000, np.float32), SAMPLING_RATE, format="WAV", subtype="PCM_16")


def clipped(path: Path) -> None:
    samples = np.sign(np.sin(np.arange(8000) / 20)).astype(np.float32)
    sf.write(path, samples, SAMPLING_RATE, format="WAV", subtype="PCM_16")


AUDIO_FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "random_bytes": (random_bytes, "undecodable"),
    "empty_file": (empty_file, "empty"),
    "no_frames": (no_frames, "no_frames"),
    "truncated": (truncated, "truncated"),
    "missing": (missing, "missing_file"),
    "one_nan": (one_nan, "non_finite"),
    "silent": (silent, "silent"),
    "clipped": (clipped, "clipped"),
}


def spoil(corpus: Path, split: str, row: int, fault: str) -> str:
    """Give a row of the corpus an audio fault; returns the file's path in the manifest."""
    name = str(read_manifest(corpus, split)[row]["audio"])
    AUDIO_FAULTS[fault][0](corpus / name)
    return name


def change_row(corpus: Path, split: str, row: int, **fields: Any) -> str:
    """Change a row's fields in the manifest; returns its file's path there."""
    rows = read_manifest(corpus, split)
    rows[row] |= fields
    write_manifest(corpus, split, rows)
    return str(rows[row]["audio"])


# ---- to be called in the process of a command, before it


def poison(name: str = "005", value: float = float("nan"), *, first: int = 0, last: int = 10**9) -> None:
    """Make the loss of the utterance whose file has this name non-finite, in calls from `first` to `last`."""
    from speechtune.models.ctc.recogniser import CtcRecogniser
    from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser

    for kind in (CtcRecogniser, Seq2SeqRecogniser):
        kind.losses = _poisoned(kind.losses, name, value, first, last)  # type: ignore[attr-defined]


def _poisoned(losses: Callable[..., Any], name: str, value: float, first: int, last: int) -> Callable[..., Any]:
    calls = 0

    def poisoned(self: Any, model: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        values = losses(self, model, batch)
        hit = [name in said.file and first <= calls <= last for said in batch.utterances]
        return values * values.new_tensor([value if is_hit else 1.0 for is_hit in hit]) if any(hit) else values

    return poisoned


def poison_all() -> None:
    """Every loss is NaN."""
    poison("")


def full_disk_at_third_checkpoint(largest_bytes: int = 60_000) -> None:
    """From the third checkpoint on, no file may grow beyond this: the weights fit, the optimiser's state does not."""
    import resource

    import speechtune.training.resume

    begin, calls = speechtune.training.resume.begin_checkpoint, 0

    def begin_on_full_disk(folder: Path, step: int) -> Path:
        nonlocal calls
        calls += 1
        if calls == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, resource.RLIM_INFINITY))
        return begin(folder, step)

    speechtune.training.resume.begin_checkpoint = begin_on_full_disk


def full_disk_for_weights() -> None:
    """From the third checkpoint on, not even the weights fit."""
    full_disk_at_third_checkpoint(20_000)


def full_audio_cache() -> None:
    """The disk fills up while clips are put into the decoded-audio cache."""
    import errno

    import speechtune.audio.cache_files

    write, calls = speechtune.audio.cache_files._write_all, 0

    def write_some(descriptor: int, data: memoryview) -> None:
        nonlocal calls
        calls += 1
        if calls > 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(descriptor, data)

    speechtune.audio.cache_files._write_all = write_some


def kill_loader() -> None:
    """A loader worker is killed, as the system does when memory runs out."""
    import os
    import signal

    import torch

    from speechtune.data.dataset import BatchMaker

    make, calls = BatchMaker.__call__, 0

    def make_or_die(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if torch.utils.data.get_worker_info() is not None and calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return make(self, *args)

    BatchMaker.__call__ = make_or_die  # type: ignore[method-assign]


def die_moving_model() -> None:
    """kill -9 when some of the trained model's files have moved to their place."""
    import os
    import signal

    replace, moved = Path.replace, 0

    def replace_or_die(self: Path, target: Path) -> Path:
        nonlocal moved
        moved += self.parent.name == "tmp-model"
        if moved == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = replace_or_die  # type: ignore[method-assign, assignment]


def random_batch_seconds() -> None:
    """`--batch_seconds auto` finds something else each time."""
    import random

    import speechtune.data.auto_batch

    def found(*args: Any, **kwargs: Any) -> Any:
        return speechtune.data.auto_batch.FoundBatch(random.uniform(0.6, 3.0), "found")

    speechtune.data.auto_batch.find_batch_seconds = found
