"""The number format fits the processor, and what it switches on is what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from speechtune import machine

AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512_bf16\n"
OLD_INTEL = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2\n"


@pytest.fixture(autouse=True)
def on_a_processor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch):
    return lambda text: monkeypatch.setattr(machine, "_cpuinfo", lambda: text)


def test_bf16_where_the_hardware_multiplies_it(processor):
    processor(AMD)
    assert machine.choose_number_format("auto").bf16
    processor(OLD_INTEL)
    assert not machine.choose_number_format("auto").bf16


def test_the_users_format_wins(processor):
    processor(AMD)
    assert not machine.choose_number_format("fp32").bf16
    processor(OLD_INTEL)
    assert machine.choose_number_format("bf16").bf16


def test_fp16_without_a_gpu_falls_back_and_says_so(processor):
    processor(OLD_INTEL)
    chosen = machine.choose_number_format("fp16")
    assert not (chosen.fp16 or chosen.bf16)
    assert "--fp16 needs a GPU" in chosen.line


def test_onednn_products_only_on_amd_and_only_where_they_stay_float32(processor, monkeypatch: pytest.MonkeyPatch):
    processor(OLD_INTEL)
    assert machine.choose_number_format("fp32").matmul == "highest"
    processor(AMD)
    monkeypatch.setattr(machine, "medium_keeps_float32", lambda: True)
    assert machine.choose_number_format("fp32").matmul == "medium"
    monkeypatch.setattr(machine, "medium_keeps_float32", lambda: False)
    assert machine.choose_number_format("fp32").matmul == "highest"


def test_asking_about_precision_leaves_it_as_it_was():
    torch.set_float32_matmul_precision("high")
    assert isinstance(machine.medium_keeps_float32(), bool)
    assert torch.get_float32_matmul_precision() == "high"


def test_keeping_freed_memory_changes_no_result():
    values = torch.linspace(-1, 1, 1000).view(10, 100)
    before = values @ values.T
    assert machine.keep_freed_memory() in (True, False)
    assert torch.equal(values @ values.T, before)


def test_workers_are_the_users_number_or_fit_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    assert machine.choose_num_workers(0, has_gpu=True) == 0
    assert machine.choose_num_workers(None, has_gpu=False) == 1
    assert machine.choose_num_workers(None, has_gpu=True) == 3


def test_what_libraries_read_from_the_environment_is_set_unless_the_user_did(monkeypatch: pytest.MonkeyPatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "THP_MEM_ALLOC_ENABLE"):
        monkeypatch.delenv(name, raising=False)
    machine.set_up_libraries()
    assert (os.environ["GOMP_SPINCOUNT"], os.environ["THP_MEM_ALLOC_ENABLE"]) == ("10000", "1")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    machine.set_up_libraries()
    assert "GOMP_SPINCOUNT" not in os.environ
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


def test_large_tensors_lie_in_huge_pages():
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists() or "[never]" in setting.read_text():
        pytest.skip("this system has no transparent huge pages")
    work = (
        "from speechtune.machine import set_up_libraries; set_up_libraries(); import torch\n"
        "values = torch.ones(16 << 20)\n"
        "lines = open('/proc/self/smaps_rollup').read().splitlines()\n"
        "print(next(int(line.split()[1]) for line in lines if line.startswith('AnonHugePages')))"
    )
    env = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True, env=env)
    assert int(done.stdout) > 32 << 10  # kB; half of the 64 MB at least: the system may be short of them
