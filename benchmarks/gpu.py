"""G1-G4: training speed on a GPU, its share of the hardware's limit, how long the GPU waits for data, and a profile.

    python benchmarks/gpu.py                    # all four models, then the table in docs/performance.md
    python benchmarks/gpu.py --only G1 --peer   # one, with a tuned peer (bf16, length-grouped batches, workers)
    python benchmarks/gpu.py --tiny             # sizes for a CPU, to check that the script runs

Random weights of the real dimensions; files of clips like Common Voice's, already in the audio cache; speechtune's own
trainer, loader and recogniser. The limit is computed: operations per second of audio at the speed of matrix products
on an H100 (790 TFLOP/s, bf16). Waits for the device within a step are counted with torch's sync debug mode.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from c4_whisper_step import SMALLEST, build_whisper
from common import build_ctc, lengths_like, letter_tokenizer, tiny_ctc, write_corpus
from gpu_clock import (
    PROFILED_STEPS,
    STEPS,
    TFLOPS,
    WARM_STEPS,
    Clock,
    device_name,
    has_gpu,
    make_profiler,
    syncs_counted,
    top_ten,
)
from page import write_table

RESULTS = Path(__file__).parent / "gpu.json"
NUM_CLIPS = 4000
BASE = {"model_type": "wav2vec2", "mask_time_prob": 0.05, "layerdrop": 0.0, "vocab_size": 32, "pad_token_id": 0}
LARGE = {**BASE, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
         "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}  # fmt: skip
SMALL = {"d_model": 768, "encoder_layers": 12, "decoder_layers": 12,
         "encoder_attention_heads": 12, "decoder_attention_heads": 12,
         "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "vocab_size": 51_865}  # fmt: skip


@dataclass(frozen=True)
class Goal:
    """One of G1 to G4.

    Args:
        gflop: per second of audio in training, clips of 5 s.
        hours: the goal, audio hours per GPU hour.
        batch_s: audio seconds per step.
        margin_s: Whisper: silence after a clip; None for all of its 30 s.
    """

    name: str
    model: str
    sizes: dict[str, Any]
    gflop: float
    hours: float
    batch_s: float
    whisper: bool = False
    margin_s: float | None = None


GOALS = (
    Goal("G1", "wav2vec2-base", BASE, 33.3, 8_000, 1200),
    Goal("G2", "wav2vec2-large", LARGE, 101.9, 3_100, 600),
    Goal("G3", "Whisper-small, 30 s", SMALL, 237, 1_300, 240, whisper=True),
    Goal("G4", "Whisper-small, clip + 1 s", SMALL, 36, 6_500, 600, whisper=True, margin_s=1.0),
)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--peer", action="store_true", help="also measure a tuned peer (CTC models)")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--batch_seconds", type=float, help="instead of each goal's own")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--compile", action="store_true", help="torch.compile, by TrainingArguments")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--no_table", action="store_true")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_clips = 24 if args.tiny else NUM_CLIPS
        durations_s = lengths_like("cv", num_clips) * (0.3 if args.tiny else 1.0)
        corpus = write_corpus(folder, durations_s.tolist(), suffix=".wav", distinct=min(num_clips, 300))
        for goal in GOALS:
            if args.only and goal.name not in args.only:
                continue
            rows.append(measure(goal, corpus, folder, args))
            print(json.dumps(rows[-1], indent=1), flush=True)
            if not args.tiny or args.results != RESULTS:
                args.results.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    if not (args.tiny or args.no_table):
        write_table("gpu", table(rows))
    return 0


def measure(goal: Goal, corpus: Path, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one model: speed, waits, profile."""
    import torch

    trainer, clock = ours(goal, corpus, folder, args)
    row: dict[str, Any] = {"goal": goal.name, "model": goal.model, "device": device_name(), "torch": torch.__version__}
    with contextlib.ExitStack() as stack:
        syncs = stack.enter_context(syncs_counted())
        clock.profiler = None if args.tiny else make_profiler()
        trainer.train()
        if clock.profiler is not None:
            clock.profiler.stop()
    row |= clock.row(syncs)
    if clock.profiler is not None:
        row["top_ten"] = top_ten(clock.profiler)
    if args.peer and not goal.whisper:
        tuned, peer_clock = peer(goal, corpus, folder, args)
        tuned.train()
        row["peer"] = peer_clock.row(Counter())
        row["ratio"] = round(row["hours_per_hour"] / row["peer"]["hours_per_hour"], 2)
    return row


# ---- both sides


def ours(goal: Goal, corpus: Path, folder: Path, args: argparse.Namespace) -> tuple[Any, Clock]:
    """Return speechtune's trainer with a filled audio cache."""
    from transformers import TrainingArguments

    from speechtune.audio.cache import AudioCache
    from speechtune.audio.reader import AudioReader
    from speechtune.corpora import open_corpus
    from speechtune.data.batching import BatchSettings
    from speechtune.data.dataset import BatchMaker, SpeechDataset
    from speechtune.data.prepare import prepare_split
    from speechtune.plan.hardware import choose_num_workers, choose_precision
    from speechtune.training.trainer import SpeechTrainer

    recogniser = _recogniser(goal, folder, tiny=args.tiny)
    table = open_corpus(str(corpus), None, cache_dir=str(folder / "cache")).read(
        "train", text_column="sentence", progress=False
    )
    reader = AudioReader(16_000, cache=AudioCache(folder / "audio", 16_000))
    for row in range(len(table)):
        reader.samples(table[row])
    split = prepare_split(table, list(table.texts), encode=_encoder(goal), limits=None)
    make_batch = BatchMaker(reader, recogniser.training_input, min_length=recogniser.min_input_length)
    precision = choose_precision("auto")
    precision.apply()
    settings = TrainingArguments(
        **_common_arguments(folder, args),
        bf16=precision.bf16,
        fp16=precision.fp16,
        dataloader_num_workers=choose_num_workers(args.workers, on_gpu=has_gpu()) if not args.tiny else 0,
        remove_unused_columns=False,
        torch_compile=args.compile,
    )
    seconds = 6.0 if args.tiny else args.batch_seconds or goal.batch_s
    trainer = SpeechTrainer(
        recogniser,
        settings,
        train_set=SpeechDataset(split, make_batch),
        eval_set=None,
        settings=BatchSettings(seconds_per_step=seconds),
    )
    return trainer, Clock(trainer, gflop=goal.gflop, tiny=args.tiny, seconds=lambda: trainer.audio_seconds)


def peer(goal: Goal, corpus: Path, folder: Path, args: argparse.Namespace) -> tuple[Any, Clock]:
    """Return a tuned peer: float32 Arrow, bf16, length-grouped batches of the same duration, 8 to 16 workers."""
    import datasets
    from peer import Collator, make_tokenizer, prepare, tables
    from transformers import Trainer, TrainingArguments, Wav2Vec2FeatureExtractor

    datasets.disable_progress_bars()
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=goal.sizes.get("feat_extract_norm") == "layer")
    splits = tables(corpus, folder / "peer", {"train": "train"})
    tokenizer = make_tokenizer(splits, folder / "peer")
    rows = prepare(splits, corpus / "clips", extractor, tokenizer)["train"]
    batch = 2 if args.tiny else max(1, int((args.batch_seconds or goal.batch_s) / 5.0))
    settings = TrainingArguments(
        **_common_arguments(folder, args),
        bf16=has_gpu(),
        per_device_train_batch_size=batch,
        train_sampling_strategy="group_by_length",
        length_column_name="input_length",
        remove_unused_columns=False,  # or transformers drops that column before it looks for it
        dataloader_num_workers=0 if args.tiny else args.workers or 12,
    )
    seconds = [0.0]

    def collate(rows: list[dict[str, Any]]) -> Any:
        batch = Collator(extractor, tokenizer)(rows)
        batch["seconds"] = sum(len(row["input_values"]) for row in rows) / 16_000
        return batch

    class Counting(Trainer):
        def training_step(self, model: Any, inputs: Any, *more: Any, **options: Any) -> Any:
            seconds[0] += inputs.pop("seconds")
            return super().training_step(model, inputs, *more, **options)

    model = build_ctc(
        {
            **(tiny_ctc() if args.tiny else goal.sizes),
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
        }
    )
    trainer = Counting(model=model, args=settings, train_dataset=rows, data_collator=collate)
    return trainer, Clock(trainer, gflop=goal.gflop, tiny=args.tiny, seconds=lambda: seconds[0])


def _common_arguments(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "run"),
        "max_steps": 3 if args.tiny else WARM_STEPS + STEPS + PROFILED_STEPS,
        "use_cpu": not has_gpu(),
        "save_strategy": "no",
        "logging_steps": 10_000,
        "report_to": "none",
        "disable_tqdm": True,
    }


def _recogniser(goal: Goal, folder: Path, *, tiny: bool) -> Any:
    from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    from speechtune.models.ctc.recogniser import CtcRecogniser
    from speechtune.models.encoder.padding import make_padding_invariant
    from speechtune.models.inputs import input_for
    from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
    from speechtune.models.whisper.context import EncoderContext
    from speechtune.models.whisper.input import WhisperInput

    if not goal.whisper:
        model = build_ctc(tiny_ctc() if tiny else goal.sizes)
        make_padding_invariant(model)
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
        return CtcRecogniser(model, tokenizer=letter_tokenizer(folder / "tokenizer"), model_input=input_for(extractor))
    model = build_whisper(SMALLEST if tiny else goal.sizes)
    context = EncoderContext(goal.margin_s, 3000)
    tokenizer = type("Tokenizer", (), {"eos_token_id": model.config.eos_token_id})()
    return Seq2SeqRecogniser(
        model,
        tokenizer=tokenizer,
        model_input=WhisperInput(WhisperFeatureExtractor(), frames=context.frames),
        context=context,
        processor_class="WhisperProcessor",
        max_labels=448,
    )


def _encoder(goal: Goal) -> Any:
    """Return a function text -> labels: letters, or a prompt and about a token for every four letters."""
    if goal.whisper:
        return lambda text: [1, 2, 3, 4, *(5 + ord(letter) for letter in text[::4])]
    return lambda text: [1 if letter == " " else 3 + (ord(letter) - 97) % 26 for letter in text]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{rows[0]['device']}, torch {rows[0]['torch']}; {STEPS} steps after {WARM_STEPS}; "
        f"limit at {TFLOPS:g} TFLOP/s.",
        "",
        "| goal | model | audio hours per GPU hour | goal | share of the limit | a step | waits for data | peak memory "
        "| against a tuned peer |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    wanted = {goal.name: goal.hours for goal in GOALS}
    for row in rows:
        cells = [
            row["goal"],
            row["model"],
            f"{row['hours_per_hour']:,.0f}",
            f"≥ {wanted[row['goal']]:,}",
            f"{row['share']:.0%}",
            f"{row['audio_s_a_step']:.0f} s of audio in {row['step_ms']:.0f} ms",
            f"{row['data_wait_share']:.1%}",
            f"{row['peak_memory_gb']:.1f} GB",
            str(row.get("ratio", "")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for row in rows:
        parts = ", ".join(f"{event['name']} {event['share']:.0%}" for event in row.get("top_ten", []))
        lines += [
            "",
            f"{row['goal']}, top ten: {parts}. Waits for the device in its last {PROFILED_STEPS} steps: "
            f"{row['syncs'] or 'none'}.",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    np.random.seed(0)
    sys.exit(main())
