"""What this machine does best: precision, matrix products, loader workers; chosen at the start."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["Precision", "choose_num_workers", "choose_precision", "keep_freed_memory", "set_up_libraries"]


@dataclass(frozen=True, slots=True)
class Precision:
    """How a run computes.

    Args:
        bf16, fp16: mixed precision, as TrainingArguments takes them; both False is float32.
        matmul: torch's float32 matrix product precision: "highest", or "medium", which on AMD processors takes oneDNN's
            float32 kernels (1.39 x faster, gradient error 4.4e-5 against 2.2e-5).
        line: what is said of it.
        on_cpu: training runs on the processor.
    """

    bf16: bool
    fp16: bool
    matmul: str
    line: str

    on_cpu: bool = False

    def apply(self) -> None:
        """Set the process' matrix product precision, and how it treats freed memory."""
        import torch

        torch.set_float32_matmul_precision(self.matmul)
        if self.on_cpu:
            keep_freed_memory()


def set_up_libraries() -> None:
    """Set what torch and its libraries read from the environment once, when they are loaded: call it before that.

    What the user has set stays.
    """
    # How long threads that wait for each other spin before they sleep. Spinning as long as they like takes the cores
    # from the loader and from other programs; sleeping at once costs a small model a third of its speed (docs/log.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def choose_precision(wish: str, *, use_cpu: bool = False) -> Precision:
    """The precision for this machine.

    Args:
        wish: "auto", "fp32", "bf16" or "fp16" (also from --fp16 and --bf16).
        use_cpu: run on the processor though there is a GPU.
    """
    import torch

    if torch.cuda.is_available() and not use_cpu:
        name = torch.cuda.get_device_name()
        native = torch.cuda.get_device_capability() >= (8, 0)
        chosen = ("bf16" if native else "fp16") if wish == "auto" else wish
        return Precision(chosen == "bf16", chosen == "fp16", "high", f"{chosen} on {name}")
    matmul = "medium" if _is_amd() and medium_keeps_float32() else "highest"
    kernels = "oneDNN" if matmul == "medium" else "default"
    note = ""
    if wish == "fp16":
        note = " (--fp16 needs a GPU)"
        wish = "auto"
    if wish == "auto":
        wish = "bf16" if _has_bf16() else "fp32"
    if wish == "bf16":
        return Precision(True, False, matmul, f"bf16 on the processor, float32 master weights{note}", True)
    return Precision(False, False, matmul, f"float32 on the processor, {kernels} matrix products{note}", True)


def choose_num_workers(given: int | None, *, has_gpu: bool) -> int:
    """Loader processes: the user's number, else enough for a GPU, or one beside a training processor."""
    if given is not None:
        return given
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return min(8, max(cores - 1, 0)) if has_gpu else min(1, cores - 1)


def medium_keeps_float32() -> bool:
    """Whether torch's "medium" precision computes in float32 here: some hardware is given bf16 instead."""
    import torch

    before = torch.get_float32_matmul_precision()
    one, other = (torch.linspace(-1, 1, 256 * 256).sin().view(256, 256) for _ in range(2))
    try:
        torch.set_float32_matmul_precision("medium")
        found = (one @ other.T).double()
    finally:
        torch.set_float32_matmul_precision(before)
    exact = one.double() @ other.double().T
    return bool((found - exact).norm() < 1e-5 * exact.norm())  # bf16 is off by 3e-3


def keep_freed_memory() -> bool:
    """Keep what is freed for the next step, instead of giving it back to the system and asking for it again.

    A training step on a processor frees and allocates gigabytes in blocks that the C library returns at once; clearing
    their pages anew took 0.45 of 2.8 s a step (afterwards none, and 2.4 s). The price: the process stays at its peak.

    Returns:
        Whether the C library knows how (glibc does).
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    return bool(mallopt(mmap_threshold, 1 << 30) and mallopt(trim_threshold, (1 << 31) - 1))


def _has_bf16() -> bool:
    """Hardware bf16 products: AVX512-BF16 or AMX; emulated ones are slower than float32."""
    flags = _cpu_flags()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _is_amd() -> bool:
    return "AuthenticAMD" in _cpuinfo()


def _cpu_flags() -> set[str]:
    line = next((line for line in _cpuinfo().splitlines() if line.startswith("flags")), "")
    return set(line.split(":", 1)[-1].split())


def _cpuinfo() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read(20_000)
    except OSError:
        return ""
