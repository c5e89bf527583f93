"""The display of a training, driven by the events of transformers' Trainer."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from speechtune.terminal.progress import TrainingProgress, evaluation_progress
from speechtune.terminal.screen import Screen


class Run:
    """A trainer that takes a second and 44 s of audio a step."""

    def __init__(self, *, live=False, width=120, max_steps=1000, first=True, log_history=(), global_step=0):
        self.now_s, self.audio_s = 0.0, 0.0
        console = Console(
            file=io.StringIO(), width=width, height=12, force_terminal=live or None, color_system=None, _environ={}
        )
        self.screen = Screen(console)
        self.progress = TrainingProgress(
            lambda: self.audio_s, on=self.screen, live=live, clock=lambda: self.now_s, line_every_s=30.0
        )
        self.state = SimpleNamespace(
            is_world_process_zero=first,
            global_step=global_step,
            max_steps=max_steps,
            epoch=global_step / 500,
            num_train_epochs=2,
            log_history=list(log_history),
        )

    def event(self, name, **kwargs):
        getattr(self.progress, name)(None, self.state, None, **kwargs)

    def steps(self, number):
        for _ in range(number):
            self.now_s += 1.0
            self.audio_s += 44.0
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / 500
            self.event("on_step_end")

    def wait(self, seconds, then):
        self.now_s += seconds
        self.event(then[0], **then[1])

    @property
    def text(self):
        return self.screen.console.file.getvalue()

    @property
    def lines(self):
        return self.text.splitlines()


def test_a_log_gets_one_line_at_most_every_thirty_seconds_and_a_first_one_soon():
    run = Run()
    run.event("on_train_begin")
    run.steps(3)
    run.event("on_log", logs={"loss": 2.5, "learning_rate": 3e-5})
    run.steps(67)
    assert run.lines == [
        "training: 1,000 steps, 2 epochs",
        "5/1,000 steps, 0:16:35 left, epoch 0.01/2, loss 2.5, 44 s of audio/s, learning rate 3e-5",
        "35/1,000 steps, 0:16:05 left, epoch 0.07/2, loss 2.5, 44 s of audio/s, learning rate 3e-5",
        "65/1,000 steps, 0:15:35 left, epoch 0.13/2, loss 2.5, 44 s of audio/s, learning rate 3e-5",
    ]


def test_every_evaluation_leaves_a_line_and_the_lowest_wer_is_marked():
    run = Run()
    run.event("on_train_begin")
    run.steps(1)
    for wer in (0.5, 0.25, 0.3):
        run.event("on_evaluate", metrics={"eval_wer": wer, "eval_cer": wer / 5, "eval_loss": 1.25, "eval_runtime": 3.0})
    assert run.lines[1:] == [
        "step 1: WER 50.0 % (lowest so far), CER 10.0 %, loss 1.25",
        "step 1: WER 25.0 % (lowest so far), CER 5.0 %, loss 1.25",
        "step 1: WER 30.0 %, CER 6.0 %, loss 1.25",
    ]


def test_evaluations_and_saving_do_not_count_as_slow_training():
    run = Run()
    run.event("on_train_begin")
    run.steps(10)
    run.wait(500.0, ("on_evaluate", {"metrics": {"eval_wer": 0.5}}))
    run.wait(100.0, ("on_save", {}))
    run.steps(10)
    assert "44 s of audio/s" in run.lines[-1]


def test_the_time_left_counts_evaluations_in():
    run = Run(max_steps=40)
    run.event("on_train_begin")
    run.steps(19)
    run.wait(20.0, ("on_evaluate", {"metrics": {"eval_wer": 0.5}}))
    run.steps(1)
    assert run.progress.bar.beside[1].text == "0:00:40 left"


def test_the_loss_shown_is_smoothed_over_finite_values():
    run = Run()
    run.event("on_train_begin")
    for loss in (2.0, float("nan"), 1.0):
        run.event("on_log", logs={"loss": loss})
    assert run.progress.bar.below[0].text == "loss 1.8"


@pytest.mark.parametrize(("loss", "words"), [("nan", "loss is not a number"), ("inf", "loss is infinite")])
def test_a_loss_that_is_not_finite_is_said_in_words(loss, words):
    run = Run()
    run.event("on_train_begin")
    run.event("on_log", logs={"loss": float(loss), "skipped_steps": 2})
    run.steps(6)
    assert f"{words}, 2 steps skipped" in run.lines[-1]


def test_a_run_that_goes_on_knows_its_best_and_counts_its_own_steps():
    history = [{"step": 100, "loss": 1.0}, {"step": 100, "eval_wer": 0.2}, {"step": 200, "eval_wer": 0.3}]
    run = Run(log_history=history, global_step=200)
    run.event("on_train_begin")
    run.steps(5)
    run.event("on_evaluate", metrics={"eval_wer": 0.25})
    run.event("on_train_end")
    assert run.lines[0] == "training: 1,000 steps, 200 of them done, 2 epochs"
    assert "WER 30.0 % (best 20.0 % at step 100)" in run.lines[1]
    assert run.lines[2] == "step 205: WER 25.0 %"
    assert run.lines[3] == "trained 5 steps in 5.0 s, 3 min 40 s of audio, lowest WER 20.0 % at step 100"


def test_metrics_of_a_named_evaluation_carry_its_name():
    run = Run()
    run.event("on_train_begin")
    run.event("on_evaluate", metrics={"eval_unseen_voice_wer": 0.5, "eval_loss": float("nan")})
    assert run.lines[-1] == "step 0: unseen voice WER 50.0 %, loss is not finite"


def test_processes_other_than_the_first_are_silent():
    run = Run(first=False)
    run.event("on_train_begin")
    run.steps(100)
    run.event("on_log", logs={"loss": 1.0})
    run.event("on_evaluate", metrics={"eval_wer": 0.5})
    run.event("on_save")
    run.event("on_train_end")
    assert run.text == ""


def test_a_terminal_shows_one_display_with_evaluations_above_and_nothing_left_behind():
    run = Run(live=True)
    run.event("on_train_begin")
    run.steps(100)
    run.event("on_log", logs={"loss": 0.5, "learning_rate": 1e-4})
    run.event("on_evaluate", metrics={"eval_wer": 0.5})
    run.screen.refresh()
    assert "step 100: WER 50.0 % (lowest so far)" in run.text
    assert "100/1,000 steps  0:15:00 left  epoch 0.20/2" in run.text
    assert "loss 0.5  WER 50.0 % (best)  44 s of audio/s  learning rate 1e-4" in run.text
    run.event("on_train_end")
    assert run.screen._live is None
    assert run.lines[-1].endswith("trained 100 steps in 1 min 40 s, 1 h 13 min of audio, lowest WER 50.0 % at step 100")


@pytest.mark.parametrize("width", [1, 8, 20, 40])
def test_a_narrow_terminal_breaks_nothing(width):
    run = Run(live=True, width=width)
    run.event("on_train_begin")
    run.steps(2)
    run.event("on_evaluate", metrics={"eval_wer": 0.5})
    run.event("on_train_end")


def test_an_evaluation_stands_below_the_training_and_leaves_it_there():
    run = Run(live=True)
    run.event("on_train_begin")
    run.steps(1)
    with evaluation_progress(100.0, label="Evaluating", enabled=True, on=run.screen, live=True) as advance:
        advance(50.0)
        run.screen.refresh()
        assert run.text.rindex("Training") < run.text.rindex("Evaluating")
    assert run.screen._live is not None
    run.progress.close()
    run.progress.close()
    assert run.screen._live is None


def test_it_is_a_callback_of_the_trainer():
    from transformers import TrainerCallback

    assert issubclass(TrainingProgress, TrainerCallback)
