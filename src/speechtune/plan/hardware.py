"""Precision, matrix products and loader workers, chosen for this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = [
    "Precision",
    "choose_num_workers",
    "choose_precision",
    "has_gpu",
    "keep_freed_memory",
    "set_up_libraries",
]


@dataclass(frozen=True, slots=True)
class Precision:
    """How a run computes.

    Args:
        bf16, fp16: mixed precision, as TrainingArguments takes them; both False is float32.
        matmul: torch's float32 matmul precision: "highest", or "medium", which on AMD CPUs selects oneDNN's float32
            kernels (1.39x faster, gradient error 4.4e-5 against 2.2e-5).
        description: for the user.
        on_cpu: training runs on the CPU.
    """

    bf16: bool
    fp16: bool
    matmul: str
    description: str
    on_cpu: bool = False

    def apply(self) -> None:
        """Set the matmul precision of this process and, on a CPU, keep freed memory."""
        import torch

        torch.set_float32_matmul_precision(self.matmul)
        if self.on_cpu:
            keep_freed_memory()


def set_up_libraries() -> None:
    """Set environment variables that torch and its libraries read when they are loaded; call it before that.

    What the user has set is kept.
    """
    # How long idle OpenMP threads spin before they sleep. Without a limit they take the cores from the loader and from
    # other programs; sleeping at once costs a small model a third of its speed (docs/log.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def has_gpu() -> bool:
    """Whether torch sees a GPU."""
    import torch

    return torch.cuda.is_available()


def choose_precision(asked: str, *, use_cpu: bool = False) -> Precision:
    """Return the precision for this machine.

    Args:
        asked: "auto", "fp32", "bf16" or "fp16".
        use_cpu: run on the CPU even if there is a GPU.
    """
    import torch

    if has_gpu() and not use_cpu:
        native = torch.cuda.get_device_capability() >= (8, 0)
        chosen = ("bf16" if native else "fp16") if asked == "auto" else asked
        return Precision(chosen == "bf16", chosen == "fp16", "high", f"{chosen} on {torch.cuda.get_device_name()}")
    matmul = "medium" if _is_amd() and medium_keeps_float32() else "highest"
    note = " (--fp16 needs a GPU)" if asked == "fp16" else ""
    if asked == "bf16" or (asked in ("auto", "fp16") and _has_bf16()):
        return Precision(True, False, matmul, f"bf16 on the CPU, float32 master weights{note}", True)
    kernels = "oneDNN" if matmul == "medium" else "default"
    return Precision(False, False, matmul, f"float32 on the CPU, {kernels} matrix products{note}", True)


def choose_num_workers(given: int | None, *, on_gpu: bool) -> int:
    """Return the number of loader processes: the user's, else enough for a GPU, or one where the CPU trains."""
    if given is not None:
        return given
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return min(8, max(cores - 1, 0)) if on_gpu else min(1, cores - 1)


def medium_keeps_float32() -> bool:
    """Whether torch's "medium" matmul precision computes in float32 here: on some hardware it is bf16."""
    import torch

    before = torch.get_float32_matmul_precision()
    one, other = (torch.linspace(-1, 1, 256 * 256).sin().view(256, 256) for _ in range(2))
    try:
        torch.set_float32_matmul_precision("medium")
        found = (one @ other.T).double()
    finally:
        torch.set_float32_matmul_precision(before)
    exact = one.double() @ other.double().T
    return bool((found - exact).norm() < 1e-5 * exact.norm())  # bf16 differs by 3e-3


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the next step instead of returning it to the system.

    A training step on a CPU frees and allocates gigabytes in large blocks, which glibc returns at once; clearing their
    pages again took 0.45 of 2.8 s a step (2.4 s afterwards). The process then stays at its peak size.

    Returns:
        Whether the C library supports it (glibc does).
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    return bool(mallopt(mmap_threshold, 1 << 30) and mallopt(trim_threshold, (1 << 31) - 1))


def _has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AVX512-BF16 or AMX); emulation is slower than float32."""
    line = next((line for line in _cpuinfo().splitlines() if line.startswith("flags")), "")
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(line.split())


def _is_amd() -> bool:
    return "AuthenticAMD" in _cpuinfo()


def _cpuinfo() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read(20_000)
    except OSError:
        return ""
