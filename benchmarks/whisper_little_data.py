"""What makes Whisper better with an hour of speech or less in every language, and what makes it worse.

    python benchmarks/whisper_little_data.py --model WHISPER_FOLDER --corpora COMMON_VOICE_RELEASE --output FOLDER

For each language one training by `speechtune train` at each learning rate (3 epochs, batch 8, linear decay, the other
options as they are by default). Its weights after each epoch, and half of the final ones mixed with half of the
starting ones, are evaluated on the test split. The epoch of "early stopping" is the one with the lowest WER on the
validation split, the starting weights among them. Finished parts are kept in FOLDER/results.json; the same command
goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from common import one_thread

LANGUAGES = ("tr", "it", "de", "sv-SE")
RATES = ("5e-5", "1e-5")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--corpora", required=True, help="folder with a folder for each language of Common Voice")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", default=LANGUAGES)
    parser.add_argument("--rates", nargs="+", default=RATES)
    parser.add_argument("--seeds", nargs="+", default=["42"])
    parser.add_argument("--encoder_context", default="8")
    args = parser.parse_args()
    one_thread()
    results = args.output / "results.json"
    rows = json.loads(results.read_text("utf-8")) if results.exists() else []
    for seed in args.seeds:
        for language in args.languages:
            for rate in args.rates:
                key = {"language": language, "rate": rate, "seed": seed, "context": args.encoder_context}
                if any(all(row[name] == value for name, value in key.items()) for row in rows):
                    continue
                before = known_before(rows, language, args)
                rows.append({**key, **measure(args, language, rate, seed, before)})
                results.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    print(table(rows))
    return 0


def known_before(rows: list[dict[str, Any]], language: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """Return the starting model's scores on both splits if an earlier run of the language has them."""
    start = Path(args.model).name
    for row in rows:
        if (row["language"], row["context"]) == (language, args.encoder_context):
            return {"validation": row["validation"][start], "test": row["test"]["before"]}
    return None


def measure(
    args: argparse.Namespace, language: str, rate: str, seed: str, before: dict[str, Any] | None
) -> dict[str, Any]:
    """Train once; return the WER on the test split of each variant, with counts."""
    from speechtune.cli.main import main as speechtune

    out = args.output / f"{language}-{rate}-{args.encoder_context}-{seed}"
    data = ["--dataset_name", args.corpora, "--dataset_config_name", language]
    common = ["--encoder_context", args.encoder_context, "--dataloader_num_workers", "0", "--use_cpu"]
    training = ["--learning_rate", rate, "--seed", seed, "--train_split_name", "train", "--do_eval", "false"]
    training += ["--save_strategy", "epoch", "--save_only_model", "--output_dir", str(out)]
    model = ["--model_name_or_path", args.model]
    code = speechtune(["train", *model, *data, *training, *common])
    assert code == 0, f"training ended with exit code {code}"
    epochs = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    start, final = Path(args.model), epochs[-1]
    score = scorer([*model, *data, *common])
    validation = {start.name: before["validation"]} if before else {start.name: score([(start, 1.0)], "validation")}
    validation |= {path.name: score([(path, 1.0)], "validation") for path in epochs}
    best = min((start, *epochs), key=lambda path: rate_of(validation[path.name]))
    rows = {"before": before["test"] if before else score([(start, 1.0)], "test")}
    rows["after"] = score([(final, 1.0)], "test")
    rows["half"] = score([(start, 0.5), (final, 0.5)], "test")
    known = {start.name: rows["before"], final.name: rows["after"]}
    rows["early stopping"] = known.get(best.name) or score([(best, 1.0)], "test")
    for epoch in epochs:
        shutil.rmtree(epoch)
    return {"stopped at": "before" if best == start else best.name, "validation": validation, "test": rows}


def scorer(words: list[str]) -> Any:
    """Return a function from shares of weights and a split to errors and words, on one loaded model."""
    from speechtune.models.weights import load_mixture
    from speechtune.options.parse import parse_options
    from speechtune.plan.resolve import resolve
    from speechtune.training.build import build_arguments, build_recogniser, build_trainer
    from speechtune.training.data import Datasets, read_corpus
    from speechtune.training.evaluations import build_set

    plans = {
        split: resolve(parse_options([*words, "--eval_split_name", split], command="evaluate"))
        for split in ("validation", "test")
    }
    args = build_arguments(plans["test"])
    recogniser = build_recogniser(plans["test"], read_corpus(plans["test"]), args)
    sets = {
        split: build_set(plan, recogniser, args, own_language=plans["test"].language) for split, plan in plans.items()
    }
    trainer = build_trainer(plans["test"], sets["test"].data, recogniser, Datasets(None, sets["test"].dataset), args)

    def score(parts: list[tuple[Path, float]], split: str) -> dict[str, Any]:
        load_mixture(recogniser.model, parts)
        evaluation = sets[split].score(trainer)
        found = evaluation.total("wer")
        errors = [(row.words.edits, row.words.reference_length) for row in evaluation.hypotheses]
        return {"errors": found.edits, "words": found.reference_length, "utterances": errors}

    return score


def rate_of(row: dict[str, Any]) -> float:
    return float(row["errors"] / row["words"])


def table(rows: list[dict[str, Any]]) -> str:
    """Return a table in Markdown: WER on the test split."""
    names = ("before", "after", "half", "early stopping")
    lines = ["| language | learning rate | context | seed | " + " | ".join(names) + " | stopped at |"]
    lines.append("|---" * (len(names) + 5) + "|")
    for row in rows:
        rates = " | ".join(f"{100 * rate_of(row['test'][name]):.1f} %" for name in names)
        names_of = " | ".join(str(row[name]) for name in ("language", "rate", "context", "seed"))
        lines.append(f"| {names_of} | {rates} | {row['stopped at']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
