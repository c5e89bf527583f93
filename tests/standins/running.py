"""Runs commands and recipes on stand-ins, and says what a finished run's folder must hold."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from reliability.forks import Ended, ForkServer

from standins.corpora import lay_out
from standins.models import hub_environment, stand_ins
from standins.readme_commands import WARM_START

ROOT = Path(__file__).parents[2]
# Two optimiser steps instead of thousands, four utterances scored instead of all.
CUT = ["--max_steps", "2", "--max_eval_samples", "4", "--eval_steps", "2", "--save_steps", "2", "--logging_steps", "1"]


@dataclass(frozen=True)
class Place:
    """Where the stand-ins of one test session lie, shared by its workers."""

    home: Path  # HF_HOME
    corpora: Path  # SPEECHTUNE_CORPORA

    def provide(self, *, models: Iterable[str] = (), corpora: Iterable[str] = ()) -> None:
        """Build what isn't there yet."""
        stand_ins(self.home, models)
        for name in corpora:
            done = self.corpora.parent / "done" / name.replace("/", "--")
            with FileLock(str(self.corpora.parent / f"{done.name}.lock")):
                if not done.exists():
                    lay_out(self.corpora, [name])
                    done.parent.mkdir(exist_ok=True)
                    done.touch()

    def environment(self, cache: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of a fresh process: the stand-ins, an index cache of its own, one thread, no network."""
        own = {
            "SPEECHTUNE_CORPORA": str(self.corpora),
            "SPEECHTUNE_CACHE": str(cache),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONWARNINGS": "ignore",
        }
        return {**hub_environment(self.home), **own, **(extra or {})}

    def enter(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        """Let code in this process find the stand-ins, with `folder` as its working folder."""
        import huggingface_hub.constants

        monkeypatch.setattr(logging.getLogger("speechtune"), "handlers", [])
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(self.home / "hub"))
        monkeypatch.setenv("SPEECHTUNE_CORPORA", str(self.corpora))
        monkeypatch.chdir(folder)


def session_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The session's place: above the workers' own folders, where pytest-xdist runs several."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    place = Place(base / "standins" / "home", base / "standins" / "corpora")
    place.home.mkdir(parents=True, exist_ok=True)
    place.corpora.mkdir(parents=True, exist_ok=True)
    return place


def run_words(words: Sequence[str], server: ForkServer, *, folder: Path, environment: Mapping[str, str]) -> Ended:
    """Run a README command (`python script ...` or `torchrun ... script ...`) in `folder`, with 2 processes at most.

    Its processes are forks that have the libraries loaded already, in the environment that torchrun gives them.
    """
    script, argv, processes = _parts(words)
    how: dict[str, Any] = {"folder": folder, "environment": environment, "processes": processes}
    return server.run(argv, script=script, **how)


def run_torchrun(
    words: Sequence[str], *, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a README command by torchrun itself, with 2 processes."""
    script, argv, processes = _parts(words)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *torchrun, str(script), *argv]
    return subprocess.run(command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=230)


def _parts(words: Sequence[str]) -> tuple[Path, list[str], int]:
    program, *rest = words
    processes = 1
    if program == "torchrun":
        option, number, *rest = rest
        assert option == "--nproc_per_node"
        processes = min(2, int(number))
    return ROOT / "scripts" / rest[0], list(rest[1:]), processes


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def assert_finished(
    folder: Path, *, steps: int = 2, metrics: Sequence[str] = ("wer",), samples: int | None = 4
) -> None:
    """A run's folder: all steps done, every loss finite, error rates with their counts."""
    state = read_json(folder / "trainer_state.json")
    assert state["global_step"] == steps
    losses = [entry[key] for entry in state["log_history"] for key in ("loss", "eval_loss") if key in entry]
    assert any("loss" in entry for entry in state["log_history"])
    assert losses and all(math.isfinite(loss) for loss in losses)
    results = read_json(folder / "eval_results.json")
    assert math.isfinite(results["eval_loss"])
    if samples is not None:
        assert results["eval_samples"] == samples
    for metric in metrics:
        score = results["scores"][metric]
        assert math.isfinite(score["rate"])
        assert results[f"eval_{metric}"] == score["rate"]
        assert score["hits"] + score["substitutions"] + score["deletions"] > 0
    rows = (folder / "hypotheses.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == results["eval_samples"]


def assert_ctc_loads(folder: Path, *, target_language: str | None = None) -> None:
    """Plain transformers loads model and processor, and their sizes agree."""
    import numpy as np
    import torch
    from transformers import AutoModelForCTC, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model, info = AutoModelForCTC.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    if target_language is not None:
        processor.tokenizer.set_target_lang(target_language)
        model.load_adapter(target_language)
    assert model.config.vocab_size == len(processor.tokenizer)
    inputs = processor(np.zeros(16000, "float32"), sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**inputs).logits
    assert logits.shape[-1] == len(processor.tokenizer)
    processor.batch_decode(logits.argmax(-1))


def assert_seq2seq_loads(folder: Path) -> None:
    """Plain transformers loads model and processor and generates."""
    import numpy as np
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model, info = AutoModelForSpeechSeq2Seq.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    inputs = processor(np.zeros(16000, "float32"), sampling_rate=16000, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=4)
    processor.batch_decode(ids, skip_special_tokens=True)


def warm_start(folder: Path, *, encoder: str = "", decoder: str = "") -> None:
    """The README's Python snippet: a speech encoder with a text decoder, saved with its processor."""
    from transformers import AutoFeatureExtractor, AutoTokenizer, SpeechEncoderDecoderModel, Wav2Vec2Processor

    arguments = dict(WARM_START)
    encoder, decoder = encoder or arguments["encoder"], decoder or arguments["decoder"]
    del arguments["encoder"], arguments["decoder"]
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(encoder, decoder, **arguments)
    model.config.decoder_start_token_id = model.decoder.config.bos_token_id
    model.config.pad_token_id = model.decoder.config.pad_token_id
    model.config.eos_token_id = model.decoder.config.eos_token_id
    model.save_pretrained(folder)
    feature_extractor = AutoFeatureExtractor.from_pretrained(encoder)
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    Wav2Vec2Processor(feature_extractor, tokenizer).save_pretrained(folder)
