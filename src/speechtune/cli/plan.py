"""`speechtune plan`: what training would do, without training."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from speechtune.data.prepare import REASON_WORDS, training_limits
from speechtune.doctor.checks import decode_sample, share_problem
from speechtune.doctor.roles import Role
from speechtune.errors import CorpusError
from speechtune.options.table import Options
from speechtune.plan.checkpoints import NUM_STATES
from speechtune.plan.plan import RunPlan, SplitPlan
from speechtune.plan.resolve import resolve
from speechtune.terminal.formatting import duration_text, visible
from speechtune.types import Skipped

if TYPE_CHECKING:
    from speechtune.training.session import Session

__all__ = ["run"]

ADAMW_BYTES = 8  # of a trained parameter: two moments in float32
ORDERS = {"bucketed": "of similar length", "random": "in random order", "sequential": "in the corpus' order"}


def run(options: Options) -> int:
    """Print the plan of a training: splits, what is skipped, model, batches, memory, time and disk.

    Nothing is written but the caches of the corpus. Steps are measured on this machine unless --no_measure.

    Returns:
        Exit code, 0.

    Raises:
        SpeechtuneError: the training could not start.
    """
    plan = resolve(options)
    measures = not plan.settings.no_measure
    with tempfile.TemporaryDirectory(prefix="speechtune-plan-") as folder, _without_mention(folder):
        session = _build(_aside(plan, folder, measure=measures))
        _check_sample(plan, session)
        lines = _lines(plan, session, measure=measures)
    width = min(shutil.get_terminal_size().columns, 110)
    for name, text in [*lines, *(("note", note) for note in plan.notes)]:
        words = visible(f"{name:<12}{text}")
        # Paths and options stay whole, to be copied.
        print(textwrap.fill(words, width, subsequent_indent=" " * 12, break_long_words=False, break_on_hyphens=False))
    return 0


def _aside(plan: RunPlan, folder: str, *, measure: bool) -> RunPlan:
    """Return the plan of the same training in a temporary folder, so that nothing is written into the real one."""
    settings = plan.settings
    if settings.batch_seconds == "auto" and not measure:
        settings = replace(settings, batch_seconds=None)  # it is found by trial steps
    arguments = {**plan.training_arguments, "output_dir": folder}
    return replace(plan, settings=settings, output_dir=Path(folder), training_arguments=arguments, resume_from=None)


@contextmanager
def _without_mention(folder: str) -> Iterator[None]:
    """Drop log lines about files in the temporary folder, and its path from errors: what they say is in the plan."""
    log = logging.getLogger("speechtune")
    log.addFilter(about := lambda record: folder not in record.getMessage())
    try:
        yield
    except CorpusError as error:
        raise CorpusError(str(error).replace(f" -> {folder}/skipped.jsonl", "")) from error
    finally:
        log.removeFilter(about)


def _build(plan: RunPlan) -> Session:
    from speechtune.training.build import build_arguments, build_recogniser
    from speechtune.training.data import build_datasets, read_corpus
    from speechtune.training.session import Session

    args = build_arguments(plan)
    data = read_corpus(plan)
    recogniser = build_recogniser(plan, data, args)
    return Session(plan, args, recogniser, data, build_datasets(plan, data, recogniser, args))


def _check_sample(plan: RunPlan, session: Session) -> None:
    """Decode some recordings of each split.

    Raises:
        CorpusError: training would stop for what it can't use.
    """
    from speechtune.data.dataset import SpeechDataset

    limits = training_limits(plan.settings, session.recogniser)
    for name, dataset in (("train", session.datasets.train), ("evaluation", session.datasets.evaluation)):
        if isinstance(dataset, SpeechDataset):
            split = dataset.split
            role = Role(name, split.table, split.texts, split, limits if name == "train" else None)
            decode_sample(role)
            if problem := share_problem(role, plan.settings, path=""):
                raise CorpusError(problem)


def _lines(plan: RunPlan, session: Session, *, measure: bool) -> list[tuple[str, str]]:
    """Return (what, text), one a line."""
    lines = [("corpus", plan.corpus + (f", language {plan.language}" if plan.language else ""))]
    for role, split, dropped in _splits(plan, session):
        lines.append((role, _split_line(split, dropped)))
    if plan.baseline:
        lines.append(("before", f"the starting model is evaluated on {', '.join(one.scored for one in plan.baseline)}"))
    if plan.further:
        lines.append(("after", f"also evaluated: {', '.join(one.scored for one in plan.further)}"))
    lines += [("model", _model_line(plan, session)), ("precision", plan.precision.description)]
    trainer, args = session.trainer, session.args
    if trainer.sampler is None:
        lines.append(("steps", f"{args.max_steps} of a stream; its length is not known"))
        return [*lines, ("output", _output_line(plan))]
    if plan.settings.batch_seconds == "auto" and not measure:
        lines.append(
            ("batches", "all the audio that fits (--batch_seconds auto): found by trial steps when training starts")
        )
        return [*lines, ("output", _output_line(plan))]
    per_epoch = trainer.sampler.num_steps
    num_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)
    done = _steps_done(plan)
    lines.append(("batches", _batch_line(session)))
    lines.append(("steps", f"{per_epoch:,} per epoch, {num_steps:,} in all" + (f", {done:,} done" if done else "")))
    if measure:
        from speechtune.training.measure import measure_steps

        found = measure_steps(trainer)
        left_s = found.epoch_s * max(num_steps - done, 0) / per_epoch
        memory = "GPU memory" if args.device.type == "cuda" else "memory"
        lines.append(("memory", f"{found.peak_bytes / 1e9:.1f} GB of {memory}, for the batch with the most audio"))
        lines += list(_memory_lines(plan, session))
        whole = f"{duration_text(left_s)} {'left' if done else 'in all'}"
        measured = f"measured on {_count(found.num_steps, 'step')}"
        lines.append(
            ("time", f"about {duration_text(found.epoch_s)} per epoch, {whole}, without evaluation; {measured}")
        )
    lines.append(("disk", _disk_line(plan, session, num_steps, per_epoch)))
    return [*lines, ("output", _output_line(plan))]


def _memory_lines(plan: RunPlan, session: Session) -> Iterator[tuple[str, str]]:
    """Yield what training all weights needs, and what low-rank updates need, with the GPUs in which it fits."""
    from speechtune.training.memory import GPUS_GB, needs_of

    for way, need in needs_of(session.trainer, base=plan.settings.model_name_or_path):
        parts = ", ".join(
            f"{name} {_size(getattr(need, name) / 1e9)}"
            for name in ("weights", "gradients", "optimiser", "activations")
        )
        fits = f"fits a GPU of {need.gpu_gb} GB" if need.gpu_gb else f"fits no GPU of {GPUS_GB[-1]} GB"
        yield way, f"{_size(need.total / 1e9)}, estimated: {parts}; {fits}"


def _splits(plan: RunPlan, session: Session) -> Iterator[tuple[str, SplitPlan, Sequence[Skipped]]]:
    from speechtune.data.dataset import SpeechDataset

    for role, split, dataset in (
        ("train", plan.train, session.datasets.train),
        ("evaluation", plan.evaluation, session.datasets.evaluation),
    ):
        if split is not None:
            yield role, split, dataset.split.dropped if isinstance(dataset, SpeechDataset) else ()


def _split_line(split: SplitPlan, dropped: Sequence[Skipped]) -> str:
    if split.num_utterances is None or split.hours is None:
        return f"{split.name}: a stream"
    total = split.num_utterances + split.num_unreadable
    hours = split.hours - sum(row.duration_s for row in dropped if not math.isnan(row.duration_s)) / 3600
    text = f"{split.name}: {_count(total - len(dropped), 'utterance')}, {_hours(max(hours, 0.0))}"
    if dropped:
        counts = Counter(row.reason for row in dropped).most_common()
        reasons = ", ".join(f"{count} {REASON_WORDS.get(reason, reason)}" for reason, count in counts)
        text += f"; {len(dropped):,} of {total:,} skipped: {reasons}"
    return text


def _model_line(plan: RunPlan, session: Session) -> str:
    model = session.recogniser.model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    family = {"ctc": "CTC", "seq2seq": "sequence to sequence", "transducer": "transducer"}[plan.family]
    source = plan.settings.model_name_or_path or "random weights"
    size = f"{_millions(model.num_parameters())} parameters, {_millions(trained)} trained"
    return f"{plan.model_type} ({family}) from {source}: {size}, {len(session.recogniser.tokenizer):,} tokens"


def _batch_line(session: Session) -> str:
    args, sampler = session.args, session.trainer.sampler
    assert sampler is not None
    settings = sampler.settings
    if settings.utterances_per_step is not None:
        size = f"{_count(settings.utterances_per_step, 'utterance')} per step"
    else:
        size = f"{settings.seconds_per_step:.0f} s of audio per step, padding included"
    parts = [f"{args.world_size} processes"] if args.world_size > 1 else []
    parts += [f"{args.gradient_accumulation_steps} rounds"] if args.gradient_accumulation_steps > 1 else []
    return size + (f" over {' and '.join(parts)}" if parts else "") + f", {ORDERS[settings.order]}"


def _disk_line(plan: RunPlan, session: Session, num_steps: int, per_epoch: int) -> str:
    model, args = session.recogniser.model, session.args
    hours = sum(split.hours or 0.0 for split in (plan.train, plan.evaluation) if split is not None)
    parts = []
    if plan.settings.audio_cache_max_gb != 0:
        gigabytes = hours * 3600 * session.recogniser.sampling_rate * 2 / 1e9
        limit = plan.settings.audio_cache_max_gb
        parts.append(f"decoded audio {_size(min(gigabytes, limit if limit is not None else gigabytes))}")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    kept = [p for p in model.parameters() if p.requires_grad or not plan.settings.lora]
    weights = sum(p.numel() * p.element_size() for p in kept)
    parts.append(f"{'adapter' if plan.settings.lora else 'model'} {_size(weights / 1e9)}")
    strategy = str(getattr(args.save_strategy, "value", args.save_strategy))
    count = {"no": 0, "epoch": math.ceil(num_steps / per_epoch)}.get(strategy)
    if count is None:
        every = args.save_steps if args.save_steps >= 1 else math.ceil(args.save_steps * num_steps)
        count = num_steps // int(every) + (num_steps % int(every) > 0)
    if args.save_total_limit:
        count = min(count, args.save_total_limit)
    if count:
        parts.append(f"{_count(count, 'checkpoint')} of {_size(weights / 1e9)}")
        if not args.save_only_model:
            state = min(count, NUM_STATES) * ADAMW_BYTES * trained
            parts.append(f"optimiser state of the last {'two' if count > 1 else 'one'} {_size(state / 1e9)}")
    return ", ".join(parts)


def _steps_done(plan: RunPlan) -> int:
    return int(plan.resume_from.name.rpartition("-")[2]) if plan.resume_from is not None else 0


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{max(1.0, gigabytes * 1e3):.0f} MB"


def _millions(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1e5 else f"{number:,}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else duration_text(hours * 3600)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _output_line(plan: RunPlan) -> str:
    if plan.resume_from is not None:
        return f"{plan.folder}: resumes from {plan.resume_from.name}"
    return f"{plan.folder}" + (": replaces the results of an earlier run" if plan.clears_output else "")
