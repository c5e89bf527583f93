"""The Trainer callback that shows a training: a bar on a terminal, lines in a log."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from speechtune.terminal.formatting import duration_text, percent
from speechtune.terminal.progress import Bar, Display, Fact, display, speed_text

__all__ = ["TrainingProgress"]

SPEED_WINDOW_S = 60.0  # of training, without evaluations and checkpoints

_ERROR_RATE = re.compile(r"eval_(?:(?P<name>.+)_)?(?P<metric>wer|cer|per)")


class TrainingProgress(TrainerCallback):
    """Shows a training in place of transformers' ProgressCallback and PrinterCallback (remove those).

    Each evaluation leaves a line, on a terminal and in a log. Processes other than the first show nothing. After an
    exception, call `close`.

    Args:
        audio_seconds: returns the seconds of audio trained on so far, over all processes; only its growth counts.
        on: the display, normally that of the process.
    """

    def __init__(self, audio_seconds: Callable[[], float], *, on: Display | None = None) -> None:
        self.audio_seconds, self.display = audio_seconds, on or display()
        self.bar: Bar | None = None  # while training, on the first process
        self.last_log: Mapping[str, Any] = {}  # the last one with a loss
        self.wers: list[tuple[float, int]] = []  # and the step of each

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.start_s = self.marked_s = self.display.clock()
        self.first_step, self.first_audio_s = state.global_step, self.audio_seconds()
        self.idle_s = 0.0  # spent on evaluations and checkpoints
        self.moments = deque([(self.start_s, self.first_audio_s)])  # seconds of training, seconds of audio
        self.last_log = next((entry for entry in reversed(state.log_history) if "loss" in entry), {})
        self.wers = _wers(state.log_history)
        self.bar = self.display.add_bar("Training", unit="steps", total=state.max_steps, done=state.global_step)
        if not self.display.is_live:
            done = f", {state.global_step:,} of them done" if state.global_step else ""
            epochs = f", {_counted(state.num_train_epochs, 'epoch')}" if _has_epochs(state) else ""
            self.display.say(f"Training: {_counted(state.max_steps, 'step')}{done}{epochs}")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is None:
            return
        self.marked_s = self.display.clock()
        self.moments.append((self.marked_s - self.idle_s, self.audio_seconds()))
        while len(self.moments) > 2 and self.moments[-1][0] - self.moments[1][0] >= SPEED_WINDOW_S:
            self.moments.popleft()
        self.bar.update(state.global_step, state.max_steps, self._facts(state))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.bar is not None and logs and "loss" in logs:
            self.last_log = logs
            self.bar.update(state.global_step, state.max_steps, self._facts(state))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not metrics:
            return
        self.wers = _wers(state.log_history)  # with this one: the trainer logs before it calls
        is_best = len(self.wers) > 0 and self.wers[-1][0] < min((wer for wer, _ in self.wers[:-1]), default=math.inf)
        facts = list(_evaluation_facts(metrics, is_best=is_best))
        if facts:
            self.display.say(f"step {state.global_step:,}: {', '.join(facts)}")
        if self.bar is not None:
            self._skip_idle_time()
            self.bar.update(state.global_step, state.max_steps, self._facts(state))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self._skip_idle_time()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is None:
            return
        self.close()
        steps = _counted(state.global_step - self.first_step, "step")
        audio = duration_text(self.audio_seconds() - self.first_audio_s)
        facts = [f"trained {steps} in {duration_text(self.display.clock() - self.start_s)}", f"{audio} of audio"]
        if self.wers:
            wer, step = min(self.wers)
            facts.append(f"lowest WER {percent(wer)} at step {step:,}")
        self.display.say(", ".join([*facts, *self._skipped_steps()]))

    def close(self) -> None:
        """Remove the bar; safe at any time."""
        if self.bar is not None:
            self.bar.close()
        self.bar = None

    def _skip_idle_time(self) -> None:
        """Take the time since the last step, an evaluation or a checkpoint, out of the speed."""
        now_s = self.display.clock()
        self.idle_s += now_s - self.marked_s
        self.marked_s = now_s

    def _facts(self, state: Any) -> list[Fact]:
        """Return loss, WER, skipped steps, epoch, speed and learning rate, as far as they are known."""
        facts: list[Fact] = []
        if "loss" in self.last_log:
            loss = self.last_log["loss"]
            facts.append((_loss_text(loss), "" if math.isfinite(loss) else "bold red"))
        if self.wers:
            wer, (best, best_step) = self.wers[-1][0], min(self.wers)
            note = "best" if wer == best else f"best {percent(best)} at step {best_step:,}"
            facts.append((f"WER {percent(wer)} ({note})", "green" if wer == best else ""))
        facts += [(text, "yellow") for text in self._skipped_steps()]
        of = f"/{state.num_train_epochs:g}" if _has_epochs(state) else ""
        facts.append((f"epoch {state.epoch or 0:.2f}{of}", ""))
        (start_s, start), (end_s, end) = self.moments[0], self.moments[-1]
        if end_s > start_s:
            facts.append((speed_text((end - start) / (end_s - start_s)), ""))
        if "learning_rate" in self.last_log:
            facts.append((f"lr {self.last_log['learning_rate']:.3g}", ""))
        return facts

    def _skipped_steps(self) -> list[str]:
        count = self.last_log.get("skipped_steps", 0)
        return [f"{_counted(count, 'step')} skipped"] if count else []


def _wers(log_history: Sequence[Mapping[str, Any]]) -> list[tuple[float, int]]:
    """Return the finite WERs of a training, each with its step."""
    entries = ((entry.get("eval_wer", math.nan), entry["step"]) for entry in log_history)
    return [(wer, step) for wer, step in entries if math.isfinite(wer)]


def _evaluation_facts(metrics: Mapping[str, Any], *, is_best: bool) -> Iterator[str]:
    """Yield "WER 30.8 % (lowest so far)", "CER 9.1 %", "loss 0.51"."""
    for key, value in metrics.items():
        found = _ERROR_RATE.fullmatch(key)
        if found:
            name = found["name"].replace("_", " ") + " " if found["name"] else ""
            mark = " (lowest so far)" if is_best and key == "eval_wer" else ""
            yield f"{name}{found['metric'].upper()} {percent(value)}{mark}"
    if "eval_loss" in metrics:
        yield _loss_text(metrics["eval_loss"])


def _loss_text(loss: float) -> str:
    if math.isfinite(loss):
        return f"loss {loss:.4g}"
    return f"loss is {'not a number' if math.isnan(loss) else 'infinite'}"


def _has_epochs(state: Any) -> bool:
    """Whether the number of epochs means anything: a stream's is made up from max_steps."""
    return 0 < state.num_train_epochs < 1e6


def _counted(number: float, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
