"""The precision fits the processor, and what it switches on is what it says."""

from __future__ import annotations

import os

import pytest
import torch

from speechtune.plan import hardware as machine

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
    assert machine.choose_precision("auto").bf16
    processor(OLD_INTEL)
    assert not machine.choose_precision("auto").bf16


def test_the_users_format_wins(processor):
    processor(AMD)
    assert not machine.choose_precision("fp32").bf16
    processor(OLD_INTEL)
    assert machine.choose_precision("bf16").bf16


def test_fp16_without_a_gpu_falls_back_and_says_so(processor):
    processor(OLD_INTEL)
    chosen = machine.choose_precision("fp16")
    assert not (chosen.fp16 or chosen.bf16)
    assert "--fp16 needs a GPU" in chosen.description


def test_onednn_products_only_on_amd_and_only_where_they_stay_float32(processor, monkeypatch: pytest.MonkeyPatch):
    processor(OLD_INTEL)
    assert machine.choose_precision("fp32").matmul == "highest"
    processor(AMD)
    monkeypatch.setattr(machine, "medium_keeps_float32", lambda: True)
    assert machine.choose_precision("fp32").matmul == "medium"
    monkeypatch.setattr(machine, "medium_keeps_float32", lambda: False)
    assert machine.choose_precision("fp32").matmul == "highest"


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
    assert machine.choose_num_workers(0, on_gpu=True) == 0
    assert machine.choose_num_workers(None, on_gpu=False) == 1
    assert machine.choose_num_workers(None, on_gpu=True) == 3


def test_what_libraries_read_from_the_environment_is_set_unless_the_user_did(monkeypatch: pytest.MonkeyPatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that what is here now comes back
        monkeypatch.delenv(name)
    machine.set_up_libraries()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    machine.set_up_libraries()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    machine.set_up_libraries()
    assert "GOMP_SPINCOUNT" not in os.environ
