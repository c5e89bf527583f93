"""What a run needs before its first step: splits, a recogniser that fits them, training arguments, an output folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from speechtune.checkpoint import checkpoints, remove_half_written, write_atomically
from speechtune.config import Options
from speechtune.corpora import open_corpus
from speechtune.corpora.cache import cache_folder
from speechtune.corpora.stream import UtteranceStream
from speechtune.data.arena import Arena, arena_folder
from speechtune.data.prepare import Limits, PreparedSplit, check_share_left_out, prepare_split, summary_line
from speechtune.data.reading import AudioReader
from speechtune.errors import OptionError, OutputError
from speechtune.machine import choose_num_workers, choose_number_format
from speechtune.models.ctc_frames import min_ctc_frames
from speechtune.models.recogniser import Recogniser
from speechtune.text.languages import language_of
from speechtune.text.normalise import make_normaliser
from speechtune.types import LeftOut

__all__ = [
    "Splits",
    "claim_output_folder",
    "open_splits",
    "prepare_splits",
    "reader_for",
    "set_seed",
    "text_normaliser",
    "training_arguments",
    "training_limits",
    "write_left_out",
]

log = logging.getLogger("speechtune")
SETTINGS = "settings.json"
# A run in the same folder with another of these is another run, not the same one to go on with.
IDENTITY = (
    "model_name_or_path",
    "model_config",
    "dataset_name",
    "dataset_config_name",
    "train_split_name",
    "target_language",
)
ANEW = ("left_out.jsonl", "bad_steps.jsonl", "eval_results*.json", "hypotheses*.jsonl", "train_results.json", "all_results.json",
        "trainer_state.json", "report.html", SETTINGS)  # fmt: skip


@dataclass
class Splits:
    """The corpus' rows, not yet prepared: tables, or streams of the hub and of shards. Either split may be None.

    Args:
        name: of corpus and config, for messages and score files.
        language: short code, or None.
    """

    name: str
    language: str | None
    train: Any
    evaluation: Any
    train_texts: list[str] = field(default_factory=list)
    evaluation_texts: list[str] = field(default_factory=list)

    def normalise(self, normalise: Callable[[str], str]) -> None:
        """Fill in the normalised transcripts."""
        self.train_texts = [] if self.train is None else [normalise(text).strip() for text in self.train.texts]
        self.evaluation_texts = (
            [] if self.evaluation is None else [normalise(text).strip() for text in self.evaluation.texts]
        )


def open_splits(options: Options, *, train: bool, evaluate: bool) -> Splits:
    """Find the corpus and index the splits that are asked for."""
    config = options.config
    corpus = open_corpus(
        config.dataset_name,
        config.dataset_config_name,
        corpora_dir=config.corpora_dir,
        cache_dir=config.cache_dir,
        token=config.token,
        trust_remote_code=config.trust_remote_code,
        overwrite_cache=config.overwrite_cache,
    )

    # What lies in files is read where it lies; only the hub and shards have to be taken as they come.
    streaming = config.streaming and corpus.layout.stream is not None
    if config.streaming and not streaming:
        log.info(f"--streaming: {corpus.label} lies on this disk and is read from there; nothing is decoded ahead")

    def read(expression: str, max_samples: int | None) -> Any:
        text_column = config.text_column_name if "text_column_name" in options.given else None
        if streaming:
            return corpus.stream(expression, text_column=text_column, audio_column=config.audio_column_name)
        table = corpus.read(
            expression,
            text_column=text_column,
            audio_column=config.audio_column_name,
            max_workers=config.preprocessing_num_workers,
        )
        return table if max_samples is None else table.select(np.arange(min(max_samples, len(table))))

    name = corpus.name + (f"/{corpus.config_name}" if corpus.config_name else "")
    language = language_of(corpus.language or config.dataset_config_name, config.target_language or config.language)
    return Splits(
        name,
        language,
        read(config.train_split_name, config.max_train_samples) if train else None,
        read(config.eval_split_name, config.max_eval_samples) if evaluate else None,
    )


@dataclass(frozen=True)
class Phonemised:
    """Transcripts normalised, then written as phonemes."""

    normaliser: Any
    phonemizer: Any

    def __call__(self, text: str) -> str:
        return str(self.phonemizer(self.normaliser(text)))

    def describe(self) -> str:
        return f"{self.normaliser.describe()}; then {self.phonemizer.describe()}"

    def hash(self) -> str:
        return hashlib.sha256(self.describe().encode()).hexdigest()[:12]


def text_normaliser(
    options: Options, language: str | None, *, seq2seq: bool = False
) -> tuple[Any, Callable[[str], str]]:
    """What is done to transcripts, and what is done to hypotheses before they are scored against them."""
    config = options.config
    if config.corpus_phones:
        from speechtune.text.phonemes import TimitPhones

        return TimitPhones(), str
    normaliser = make_normaliser(
        config.protocol,
        config.chars_to_ignore,
        language=language,
        lower_case=config.do_lower_case,
        trailing_space=not seq2seq,
    )
    if config.phoneme_language is None:
        return normaliser, normaliser
    from speechtune.text.phonemes import make_phonemizer

    phonemizer = make_phonemizer(config.phoneme_language, word_delimiter_token=config.word_delimiter_token)
    return Phonemised(normaliser, phonemizer), str  # hypotheses are phonemes already


def training_limits(options: Options, recogniser: Recogniser) -> Limits:
    """What training leaves out: the user's limits and the model's."""
    config = options.config
    frames = recogniser.frames_of()
    return Limits(
        config.min_duration_in_seconds,
        min(config.max_duration_in_seconds, recogniser.max_duration_s or float("inf")),
        frames=frames,
        min_frames=min_ctc_frames if frames else None,
        max_labels=recogniser.max_labels,
    )


def prepare_splits(
    splits: Splits, options: Options, recogniser: Recogniser, *, left_out_path: Path
) -> tuple[PreparedSplit | None, PreparedSplit | None]:
    """Encode and filter both splits; say what is left out, and stop where it is too much."""
    config = options.config
    durations = Limits(config.min_duration_in_seconds, config.max_duration_in_seconds)
    training = training_limits(options, recogniser)
    # The original scripts drop long clips from the score as well; the default scores every clip.
    evaluation = replace(durations, needs_text=False) if config.protocol == "readme" else None

    def prepare(role: str, table: Any, texts: list[str], limits: Limits | None) -> PreparedSplit | None:
        if table is None or isinstance(table, UtteranceStream):
            return None
        split = prepare_split(table, texts, encode=recogniser.encode, limits=limits)
        total = len(split) + len(split.dropped)
        if split.dropped:
            log.warning(summary_line(role, split.dropped, total=total, path=str(left_out_path)))
        check_share_left_out(
            role,
            split.dropped,
            total=total,
            max_share=config.max_left_out,
            strict=config.strict,
            path=str(left_out_path),
        )
        return split

    return (
        prepare("train", splits.train, splits.train_texts, training),
        prepare("evaluation", splits.evaluation, splits.evaluation_texts, evaluation),
    )


def reader_for(options: Options, sampling_rate: int) -> AudioReader:
    """Audio at the model's rate, kept decoded in the cache unless the user turned that off."""
    config = options.config
    if config.arena_max_gb == 0:
        return AudioReader(sampling_rate)
    folder = arena_folder(cache_folder(config.cache_dir), sampling_rate)
    max_bytes = None if config.arena_max_gb is None else int(config.arena_max_gb * 1e9)
    return AudioReader(sampling_rate, arena=Arena(folder, sampling_rate, max_bytes=max_bytes))


def training_arguments(options: Options, *, seq2seq: bool = False) -> tuple[Any, str]:
    """TrainingArguments out of the user's words and our few defaults, and a line on number formats."""
    from transformers import Seq2SeqTrainingArguments, TrainingArguments

    given = dict(options.training)
    wish = options.config.precision
    if wish == "auto":
        wish = "bf16" if given.get("bf16") else "fp16" if given.get("fp16") else "auto"
    use_cpu = bool(given.get("use_cpu", False))
    number_format = choose_number_format(wish, use_cpu=use_cpu)
    number_format.apply()
    import torch

    has_gpu = torch.cuda.is_available() and not use_cpu
    given.update(bf16=number_format.bf16, fp16=number_format.fp16, use_cpu=not has_gpu)
    given["dataloader_num_workers"] = choose_num_workers(given.get("dataloader_num_workers"), has_gpu=has_gpu)
    if given.get("fsdp") and not has_gpu:
        log.warning("--fsdp: accelerate shards models over GPUs only; here each process keeps the whole model")
        del given["fsdp"]
    given.setdefault("logging_steps", 10)
    given.setdefault("report_to", "none")
    given.setdefault("log_level", "error")
    if given.get("eval_strategy", "no") != "no":
        given.setdefault("metric_for_best_model", "wer")
        given.setdefault("greater_is_better", False)
    given.setdefault("output_dir", str(options.output_dir or "."))
    # Ours to decide: progress.py shows, the dataset makes ready batches, and a logged 0 must never stand for a NaN.
    given.update(disable_tqdm=True, remove_unused_columns=False, logging_nan_inf_filter=False, push_to_hub=False)
    arguments_class = Seq2SeqTrainingArguments if seq2seq else TrainingArguments
    try:
        return arguments_class(**given), number_format.line
    except (ValueError, TypeError, ImportError) as error:  # its own checks of options against each other
        raise OptionError(f"TrainingArguments: {str(error).strip()}") from error


def set_seed(args: Any) -> None:
    """Before the model is built: what of it starts from random weights is the same in each run and process."""
    from transformers import enable_full_determinism, set_seed

    (enable_full_determinism if args.full_determinism else set_seed)(args.seed)


def in_turn(args: Any) -> Any:
    """The first process goes first: what it indexes or builds in the cache, the others find there."""
    return args.main_process_first(local=False) if args is not None and args.world_size > 1 else nullcontext()


def claim_output_folder(options: Options, identity: dict[str, Any]) -> bool:
    """See what lies in the output folder, and make room.

    Returns:
        True where a run of the same command was begun there, to be gone on with.

    Raises:
        OutputError: it holds another run, or files that are not ours.
    """
    folder = options.output_dir
    assert folder is not None
    found = _read_json(folder / SETTINGS)
    if options.config.overwrite_output_dir:
        _clear(folder)
        return False
    remove_half_written(folder)
    if found is None:
        foreign = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        is_model = (folder / "config.json").exists() and _same_folder(folder, options)
        if foreign and not is_model:
            raise OutputError(
                f"{folder}: holds files that no run of speechtune wrote ({', '.join(sorted(foreign)[:3])}, ...).\n"
                "Give another --output_dir, or --overwrite_output_dir to write there all the same."
            )
        return False
    before = found.get("identity", {})
    changed = [name for name in IDENTITY if before.get(name) != identity.get(name)]
    if changed and checkpoints(folder):
        if changed and "target_language" in changed:
            _clear(folder)  # another language into the same folder: its adapters stay, the other run's checkpoints go
            return False
        name = changed[0]
        raise OutputError(
            f"{folder}: in use by another run, with --{name} {before.get(name)} instead of {identity.get(name)}.\n"
            "Give another --output_dir, or --overwrite_output_dir to start anew there."
        )
    return bool(checkpoints(folder))


def identity_of(options: Options) -> dict[str, Any]:
    """What makes two runs the same run."""
    return {name: getattr(options.config, name) for name in IDENTITY}


def write_settings(options: Options, **more: Any) -> None:
    """Write what was asked for, without secrets."""
    folder = options.output_dir
    assert folder is not None
    row = {"options": options.shareable(), "identity": identity_of(options), **more}
    write_atomically(folder / SETTINGS, json.dumps(row, ensure_ascii=False, indent=1, default=str) + "\n")


def write_left_out(folder: Path, rows: Iterable[LeftOut]) -> None:
    """Write left_out.jsonl, one line an utterance, none twice."""
    unique = {(row.split, row.id): row for row in rows}
    text = "".join(json.dumps(row.as_json(), ensure_ascii=False) + "\n" for row in unique.values())
    write_atomically(folder / "left_out.jsonl", text)


def _clear(folder: Path) -> None:
    import shutil

    remove_half_written(folder)
    for path in checkpoints(folder):
        shutil.rmtree(path, ignore_errors=True)
    for pattern in ANEW:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _same_folder(folder: Path, options: Options) -> bool:
    names = (options.config.model_name_or_path, options.config.tokenizer_name_or_path)
    return any(name and os.path.isdir(name) and os.path.samefile(name, folder) for name in names)  # noqa: PTH112, PTH121


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        row = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) else None
