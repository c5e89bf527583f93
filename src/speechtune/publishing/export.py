"""What recognition needs of a trained folder, and nothing else: `speechtune export OUT --output_dir DIR`.

The result loads with plain transformers and is tried before it is there: the weights written are read back and must
answer a test signal as the trained model does, exactly for float32, up to rounding for the half formats.

Rejected: ONNX and TorchScript. The first needs packages that nothing else here needs, the second is no longer
developed; neither carries generation, tokenizer or feature extractor, so the result would recognise nothing by itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from speechtune.errors import ModelError, OutputError
from speechtune.files import explain_write_errors
from speechtune.models.loading import Source, family_of, load_config
from speechtune.publishing.publish import WEIGHTS, uploaded_files

__all__ = ["run"]

Dtype = Literal["float32", "float16", "bfloat16"]

# Largest relative difference of the logits: half formats keep 11 and 8 bits of a weight.
TOLERANCE = {"float32": 1e-6, "float16": 0.02, "bfloat16": 0.1}
WRITTEN_ANEW = ("config.json", "generation_config.json", *WEIGHTS)
NOT_FOR_USE = ("eval_results*.json", "train_results.json")
SIGNAL_S = 3.0
MAX_TOKENS = 20  # generated for the comparison


def run(model: str | Path, output_dir: Path, *, dtype: Dtype = "float32") -> int:
    """Write the model into a new folder.

    Args:
        model: folder of a trained model.
        output_dir: must not be there, or be empty.
        dtype: of the weights.

    Returns:
        Exit code, 0.

    Raises:
        ModelError: there is no model, or it doesn't survive the precision.
        OutputError: the output folder holds something.
    """
    folder, output_dir = Path(model).expanduser(), output_dir.expanduser()
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no trained model lies here (config.json).\nGive the --output_dir of a training.")
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise OutputError(f"{output_dir}: holds something already.\nGive a new folder to --output_dir.")
    aside = output_dir.with_name(f".{output_dir.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        with explain_write_errors("the exported model", output_dir):
            facts = _export(folder, aside, dtype)
        if output_dir.exists():
            output_dir.rmdir()
        aside.rename(output_dir)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    size_mb = sum(path.stat().st_size for path in output_dir.iterdir()) / 1e6
    print(f"{output_dir}: {facts}, {size_mb:,.1f} MB")
    return 0


def _export(folder: Path, aside: Path, dtype: Dtype) -> str:
    """Write all into `aside`, try it, and say in a few words what it is."""
    import torch

    trained = _load(folder)
    signal = _signal()
    wanted = _answer(trained, folder, signal)
    trained.to(getattr(torch, dtype))
    _check_finite(trained, dtype)
    trained.save_pretrained(aside)
    for name in uploaded_files(folder):
        if not any(Path(name).match(pattern) for pattern in (*WRITTEN_ANEW, *NOT_FOR_USE)):
            shutil.copyfile(folder / name, aside / name)
    for path in aside.iterdir():
        path.chmod((aside / "config.json").stat().st_mode)  # safetensors makes files that only their owner may read
    # Rounding is what is compared, so the arithmetic is that of float32 on both sides.
    text, difference = _compare(wanted, _answer(_load(aside), aside, signal))
    if difference > TOLERANCE[dtype] or (dtype == "float32" and text != "the same text"):
        raise ModelError(
            f"{folder}: exported as {dtype} it answers differently (by {difference:.2g} of its logits, {text}).\n"
            + ("Try --dtype float32." if dtype != "float32" else "Its files don't belong together: train it again.")
        )
    what = f"{trained.config.model_type}, {trained.num_parameters() / 1e6:.1f} M parameters as {dtype}"
    return f"{what}; tried: {text}, logits within {difference:.1g}"


def _load(folder: Path) -> Any:
    """The model by plain transformers, in float32."""
    import torch
    from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq

    source = Source(str(folder))
    is_ctc = family_of(load_config(source)) == "ctc"
    loader = AutoModelForCTC if is_ctc else AutoModelForSpeechSeq2Seq
    return source.load("model", loader.from_pretrained, dtype=torch.float32).eval()


def _answer(model: Any, folder: Path, signal: NDArray[np.float32]) -> tuple[str, Any]:
    """Text and logits (1, T, V) for the test signal, by plain transformers."""
    import torch
    from transformers import AutoProcessor

    processor = Source(str(folder)).load("processor", AutoProcessor.from_pretrained)
    rate = processor.feature_extractor.sampling_rate
    inputs = processor(signal, sampling_rate=rate, return_tensors="pt")
    with torch.inference_mode():
        if family_of(model.config) == "ctc":
            logits = model(**inputs).logits
            return processor.batch_decode(logits.argmax(-1))[0], logits
        ids = model.generate(**inputs, max_new_tokens=MAX_TOKENS)
        start = torch.full((1, 1), int(model.config.decoder_start_token_id))
        return processor.batch_decode(ids)[0], model(**inputs, decoder_input_ids=start).logits


def _compare(wanted: tuple[str, Any], got: tuple[str, Any]) -> tuple[str, float]:
    """What became of the text, and the relative norm of the logits' difference."""
    difference = float((got[1] - wanted[1]).norm() / wanted[1].norm().clamp(min=1e-30))
    return "the same text" if got[0] == wanted[0] else "another text", difference


def _check_finite(model: Any, dtype: Dtype) -> None:
    import torch

    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"{name}: holds numbers that {dtype} can't, or none at all (NaN).\nTry --dtype bfloat16 or float32."
            )


def _signal() -> NDArray[np.float32]:
    """Something like speech at 16 kHz, (48000,) float32, the same every time: gliding harmonics in syllables."""
    time_s = np.arange(int(SIGNAL_S * 16_000)) / 16_000
    phase = 2 * np.pi * (120 * time_s + 20 * np.sin(2 * time_s))
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 20))
    noise = np.random.default_rng(0).standard_normal(len(time_s))
    return (0.1 * harmonics * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * time_s)) + 0.005 * noise).astype(np.float32)
