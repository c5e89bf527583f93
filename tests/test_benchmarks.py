"""The benchmarks' pieces run, and their two sides do the same work, on tiny sizes."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import common  # noqa: E402
import ctc_step  # noqa: E402
import page  # noqa: E402


@pytest.fixture(autouse=True)
def threads_and_precision_as_before():
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


def test_lengths_are_like_the_corpora():
    cv, ls = common.lengths_like("cv", 5000), common.lengths_like("ls", 5000)
    assert cv.mean() == pytest.approx(5.0, abs=0.15)
    assert cv.std() == pytest.approx(2.0, abs=0.2)
    assert ls.mean() == pytest.approx(12.5, abs=0.3)


def test_ratio_is_cost_per_second_of_audio():
    rounds = common.Rounds()
    rounds.add("ours", common.Cost(2.0, 4.0, 20.0))
    rounds.add("peer", common.Cost(3.0, 3.0, 10.0))
    cpu, wall = rounds.ratios("ours", "peer")
    assert cpu == [pytest.approx(3.0)]
    assert wall == [pytest.approx(1.5)]


def test_goals_in_seconds_are_upper_limits():
    assert common.Result("C8", "help", 0.3, [0.2], [0.25], unit="s").met
    assert not common.Result("C8", "help", 0.3, [0.4], [0.25], unit="s").met
    assert common.Result("C1", "step", 2.0, [1.9, 2.1, 2.2], []).met


def test_spread_shows_median_and_range():
    assert common.spread([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"
    assert common.spread([0.25]) == "0.250"


def test_steps_of_a_round_are_evenly_long():
    durations_s = common.lengths_like("cv", 400)
    plan = [list(range(i, i + 8)) for i in range(0, 400, 8)]
    chosen = ctc_step._spread_over_lengths(plan, durations_s, 8)
    assert len({tuple(rows) for rows in chosen}) == 8
    sums = [durations_s[chosen[i]].sum() + durations_s[chosen[i + 1]].sum() for i in range(0, 8, 2)]
    assert max(sums) / min(sums) < 1.15


def test_small_model_has_the_shape_of_the_base_model():
    config = common.base_shaped(12)
    assert config["conv_dim"] == [512] * 7
    assert config["num_conv_pos_embeddings"] == 128


def test_both_sides_of_the_step_compute_the_same_loss():
    config = common.tiny_ctc(do_stable_layer_norm=True, feat_extract_norm="layer")
    ours, peer = ctc_step.Ours(config), ctc_step.Peer(config)
    durations_s = np.array([0.5, 0.5])
    ours.model.load_state_dict(peer.model.state_dict())
    losses = [side.loss(side.batch([0, 1], durations_s)).item() for side in (ours, peer)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_both_sides_evaluate_and_score_alike():
    import c7_evaluation

    evaluation, scoring = c7_evaluation.measure(tiny=True)  # asserts equal scores itself
    assert evaluation.goal == scoring.goal == "C7"


def test_reading_measures_speed_and_disk():
    import c6_reading

    speed, disk = c6_reading.measure(tiny=True)
    assert speed.unit == "x"
    assert disk.met


def test_table_replaces_only_what_is_between_its_markers(tmp_path: Path):
    path = tmp_path / "page.md"
    path.write_text("# Title\n\n<!-- a -->\nold\n<!-- /a -->\n\nText that stays.\n", "utf-8")
    page.write_table("a", "| new |", page=path)
    page.write_table("b", "added", page=path)
    assert path.read_text("utf-8") == (
        "# Title\n\n<!-- a -->\n| new |\n<!-- /a -->\n\nText that stays.\n\n<!-- b -->\nadded\n<!-- /b -->\n"
    )


def test_recorded_results_are_readable():
    path = BENCHMARKS / "results.json"
    if not path.exists():
        pytest.skip("no results were recorded: make bench")
    rows = json.loads(path.read_text("utf-8"))
    assert all(common.Result(**row).goal.startswith("C") for part in rows.values() for row in part["results"])


def test_the_gpu_benchmark_runs_on_a_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import gpu

    path = tmp_path / "gpu.json"
    argv = ["gpu.py", "--tiny", "--peer", "--only", "G1", "G4", "--results", str(path)]
    monkeypatch.setattr(sys, "argv", argv)
    assert gpu.main() == 0
    rows = json.loads(path.read_text("utf-8"))
    assert [row["goal"] for row in rows] == ["G1", "G4"]
    for row in rows:
        assert 0 < row["share"] < 1 and row["audio_s_a_step"] > 0 and 0 <= row["data_wait_share"] < 1
    assert rows[0]["ratio"] == pytest.approx(rows[0]["hours_per_hour"] / rows[0]["peer"]["hours_per_hour"], abs=0.01)


def test_what_the_gpu_benchmark_calls_is_there(monkeypatch: pytest.MonkeyPatch):
    """What only a GPU would run, with a GPU that says yes to everything."""
    import gpu
    import gpu_clock

    for name, value in (("is_available", True), ("get_device_name", "H100"), ("max_memory_allocated", 2e9)):
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    assert (gpu_clock.device_name(), gpu_clock._peak_memory_gb()) == ("H100", 2.0)
    with gpu_clock.syncs_counted() as counts:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
    assert sum(counts.values()) == 1
    row = {"goal": "G1", "model": "m", "device": "H100", "torch": "2", "hours_per_hour": 9000.0, "share": 0.38}
    row |= {"audio_s_a_step": 1200.0, "step_ms": 480.0, "data_wait_share": 0.001, "peak_memory_gb": 20.0, "syncs": {}}
    assert "| G1 | m | 9,000 | ≥ 8,000 | 38% |" in gpu.table([{**row, "top_ten": [{"name": "gemm", "share": 0.5}]}])
