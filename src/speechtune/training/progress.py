"""The callback that shows a training: imported with transformers, so only when training (see progress.py)."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from speechtune.reporting.plots import format_value
from speechtune.terminal.display import BarWithFacts, Fact, Pace, speed_text
from speechtune.terminal.formatting import clock_text, duration_text, percent
from speechtune.terminal.screen import Screen, screen

__all__ = ["TrainingProgress"]

LINE_EVERY_S = 30.0  # at most, of a log, beside evaluations
FIRST_LINE_AFTER_S = 5.0  # the sign of life at the start
SPEED_WINDOW_S, TIME_LEFT_WINDOW_S = 60.0, 600.0  # the time left includes evaluations, so it looks back further
LOSS_SMOOTHING = 0.8  # share of the earlier value in the loss shown

_ERROR_RATE = re.compile(r"^eval_(?:(?P<name>.+)_)?(?P<metric>wer|cer|per)$")


@dataclass
class _Status:
    """What is known of the training, to be worded for a terminal or a log."""

    step: int = 0
    max_steps: int = 0
    epoch: float = 0.0
    num_epochs: float = 0.0
    loss: float = math.nan  # smoothed over the finite values
    last_loss: float | None = None  # as logged, finite or not
    learning_rate: float = math.nan
    skipped_steps: int = 0
    wer: float = math.nan
    best_wer: float = math.nan
    best_step: int = 0

    def log(self, logs: Mapping[str, Any]) -> None:
        """Takes over what the trainer logged of some steps."""
        loss = logs.get("loss")
        if not isinstance(loss, (int, float)):
            return
        self.last_loss = loss
        if math.isfinite(loss):
            known = math.isfinite(self.loss)
            self.loss = LOSS_SMOOTHING * self.loss + (1 - LOSS_SMOOTHING) * loss if known else loss
        self.learning_rate = float(logs.get("learning_rate", self.learning_rate))
        self.skipped_steps = int(logs.get("skipped_steps", self.skipped_steps))

    def evaluated(self, metrics: Mapping[str, Any], step: int) -> bool:
        """Takes over a WER; True if it is the lowest so far."""
        wer = metrics.get("eval_wer")
        if not isinstance(wer, (int, float)) or not math.isfinite(wer):
            return False
        self.wer = wer
        if math.isfinite(self.best_wer) and wer >= self.best_wer:
            return False
        self.best_wer, self.best_step = wer, step
        return True

    def loss_fact(self) -> Fact | None:
        """The loss in figures, or in words where the last one is none."""
        if self.last_loss is None:
            return None
        if math.isfinite(self.last_loss):
            return Fact(f"loss {self.loss:.4g}")
        return Fact(f"loss is {'not a number' if math.isnan(self.last_loss) else 'infinite'}", "bold red")

    def steps_text(self) -> str:
        return f"{self.step:,}/{self.max_steps:,} steps" if self.max_steps > 0 else f"{self.step:,} steps"

    @property
    def has_epochs(self) -> bool:
        """Whether `num_epochs` means anything: a stream's is made up from max_steps."""
        return 0 < self.num_epochs < 1e6

    def epoch_text(self) -> str:
        return f"epoch {self.epoch:.2f}{f'/{self.num_epochs:g}' if self.has_epochs else ''}"

    def result_facts(self) -> list[Fact]:
        """Loss, WER and what went wrong, most important first."""
        facts = [self.loss_fact()]
        if math.isfinite(self.wer):
            is_best = self.wer == self.best_wer
            best = "best" if is_best else f"best {percent(self.best_wer)} at step {self.best_step:,}"
            facts.append(Fact(f"WER {percent(self.wer)} ({best})", "green" if is_best else ""))
        if self.skipped_steps:
            facts.append(Fact(f"{_counted(self.skipped_steps, 'step')} skipped", "yellow"))
        return [fact for fact in facts if fact is not None]


class TrainingProgress(TrainerCallback):
    """Shows a training in place of transformers' ProgressCallback and PrinterCallback (take those out).

    On a terminal one live display at its foot; in a log a line every `line_every_s` at most. Each evaluation leaves a
    line in either. Processes other than the first show nothing. After an exception call `close`; at exit it is called.

    Args:
        audio_seconds: gives the seconds of audio trained on so far, over all processes; only its growth counts.
        line_every_s: seconds between lines where there is no terminal.
        on: the screen, normally that of the process.
        live: whether to draw a bar, normally found out from the terminal.
        clock: seconds.
    """

    def __init__(
        self,
        audio_seconds: Callable[[], float],
        *,
        line_every_s: float = LINE_EVERY_S,
        on: Screen | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.audio_seconds, self.line_every_s, self.clock = audio_seconds, line_every_s, clock
        self.screen = on or screen()
        self.live = live if live is not None else self.screen.can_be_live
        self.bar = BarWithFacts("Training")
        self._begin(_Status())

    def _begin(self, status: _Status) -> None:
        self.status = status
        self.start_s = self.marked_s = self.clock()
        self.first_step, self.first_audio_s = status.step, self.audio_seconds() if status.max_steps else 0.0
        self.idle_s = 0.0  # spent in evaluations and saving: no part of the speed
        self.next_line_s = self.start_s + min(FIRST_LINE_AFTER_S, self.line_every_s)
        self.speed, self.steps_pace = Pace(SPEED_WINDOW_S), Pace(TIME_LEFT_WINDOW_S)

    # ---- the trainer's events

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        status = _Status(
            step=state.global_step,
            max_steps=max(state.max_steps, 1),
            epoch=state.epoch or 0.0,
            num_epochs=float(state.num_train_epochs or 0),
        )
        for entry in state.log_history:  # of the run that is gone on with
            status.log(entry)
            status.evaluated(entry, int(entry.get("step", 0)))
        self._begin(status)
        self.speed.add(self.start_s, self.first_audio_s)
        self.steps_pace.add(self.start_s, status.step)
        if self.live:
            self._word()
            self.screen.show(self.bar)
        else:
            done = f", {status.step:,} of them done" if status.step else ""
            epochs = f", {status.num_epochs:g} epochs" if status.has_epochs else ""
            self.screen.say(f"training: {_counted(status.max_steps, 'step')}{done}{epochs}")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.status.step, self.status.epoch = state.global_step, state.epoch or 0.0
        self.marked_s = now_s = self.clock()
        self.steps_pace.add(now_s, state.global_step)
        if self.speed.add(now_s - self.idle_s, self.audio_seconds()) or state.global_step == state.max_steps:
            self._word()
        if not self.live and now_s >= self.next_line_s:
            self.next_line_s = now_s + self.line_every_s
            facts = [*self.bar.beside, *self.bar.below]
            self.screen.say(", ".join(fact.text for fact in facts))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs:
            self.status.log(logs)
            self._word()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not metrics:
            return
        self._was_idle()
        is_best = self.status.evaluated(metrics, state.global_step)
        facts = _evaluation_facts(metrics, is_best=is_best)
        if facts:
            self.screen.say(f"step {state.global_step:,}: {', '.join(facts)}")
        self._word()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._was_idle()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.close()
        runtime_s, status = self.clock() - self.start_s, self.status
        audio_s = self.audio_seconds() - self.first_audio_s
        steps = _counted(state.global_step - self.first_step, "step")
        facts = [f"trained {steps} in {duration_text(runtime_s)}", f"{duration_text(audio_s)} of audio"]
        if math.isfinite(status.best_wer):
            facts.append(f"lowest WER {percent(status.best_wer)} at step {status.best_step:,}")
        if status.skipped_steps:
            facts.append(f"{_counted(status.skipped_steps, 'step')} skipped")
        self.screen.say(", ".join(facts))

    def close(self) -> None:
        """Takes the display away; safe at any time."""
        self.screen.hide(self.bar)

    # ---- what is shown

    def _was_idle(self) -> None:
        """The time since the last mark went into an evaluation or a checkpoint."""
        now_s = self.clock()
        self.idle_s += now_s - self.marked_s
        self.marked_s = now_s

    def _word(self) -> None:
        """Puts the status into the words of the display."""
        status, bar = self.status, self.bar
        bar.done, bar.total = status.step, status.max_steps
        left_s = self.steps_pace.time_for(max(status.max_steps - status.step, 0))
        bar.beside = [
            Fact(status.steps_text()),
            Fact(f"{clock_text(left_s)} left"),
            Fact(status.epoch_text()),
        ]
        below = status.result_facts()
        if self.speed.per_s > 0:
            below.append(Fact(speed_text(self.speed.per_s)))
        if math.isfinite(status.learning_rate):
            below.append(Fact(f"learning rate {format_value(status.learning_rate)}"))
        bar.below = below


def _evaluation_facts(metrics: Mapping[str, Any], *, is_best: bool) -> list[str]:
    """ "WER 30.8 % (lowest so far)", "CER 9.1 %", "loss 0.51"."""
    facts = []
    for key, value in metrics.items():
        found = _ERROR_RATE.match(key)
        if found and isinstance(value, (int, float)):
            name = found["name"].replace("_", " ") + " " if found["name"] else ""
            mark = " (lowest so far)" if is_best and key == "eval_wer" else ""
            facts.append(f"{name}{found['metric'].upper()} {percent(value)}{mark}")
    loss = metrics.get("eval_loss")
    if isinstance(loss, (int, float)):
        facts.append(f"loss {loss:.4g}" if math.isfinite(loss) else "loss is not finite")
    return facts


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
