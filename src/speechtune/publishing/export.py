"""The part of a trained folder that recognition needs: `speechtune export OUT --output_dir DIR`.

Everything is written aside and loaded by plain transformers before it gets its final name.

Rejected: ONNX and TorchScript. The first needs packages that nothing else here needs, the second is no longer
developed; neither carries generation, tokenizer or feature extractor, so the result would recognise nothing by itself.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from speechtune.errors import ModelError, OutputError
from speechtune.files import explain_write_errors
from speechtune.models.loading import Source, check_finite, family_of, load_config
from speechtune.publishing.publish import WEIGHTS, uploaded_files
from speechtune.terminal.formatting import visible

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["run"]

Dtype = Literal["float32", "float16", "bfloat16"]
NOT_COPIED = ("config.json", "generation_config.json", "adapter_config.json", *WEIGHTS, "*_results*.json")


def run(model: str | Path, output_dir: Path, *, dtype: Dtype = "float32") -> int:
    """Write the model into a new folder.

    Args:
        model: folder of a trained model.
        output_dir: must not exist, or be empty.
        dtype: of the weights.

    Returns:
        Exit code, 0.

    Raises:
        ModelError: there is no model, or its weights don't fit the precision.
        OutputError: the output folder holds something, or can't be written.
    """
    folder, output_dir = Path(model).expanduser(), output_dir.expanduser()
    if not os.path.isfile(folder / "config.json"):  # noqa: PTH113 - Path raises on a name too long for a file
        name = str(folder)[:300]
        raise ModelError(f"{name}: no trained model here (config.json).\nGive the --output_dir of a training.")
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise OutputError(f"{output_dir}: holds something already.\nGive a new folder to --output_dir.")
    aside = output_dir.with_name(f".{output_dir.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with explain_write_errors("the exported model", output_dir.parent):
            aside.mkdir(parents=True)
            facts = _export(folder, aside, dtype)
            if output_dir.exists():
                output_dir.rmdir()
            aside.rename(output_dir)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    size_mb = sum(path.stat().st_size for path in output_dir.iterdir()) / 1e6
    print(visible(f"{output_dir}: {facts}, {size_mb:,.1f} MB"))
    return 0


def _export(folder: Path, aside: Path, dtype: Dtype) -> str:
    """Write everything into `aside`, load it, and return a short description."""
    import torch

    model = _load(folder, torch.float32).to(getattr(torch, dtype))
    check_finite(model, where=f"{folder} as {dtype}", advice="Try --dtype bfloat16 or float32.")
    model.save_pretrained(aside)
    for name in uploaded_files(folder):
        if not any(Path(name).match(pattern) for pattern in NOT_COPIED):
            shutil.copyfile(folder / name, aside / name)
    for path in aside.iterdir():
        path.chmod((aside / "config.json").stat().st_mode)  # safetensors makes files that only their owner may read
    assert _load(aside, "auto").dtype == getattr(torch, dtype)
    return f"{model.config.model_type}, {model.num_parameters() / 1e6:.1f} M parameters as {dtype}"


def _load(folder: Path, dtype: object) -> PreTrainedModel:
    """Load a model by plain transformers."""
    from transformers import AutoModelForCTC

    from speechtune.models.seq2seq.families import auto_class
    from speechtune.models.transducer.setup import transducer_class

    source = Source(str(folder))
    config = load_config(source)
    loader: Any = {
        "ctc": AutoModelForCTC, "seq2seq": auto_class(config.model_type),
        "transducer": transducer_class(config.model_type),
    }[family_of(config)]  # fmt: skip
    return source.load("model", loader.from_pretrained, dtype=dtype)
