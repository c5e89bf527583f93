"""Ctrl-C and SIGTERM end a run at the next step with its state saved; a second Ctrl-C ends it at once.

Schedulers send SIGTERM before they take a machine away. Exit codes are the shell's: 130 and 143.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback

__all__ = ["StopAtSignal", "stop_signals"]


class StopAtSignal(TrainerCallback):
    """Ends the training, with a checkpoint, at the first step that all processes agree on.

    Once the training has ended, `signal_number` is what this process got, and `stopped` whether any got one.
    """

    def __init__(self) -> None:
        self.trainer: Any = None
        self.signal_number: int | None = None

    @property
    def exit_code(self) -> int:
        return 128 + (self.signal_number or signal.SIGTERM)

    @property
    def stopped(self) -> bool:
        return bool(self.trainer is not None and self.trainer.agreement.stop_agreed)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.trainer.evaluate_if_due()
        return control

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self.trainer.agreement.stop_agreed or (args.world_size == 1 and self.trainer.agreement.stop_requested):
            self.trainer.agreement.stop_agreed = True
            self._put_off_evaluation(control)
            control.should_save = control.should_training_stop = True
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Trainer calls this also where the epoch was broken off, in the middle."""
        if self.trainer.agreement.stop_agreed:
            is_whole = state.epoch is not None and abs(state.epoch - round(state.epoch)) < 1e-9
            due = control.should_evaluate and is_whole
            if due:
                self._put_off_evaluation(control)
            control.should_evaluate, control.should_save = False, due
        return control

    def _put_off_evaluation(self, control: Any) -> None:
        if control.should_evaluate:
            self.trainer.data_state.evaluation_due = "best" if control.should_save else "score"
        control.should_evaluate = False


@contextmanager
def stop_signals(callback: StopAtSignal, say: Any) -> Iterator[None]:
    """While inside, the first SIGINT or SIGTERM asks `callback` to stop; a second SIGINT raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        if callback.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        callback.signal_number = callback.signal_number or number
        callback.trainer.agreement.stop_requested = True
        again = "; Ctrl-C again leaves at once, without saving" if number == signal.SIGINT else ""
        say(f"{signal.Signals(number).name}: finishing this step, then saving{again}.")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
