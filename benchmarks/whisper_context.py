"""Whisper's error rate on real clips by its encoder's context, before and after the same short fine-tuning.

    python benchmarks/whisper_context.py --model WHISPER_FOLDER --corpora COMMON_VOICE_RELEASE

Each context (30 s, the clip and 8 s, the clip and 1 s) starts from the same weights, trains on the same clips in the
same order, and is evaluated in its own context. Loops are hypotheses with more than twice the reference's words. CPU
seconds are those of the evaluation.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import cost_of, one_thread
from page import write_table

LANGUAGES = {"tr": "turkish", "de": "german"}
CONTEXTS: tuple[float | None, ...] = (None, 8.0, 1.0)
LEARNING_RATE = 2e-5


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpora", type=Path, required=True, help="folder with tr/ and de/ of Common Voice")
    parser.add_argument("--clips", type=int, default=20, help="evaluated, of each language")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "whisper_context.json")
    parser.add_argument("--no_table", action="store_true")
    args = parser.parse_args()
    one_thread()
    logging.disable(logging.INFO)
    rows = []
    for margin_s in CONTEXTS:
        rows.append(measure(args, margin_s))
        args.results.write_text(
            json.dumps({"steps": args.steps, "batch": args.batch, "rows": rows}, indent=1) + "\n", "utf-8"
        )
        print(json.dumps(rows[-1]), flush=True)
    if not args.no_table:
        write_table("whisper context", table(json.loads(args.results.read_text("utf-8"))))
    return 0


def measure(args: argparse.Namespace, margin_s: float | None) -> dict[str, Any]:
    """Evaluate, train and evaluate with one context."""
    import torch

    from speechtune.models.loading import load_config, source_of
    from speechtune.models.seq2seq.setup import seq2seq_for_training
    from speechtune.options.table import Settings
    from speechtune.plan.hardware import choose_precision

    torch.manual_seed(0)
    precision = choose_precision("auto", use_cpu=True)
    precision.apply()
    config = Settings(
        model_name_or_path=args.model, encoder_context="full" if margin_s is None else margin_s, force=True
    )
    source = source_of(config)
    assert source is not None
    recogniser = seq2seq_for_training(config, load_config(source), corpus_language="tr")
    data = {language: _splits(args, language) for language in LANGUAGES}
    row: dict[str, Any] = {"margin_s": margin_s, "before": _evaluate(recogniser, data)}
    optimizer = torch.optim.AdamW(
        [p for p in recogniser.model.parameters() if p.requires_grad], lr=LEARNING_RATE, weight_decay=0.0
    )
    recogniser.autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=precision.bf16)
    row["train_cpu_s"] = cost_of(lambda: _train(recogniser, optimizer, data, args)).cpu_s
    recogniser.autocast = type(recogniser).autocast
    row["after"] = _evaluate(recogniser, data)
    row["bf16_training"] = precision.bf16
    return row


def _splits(args: argparse.Namespace, language: str) -> dict[str, Any]:
    from speechtune.corpora import open_corpus
    from speechtune.text.normalise import make_normaliser

    corpus = open_corpus(str(args.corpora / language), None)
    normalise = make_normaliser("default", None, language=language, lower_case=True, trailing_space=False)
    train = corpus.read("train+validation", text_column="sentence", progress=False)
    test = corpus.read("test", text_column="sentence", progress=False)
    return {"train": train, "test": test.select(np.arange(min(args.clips, len(test)))), "normalise": normalise}


def _set_language(recogniser: Any, language: str) -> None:
    recogniser.model.generation_config.language = LANGUAGES[language]
    recogniser.model.generation_config.task = "transcribe"
    recogniser.tokenizer.set_prefix_tokens(language=LANGUAGES[language], task="transcribe")


def _dataset(recogniser: Any, table: Any, normalise: Any) -> Any:
    from speechtune.audio.reader import AudioReader
    from speechtune.data.dataset import BatchMaker, SpeechDataset
    from speechtune.data.prepare import prepare_split

    texts = [normalise(text).strip() for text in table.texts]
    split = prepare_split(table, texts, encode=recogniser.encode, limits=None)
    return SpeechDataset(split, BatchMaker(AudioReader(recogniser.sampling_rate), recogniser.model_input))


def _train(recogniser: Any, optimizer: Any, data: dict[str, Any], args: argparse.Namespace) -> None:
    """Train on batches of alternating languages and similar lengths, the same for every context."""
    import torch

    model = recogniser.model.train()
    random = np.random.default_rng(0)
    plans: dict[str, list[Any]] = {}
    sets = {}
    for language, part in data.items():
        _set_language(recogniser, language)
        sets[language] = _dataset(recogniser, part["train"], part["normalise"])
        order = np.argsort(part["train"].durations_s, kind="stable")
        batches = [order[i : i + args.batch].tolist() for i in range(0, len(order) - args.batch + 1, args.batch)]
        plans[language] = [batches[i] for i in random.permutation(len(batches))]
    for step in range(args.steps):
        language = list(data)[step % len(data)]
        rows = plans[language][step // len(data) % len(plans[language])]
        batch = sets[language].__getitems__(rows)
        with recogniser.autocast():
            loss = recogniser.losses(model, batch).sum() / recogniser.num_items(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def _evaluate(recogniser: Any, data: dict[str, Any]) -> dict[str, Any]:
    import torch

    from speechtune.data.dataset import evaluation_loader
    from speechtune.evaluation.evaluate import recognise_split

    found: dict[str, Any] = {}
    for language, part in data.items():
        _set_language(recogniser, language)
        dataset = _dataset(recogniser, part["test"], part["normalise"])
        loader = evaluation_loader(dataset, batch_size=4)
        start_s = time.process_time()
        made = recognise_split(
            recogniser,
            recogniser.model,
            loader,
            device=torch.device("cpu"),
            normalise=part["normalise"],
            with_loss=False,
        )
        assert made is not None
        rows = [(h.reference.split(), h.hypothesis.split()) for h in made.hypotheses]
        loops = sum(len(hypothesis) > 2 * len(reference) for reference, hypothesis in rows)
        found[language] = {
            "wer": made.total("wer").rate, "loops": loops, "clips": len(rows), "cpu_s": time.process_time() - start_s
        }  # fmt: skip
    return found


def table(measured: dict[str, Any]) -> str:
    lines = [
        f"whisper-base; {measured['steps']} steps of {measured['batch']} clips at {LEARNING_RATE:g}, Turkish and "
        "German in turn; "
        "WER, and in brackets how many hypotheses loop (more than twice the reference's words).",
        "",
        "| context | before: tr | before: de | after: tr | after: de | training, CPU s | evaluation after, CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in measured["rows"]:
        context = "30 s" if row["margin_s"] is None else f"clip + {row['margin_s']:g} s"
        cells = [
            f"{row[when][language]['wer']:.3f} ({row[when][language]['loops']} of {row[when][language]['clips']})"
            for when in ("before", "after")
            for language in LANGUAGES
        ]
        evaluation_s = sum(part["cpu_s"] for part in row["after"].values())
        lines.append("| " + " | ".join([context, *cells, f"{row['train_cpu_s']:.0f}", f"{evaluation_s:.0f}"]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
