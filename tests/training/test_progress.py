"""The display of a training, driven by the events of transformers' Trainer."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from speechtune.terminal.progress import AUDIO, Display
from speechtune.training.progress import TrainingProgress


class Screen(io.StringIO):
    def isatty(self):
        return True


class Run:
    """A trainer that takes a second and 44 s of audio a step."""

    def __init__(self, *, live=False, width=120, max_steps=1000, first=True, log_history=(), global_step=0):
        self.now_s, self.audio_s = 0.0, 0.0
        console = Console(
            file=Screen() if live else io.StringIO(),
            width=width,
            height=12,
            force_terminal=live or None,
            color_system=None,
            _environ={},
        )
        self.display = Display(console, clock=lambda: self.now_s)
        self.progress = TrainingProgress(lambda: self.audio_s, on=self.display)
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

    def evaluate(self, **metrics):
        metrics = {f"eval_{name}": value for name, value in metrics.items()}
        self.state.log_history.append({**metrics, "step": self.state.global_step})
        self.event("on_evaluate", metrics=metrics)

    @property
    def text(self):
        return self.display.console.file.getvalue()

    @property
    def lines(self):
        return self.text.splitlines()


def test_a_log_gets_one_line_at_most_every_thirty_seconds_and_a_first_one_soon():
    run = Run()
    run.event("on_train_begin")
    run.steps(3)
    run.event("on_log", logs={"loss": 2.5, "learning_rate": 3e-5})
    run.steps(72)
    facts = "44x real time, lr 3e-05"
    assert run.lines == [
        "Training: 1,000 steps, 2 epochs",
        f"Training: 10 of 1,000 steps, 0:16:30 left, loss 2.5, epoch 0.02/2, {facts}",
        f"Training: 40 of 1,000 steps, 0:16:00 left, loss 2.5, epoch 0.08/2, {facts}",
        f"Training: 70 of 1,000 steps, 0:15:30 left, loss 2.5, epoch 0.14/2, {facts}",
    ]


def test_every_evaluation_leaves_a_line_and_the_lowest_wer_is_marked():
    run = Run()
    run.event("on_train_begin")
    run.steps(1)
    for wer in (0.5, 0.25, 0.3, 0.25):
        run.evaluate(wer=wer, cer=wer / 5, loss=1.25, runtime=3.0)
    assert run.lines[1:] == [
        "step 1: WER 50.0 % (lowest so far), CER 10.0 %, loss 1.25",
        "step 1: WER 25.0 % (lowest so far), CER 5.0 %, loss 1.25",
        "step 1: WER 30.0 %, CER 6.0 %, loss 1.25",
        "step 1: WER 25.0 %, CER 5.0 %, loss 1.25",
    ]


def test_evaluations_and_saving_do_not_count_as_slow_training():
    run = Run()
    run.event("on_train_begin")
    run.steps(10)
    run.now_s += 500.0
    run.evaluate(wer=0.5)
    run.now_s += 100.0
    run.event("on_save")
    run.steps(10)
    assert "44x real time" in run.lines[-1]


def test_the_first_line_counts_steps_and_epochs():
    run = Run(max_steps=1)
    run.state.num_train_epochs = 1
    run.event("on_train_begin")
    run.state.num_train_epochs = sys.maxsize  # of a stream
    run.event("on_train_begin")
    assert run.lines == ["Training: 1 step, 1 epoch", "Training: 1 step"]


def test_the_time_left_includes_evaluations():
    run = Run(max_steps=99)
    run.event("on_train_begin")
    run.steps(20)
    run.now_s += 20.0
    run.evaluate(wer=0.5)
    run.steps(30)
    assert "50 of 99 steps, 0:01:09 left" in run.lines[-1]


def test_the_loss_shown_is_that_of_the_last_log():
    run = Run()
    run.event("on_train_begin")
    for loss in (2.0, 1.0):
        run.event("on_log", logs={"loss": loss})
    run.event("on_log", logs={"eval_runtime": 3.0})
    run.steps(10)
    assert ", loss 1, " in run.lines[-1]


@pytest.mark.parametrize(("loss", "words"), [("nan", "loss is not a number"), ("inf", "loss is infinite")])
def test_a_loss_that_is_not_finite_is_said_in_words(loss, words):
    run = Run()
    run.event("on_train_begin")
    run.event("on_log", logs={"loss": float(loss), "skipped_steps": 2})
    run.steps(10)
    assert f"{words}, 2 steps skipped" in run.lines[-1]
    run.event("on_train_end")
    assert run.lines[-1] == "trained 10 steps in 10 s, 7 min 20 s of audio, 2 steps skipped"


def test_a_resumed_run_knows_its_best_and_counts_its_own_steps():
    history = [{"step": 100, "loss": 1.0}, {"step": 100, "eval_wer": 0.2}, {"step": 200, "eval_wer": 0.3}]
    run = Run(log_history=history, global_step=200)
    run.event("on_train_begin")
    run.steps(10)
    run.evaluate(wer=0.25)
    run.event("on_train_end")
    assert run.lines[0] == "Training: 1,000 steps, 200 of them done, 2 epochs"
    assert "210 of 1,000 steps, 0:13:10 left, loss 1, WER 30.0 % (best 20.0 % at step 100)" in run.lines[1]
    assert run.lines[2] == "step 210: WER 25.0 %"
    assert run.lines[3] == "trained 10 steps in 10 s, 7 min 20 s of audio, lowest WER 20.0 % at step 100"


def test_an_evaluation_before_the_first_step_of_a_resumed_run_is_compared_with_the_earlier_ones():
    run = Run(log_history=[{"step": 100, "eval_wer": 0.2}], global_step=200)
    run.evaluate(wer=0.3)
    assert run.lines == ["step 200: WER 30.0 %"]


def test_metrics_of_a_named_evaluation_carry_its_name():
    run = Run()
    run.event("on_train_begin")
    run.evaluate(unseen_voice_wer=0.5, loss=float("nan"))
    assert run.lines[-1] == "step 0: unseen voice WER 50.0 %, loss is not a number"


def test_processes_other_than_the_first_are_silent():
    run = Run(first=False)
    run.event("on_train_begin")
    run.steps(100)
    run.event("on_log", logs={"loss": 1.0})
    run.evaluate(wer=0.5)
    run.event("on_save")
    run.event("on_train_end")
    assert run.text == ""


def test_a_terminal_shows_one_display_with_evaluations_above_and_nothing_left_behind():
    run = Run(live=True, width=80)
    run.event("on_train_begin")
    run.steps(100)
    run.event("on_log", logs={"loss": 0.5, "learning_rate": 1e-4})
    run.evaluate(wer=0.5)
    evaluation = run.display.add_bar("Evaluating", unit=AUDIO)
    run.now_s += 2
    evaluation.update(50.0, 100.0)
    run.display.console.print(run.display.rows())
    evaluation.close()
    text = " ".join(run.text.split())
    assert "step 100: WER 50.0 % (lowest so far)" in text
    assert "100 of 1,000 steps 0:01:42, 0:15:00 left" in text
    assert text.rindex("100 of 1,000 steps") < text.rindex("50 of 100 s 0:00:02")
    facts = ["loss 0.5", "WER 50.0 % (best)", "epoch 0.20/2", "44x real time", "lr 0.0001"]
    assert all(fact in text for fact in facts)
    run.event("on_train_end")
    run.progress.close()
    assert run.display.progress.tasks == []
    assert "\x1b[2K" in run.text[run.text.rindex("Evaluating") :]
    assert run.lines[-1].endswith("trained 100 steps in 1 min 42 s, 1 h 13 min of audio, lowest WER 50.0 % at step 100")


@pytest.mark.parametrize("width", [1, 8, 20, 40])
def test_a_narrow_terminal_breaks_nothing(width):
    run = Run(live=True, width=width)
    run.event("on_train_begin")
    run.steps(2)
    run.evaluate(wer=0.5)
    run.event("on_train_end")
