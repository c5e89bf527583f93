"""Nothing that comes with a model, a corpus or a checkpoint is run; secrets stay secret; any file name works."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from reliability.faults import one_nan
from reliability.forks import ForkServer
from reliability.tiny import read_json, read_rows, run, words, write_clip, write_manifest

from speechtune.errors import CorpusError, ModelError

SECRETS = ["hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345", "hf_ZyXwVuTsRqPoNmLkJiHgFeDcBa543210"]
NAMES = [
    "with space.wav",
    "new\nline.wav",
    "tab\there.wav",
    "-dash.wav",
    "quote'\".wav",
    "100%s {x} \\n.wav",
    "Çğış ünïcode.wav",
    "سلام.wav",
    "語 \u2028 line separator.wav",
    "\x1b[31mred.wav",
    "👩‍🚀.wav",
    "e\u0301 and \u00e9.wav",
]


class Hostile:
    """A pickle that makes a folder where it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from reliability.tiny import write_corpus

    folder = tmp_path_factory.mktemp("trained")
    corpus = write_corpus(folder / "corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPEECHTUNE_CACHE", str(folder / "cache"))
        assert run(*words(corpus, folder / "out", "--max_steps", "2")) == 0
    return folder / "out"


def from_model(model: Path, corpus: Path, output: Path, *more: str) -> list[str]:
    given = words(corpus, output, "--max_steps", "2", *more)
    return ["--model_name_or_path", str(model), *given[2:]]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_pickle_of_a_model_is_run(trained: Path, corpus: Path, tmp_path: Path):
    model, mark = tmp_path / "model", tmp_path / "mark"
    shutil.copytree(trained, model, ignore=shutil.ignore_patterns("checkpoint-*"))
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(ModelError, match=r"a pickle of more than tensors(.|\n)*safetensors"):
        run(*from_model(model, corpus, tmp_path / "out"))
    assert not mark.exists()


def test_no_code_of_a_model_is_run_unless_it_is_trusted(trained: Path, corpus: Path, tmp_path: Path):
    model, mark = tmp_path / "model", tmp_path / "mark"
    shutil.copytree(trained, model, ignore=shutil.ignore_patterns("checkpoint-*"))
    config = read_json(model / "config.json")
    config |= {"model_type": "hostile", "auto_map": {"AutoConfig": "hostile.HostileConfig"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "hostile.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    with pytest.raises(ModelError, match="trust_remote_code"):
        run(*from_model(model, corpus, tmp_path / "out"))
    assert not mark.exists()


def test_tokens_are_in_no_log_and_no_file(server: ForkServer, corpus: Path, tmp_path: Path):
    output, cache = tmp_path / "out", tmp_path / "cache"
    secrets = ["--token", SECRETS[0], "--hub_token", SECRETS[1]]
    command = ["train", *words(corpus, output, "--max_steps", "2", *secrets)]
    ended = server.run(command, environment={"SPEECHTUNE_CACHE": str(cache)})
    assert ended.code == 0, ended.output
    wrong = server.run([*command, "--no_such_option", "1"])
    assert wrong.code == 2
    texts = {path: path.read_bytes() for folder in (output, cache) for path in folder.rglob("*") if path.is_file()}
    texts[Path("log")] = (ended.output + wrong.output).encode()
    leaks = [str(path) for path, text in texts.items() if any(secret.encode() in text for secret in SECRETS)]
    assert not leaks and len(texts) > 20


def test_any_file_name_works(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    corpus = tmp_path / "a corpus\nof names ✓"
    rows = []
    for index, name in enumerate(NAMES):
        write_clip(corpus / name, 0.4 + 0.02 * index, seed=index)
        rows.append({"audio": name, "text": "bir iki"})
    write_manifest(corpus, "train", rows)
    write_manifest(corpus, "test", rows)
    output = tmp_path / "an output\n✓"
    with caplog.at_level(logging.INFO, "speechtune"):
        assert run(*words(corpus, output, "--num_train_epochs", "1", "--force")) == 0
    assert read_rows(output / "skipped.jsonl") == []
    found = {Path(row["file"]).name for row in read_rows(output / "hypotheses.jsonl")}
    assert found == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_file_of_any_name_is_named_on_one_line(name: str, tmp_path: Path):
    from speechtune.audio.reader import AudioReader
    from speechtune.data.dataset import BatchMaker
    from speechtune.data.prepare import check_share_skipped
    from speechtune.models.batch import Item
    from speechtune.types import Utterance

    one_nan(tmp_path / name)
    utterance = Utterance(name, str(tmp_path / name), name, "bir", 0.5, str(tmp_path / name))
    batch = BatchMaker(AudioReader(16_000), _NoFeatures(), split="train")([Item(0, utterance, "bir", [])])
    (row,) = batch.skipped
    assert row.reason == "non_finite" and row.file == str(tmp_path / name) and row.detail.isprintable()
    with pytest.raises(CorpusError) as caught:
        check_share_skipped("train", [row], total=3, max_share=0.1, strict=False, path="skipped.jsonl")
    assert all(line.isprintable() for line in str(caught.value).split("\n")) and str(caught.value).count("\n") == 2


class _NoFeatures:
    """Takes samples as they are."""

    def features(self, samples: Any) -> Any:
        return samples

    def pad(self, features: Any, *, min_length: int = 0) -> dict[str, Any]:
        import numpy as np

        return {"input_values": np.zeros((1, 1), np.float32)}


def test_a_file_name_that_is_not_utf8_works(tmp_path: Path):
    corpus = tmp_path / "corpus"
    for split in ("train", "test"):
        folder = corpus / split
        for index in range(3):
            write_clip(folder / f"{index}.wav", 0.4, seed=index)
        shutil.copy(folder / "0.wav", os.fsencode(folder) + b"/caf\xe9.wav")  # Latin-1
        lines = [json.dumps({"file_name": f"{index}.wav", "text": "bir"}) for index in range(3)]
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    assert run(*words(corpus, tmp_path / "out", "--max_steps", "2")) == 0
    assert read_json(tmp_path / "out" / "eval_results.json")["eval_samples"] == 3
