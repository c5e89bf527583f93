"""C6: batches from the decoded-audio cache compared with float32 Arrow files, and disk space for an hour of audio.

Each side runs in its own process, set up as in its training; they alternate.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

from commands import folder_bytes
from common import Cost, Result, Rounds, cost_of, lengths_like, letter_tokenizer, main, one_thread, write_corpus

HOURS = 0.5
BATCH = 8


def measure(tiny: bool = False) -> list[Result]:
    hours = 0.01 if tiny else HOURS
    durations_s = lengths_like("cv", max(8, int(hours * 720)))
    audio_s = float(durations_s.sum())
    measured, rounds, passes = Rounds(), 1 if tiny else 4, 1 if tiny else 10
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder, durations_s.tolist(), eval_clips=4, distinct=200)
        context: Any = multiprocessing.get_context("fork" if tiny else "spawn")
        pipes, filled = {}, {}
        for side in ("ours", "peer"):
            pipes[side], theirs = context.Pipe()
            # Ours runs more passes: one is too short for the clock of CPU seconds.
            job = (theirs, side, corpus, folder / side, audio_s, passes if side == "ours" else 1)
            context.Process(target=_worker, args=job, daemon=True).start()
            theirs.close()
            filled[side] = pipes[side].recv()
        for _ in range(rounds):
            for side, pipe in pipes.items():
                pipe.send(True)
                measured.add(side, pipe.recv())
        for pipe in pipes.values():
            pipe.send(False)
        ours_mb_h = folder_bytes(folder / "ours" / "audio") / 1e6 / (audio_s / 3600)
        peer_mb_h = folder_bytes(folder / "peer" / "cache") / 1e6 / (audio_s / 3600)
    cpu, wall = measured.ratios("ours", "peer")
    speeds = {side: min(c.cpu_s for c in costs) for side, costs in measured.costs.items()}
    note = (
        f"ours {audio_s * passes / speeds['ours']:,.0f} x real time on one core, "
        f"peer {audio_s / speeds['peer']:,.0f} x; filling: ours {filled['ours'].cpu_s:.1f} s CPU (within epoch 1), "
        f"peer {filled['peer'].cpu_s:.1f} s (before it)"
    )
    return [
        Result("C6", "batch reading, CTC", 30.0, cpu, wall, note=note, worse="samples are rounded to 16 bits"),
        Result("C6", "disk for an hour of audio", 120.0, [ours_mb_h], [], unit="MB", note=f"peer {peer_mb_h:.0f} MB"),
    ]


def _worker(pipe: Any, side: str, corpus: Path, folder: Path, audio_s: float, passes: int) -> None:
    """Send the cost of writing the side's files, then, on each request, the cost of `passes` epochs of batches."""
    one_thread()
    if side == "ours":
        loader = ours_loader(corpus, folder)
        filled = cost_of(lambda: _read(loader))
    else:
        loader, filled = peer_loader(corpus, folder)
    pipe.send(filled)
    while pipe.recv():
        pipe.send(cost_of(lambda: _read(loader, passes), audio_s=audio_s * passes))


def ours_loader(corpus: Path, folder: Path) -> Any:
    """Return a training loader in the main process with an empty audio cache."""
    from transformers import Wav2Vec2FeatureExtractor

    from speechtune.audio.cache import AudioCache
    from speechtune.audio.reader import AudioReader
    from speechtune.corpora import open_corpus
    from speechtune.data.batching import BatchSettings
    from speechtune.data.dataset import BatchMaker, SpeechDataset, StepSampler, training_loader
    from speechtune.data.prepare import Limits, prepare_split
    from speechtune.models.inputs import input_for
    from speechtune.plan.hardware import choose_precision
    from speechtune.text.vocab import Labeller

    choose_precision("auto", use_cpu=True).apply()  # as a run does
    table = open_corpus(str(corpus), None, cache_dir=str(folder)).read("train", text_column="sentence", progress=False)
    tokenizer = letter_tokenizer(folder / "tokenizer")
    labeller = Labeller(tokenizer.get_vocab(), unk_token="[UNK]", word_delimiter_token="|")
    split = prepare_split(table, [text.lower() for text in table.texts], encode=labeller, limits=None)
    reader = AudioReader(16_000, cache=AudioCache(folder / "audio", 16_000))
    model_input = input_for(Wav2Vec2FeatureExtractor(return_attention_mask=False))
    dataset = SpeechDataset(split, BatchMaker(reader, model_input, limits=Limits()))  # training looks at each clip
    sampler = StepSampler(table.durations_s, BatchSettings(utterances_per_step=BATCH))
    return training_loader(dataset, sampler, num_workers=0, pin_memory=False)


def peer_loader(corpus: Path, folder: Path) -> tuple[Any, Cost]:
    """Return the Trainer's loader over Arrow files, and the cost of writing them."""
    import datasets
    from peer import Collator, make_tokenizer, prepare, tables
    from torch.utils.data import DataLoader
    from transformers import Wav2Vec2FeatureExtractor

    datasets.disable_progress_bars()
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    splits = tables(corpus, folder, {"train": "train"})
    tokenizer = make_tokenizer(splits, folder)
    found: list[Any] = []
    filled = cost_of(lambda: found.append(prepare(splits, corpus / "clips", extractor, tokenizer)["train"]))
    loader = DataLoader(found[0], batch_size=BATCH, shuffle=True, collate_fn=Collator(extractor, tokenizer))
    return loader, filled


def _read(loader: Any, passes: int = 1) -> None:
    for _ in range(passes):
        for _ in loader:
            pass


if __name__ == "__main__":
    main(measure)
