"""Clocks of gpu.py: steps without waiting for the device, waits for data, waits for the device, a profile."""

from __future__ import annotations

import contextlib
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TFLOPS = 790.0  # of bf16 matrix products on an H100
WARM_STEPS, STEPS, PROFILED_STEPS = 8, 30, 4


class Clock:
    """Times steps, synchronising with the GPU only at both ends of the window, and waits for data at every step."""

    def __init__(self, trainer: Any, *, gflop: float, tiny: bool, seconds: Any) -> None:
        from transformers import TrainerCallback

        self.warm, self.steps = (1, 1) if tiny else (WARM_STEPS, STEPS)
        self.seconds, self.waited_s, self.in_window = seconds, 0.0, False
        self.profiler: Any = None
        self.gflop = gflop  # per second of audio
        self.step_s: list[float] = []
        clock = self

        class AtSteps(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                clock.at_step(state.global_step)

        trainer.add_callback(AtSteps())
        loader = trainer.get_train_dataloader
        trainer.get_train_dataloader = lambda: _Timed(loader(), self)

    def at_step(self, step: int) -> None:
        if step == self.warm:
            _synchronize()
            self.began_s, self.began_audio_s, self.in_window, self.last_s = (
                time.perf_counter(),
                self.seconds(),
                True,
                time.perf_counter(),
            )
        elif self.in_window:
            now_s = time.perf_counter()
            self.step_s.append(now_s - self.last_s)
            self.last_s = now_s
            if step == self.warm + self.steps:
                _synchronize()
                self.took_s, self.audio_s = time.perf_counter() - self.began_s, self.seconds() - self.began_audio_s
                self.in_window = False
                self._look_closer()

    def _look_closer(self) -> None:
        """Profile the last steps, after the measured ones, and report waits for the device."""
        import torch

        if has_gpu():
            torch.cuda.set_sync_debug_mode("warn")
        if self.profiler is not None:
            self.profiler.start()

    def row(self, syncs: Counter[str]) -> dict[str, Any]:
        hours = self.audio_s / self.took_s
        limit = TFLOPS * 1e3 / self.gflop
        return {
            "hours_per_hour": round(hours, 1),
            "limit": round(limit),
            "share": round(hours / limit, 3),
            "audio_s_a_step": round(self.audio_s / self.steps, 1),
            "step_ms": round(1e3 * self.took_s / self.steps, 1),
            "median_host_ms": round(1e3 * statistics.median(self.step_s), 1),
            "data_wait_share": round(self.waited_s / self.took_s, 4),
            "peak_memory_gb": _peak_memory_gb(),
            "syncs": dict(syncs.most_common(10)),
        }


class _Timed:
    """A loader that measures the waits for its batches."""

    def __init__(self, loader: Any, clock: Clock) -> None:
        self._loader, self._clock = loader, clock

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        while True:
            start_s = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            if self._clock.in_window:
                self._clock.waited_s += time.perf_counter() - start_s
            yield batch

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


@contextlib.contextmanager
def syncs_counted() -> Iterator[Counter[str]]:
    """Count the places where the host waits for the GPU, by torch's sync debug mode."""
    import torch

    counts: Counter[str] = Counter()
    if not has_gpu():
        yield counts
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            shown = warnings.showwarning

            def count(message: Any, category: Any, filename: str, lineno: int, *more: Any, **named: Any) -> None:
                if "synchron" in str(message):
                    counts[f"{'/'.join(Path(filename).parts[-3:])}:{lineno}"] += 1
                else:
                    shown(message, category, filename, lineno, *more, **named)

            warnings.showwarning = count
            yield counts
    finally:
        torch.cuda.set_sync_debug_mode("default")


def make_profiler() -> Any:
    from torch.profiler import ProfilerActivity, profile

    return profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if has_gpu() else [])])


def top_ten(profiler: Any) -> list[dict[str, Any]]:
    key = "self_device_time_total" if has_gpu() else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in events) or 1.0
    return [
        {"name": event.key[:90], "share": round(getattr(event, key) / total, 3), "calls": event.count}
        for event in events[:10]
    ]


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _synchronize() -> None:
    import torch

    if has_gpu():
        torch.cuda.synchronize()


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if has_gpu() else "CPU"


def _peak_memory_gb() -> float:
    import torch

    return round(torch.cuda.max_memory_allocated() / 1e9, 1) if has_gpu() else 0.0
