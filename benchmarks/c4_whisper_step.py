"""C4: a Whisper training step on clips like Common Voice's: 30 s of encoder context like the original, or the
clip and a margin.

openai/whisper-tiny's dimensions with random weights; batches of 8. Both sides compute loss, gradients, clipping and
AdamW. A frozen encoder's output can be cached (that side then reads it instead of computing it; the peer's encoder
is frozen too).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import Cost, Result, Rounds, cost_of, lengths_like, main, noise, one_thread

BATCH = 8
NUM_CLIPS = 2000
TINY_EN = {"d_model": 384, "encoder_layers": 4, "decoder_layers": 4,
           "encoder_attention_heads": 6, "decoder_attention_heads": 6,
           "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536, "vocab_size": 51_865}  # fmt: skip
SMALLEST = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 300}  # fmt: skip
TOKENS_PER_S = 4
PROMPT = 4


def build_whisper(sizes: dict[str, int], *, frozen: bool = False) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    end = sizes["vocab_size"] - 1
    config = transformers.WhisperConfig(
        **sizes, pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=end - 1, dropout=0.0
    )
    model = transformers.WhisperForConditionalGeneration(config)
    if frozen:
        model.get_encoder().requires_grad_(False)
    return model.train()


class _Side:
    def __init__(self, sizes: dict[str, int], *, frozen: bool, matmul: str) -> None:
        import torch
        from transformers import WhisperFeatureExtractor

        self.model = build_whisper(sizes, frozen=frozen)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
        self.extractor = WhisperFeatureExtractor()
        self.matmul = matmul

    def step(self, batch: Any) -> None:
        import torch

        torch.set_float32_matmul_precision(self.matmul)
        loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        assert torch.isfinite(loss)

    def tokens(self, rows: list[int], durations_s: np.ndarray) -> list[np.ndarray]:
        last = self.model.config.vocab_size - 2
        return [
            np.random.default_rng(row).integers(0, last, PROMPT + int(durations_s[row] * TOKENS_PER_S)) for row in rows
        ]

    def loss(self, batch: Any) -> Any:
        raise NotImplementedError

    def prepare(self, batch: Any) -> None:
        """Do the work of an earlier epoch."""


class Peer(_Side):
    """30 s for every clip, random batches, the model's own loss."""

    def __init__(self, sizes: dict[str, int], *, frozen: bool = False) -> None:
        super().__init__(sizes, frozen=frozen, matmul="highest")

    def plan(self, durations_s: np.ndarray) -> list[list[int]]:
        order = np.random.default_rng(0).permutation(len(durations_s))
        return order[: len(order) // BATCH * BATCH].reshape(-1, BATCH).tolist()

    def batch(self, rows: list[int], durations_s: np.ndarray) -> Any:
        import torch

        features = self.extractor(
            [noise(durations_s[row], seed=row) for row in rows], sampling_rate=16_000, return_tensors="pt"
        )
        labels = [torch.from_numpy(ids) for ids in self.tokens(rows, durations_s)]
        padded = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        return {"input_features": features["input_features"], "labels": padded}

    def loss(self, batch: Any) -> Any:
        return self.model(**batch).loss


class Ours(_Side):
    """A margin after the clip, buckets, a frozen encoder's output cached in the previous epoch."""

    def __init__(self, sizes: dict[str, int], *, margin_s: float | None, frozen: bool = False) -> None:
        from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
        from speechtune.models.whisper.context import EncoderContext
        from speechtune.models.whisper.input import WhisperInput
        from speechtune.plan.hardware import choose_precision

        super().__init__(sizes, frozen=frozen, matmul=choose_precision("fp32", use_cpu=True).matmul)
        self.context = EncoderContext(margin_s, 3000)
        self.input = WhisperInput(self.extractor, frames=self.context.frames)
        self.recogniser = Seq2SeqRecogniser(
            self.model,
            tokenizer=_Tokenizer(self.model.config.eos_token_id),
            model_input=self.input,
            context=self.context,
            processor_class="WhisperProcessor",
            max_labels=448,
        )
        if frozen:
            self.recogniser.keep_encoded(_Store())  # type: ignore[arg-type]

    def prepare(self, batch: Any) -> None:
        import torch

        if self.recogniser.encoder_cache is not None:
            with torch.no_grad():
                self.loss(batch)

    def plan(self, durations_s: np.ndarray) -> list[list[int]]:
        from speechtune.data.batching import BatchSettings, plan_epoch

        steps = plan_epoch(durations_s, BatchSettings(utterances_per_step=BATCH), epoch=0)
        return [step.tolist() for step in steps if len(step) == BATCH]

    def batch(self, rows: list[int], durations_s: np.ndarray) -> Any:
        import torch

        from speechtune.data.dataset import _pad_labels
        from speechtune.models.batch import Batch
        from speechtune.types import Utterance

        features = [self.input.features(noise(durations_s[row], seed=row)) for row in rows]
        labels = self.tokens(rows, durations_s)
        return Batch(
            utterances=[Utterance(str(row), "", f"clip {row}", "", float(durations_s[row]), "") for row in rows],
            texts=[],
            rows=list(rows),
            inputs={name: torch.from_numpy(value) for name, value in self.input.pad(features).items()},
            labels=torch.from_numpy(_pad_labels(labels)),
            label_lengths=[len(ids) for ids in labels],
            input_lengths=[len(values) for values in features],
            seconds=float(durations_s[rows].sum()),
        )

    def loss(self, batch: Any) -> Any:
        return self.recogniser.losses(self.model, batch).sum() / sum(batch.label_lengths)


class _Store(dict[str, np.ndarray]):
    """A cache of encoder outputs in memory; speechtune's own is on disk."""

    def put(self, key: str, samples: np.ndarray) -> bool:
        self[key] = samples
        return True


class _Tokenizer:
    """The part of a tokenizer that a recogniser's loss needs."""

    def __init__(self, end: int) -> None:
        self.eos_token_id = end


def compare(sides: dict[str, Any], *, rounds: int, steps: int, scale: float) -> Rounds:
    from ctc_step import _spread_over_lengths

    one_thread()
    durations_s = lengths_like("cv", NUM_CLIPS) * scale
    plans = {n: _spread_over_lengths(side.plan(durations_s), durations_s, rounds * steps) for n, side in sides.items()}
    measured = Rounds()
    for number in range(rounds):
        sums = {name: Cost() for name in sides}
        for i in range(number * steps, (number + 1) * steps):
            for name, side in sides.items():
                rows = plans[name][i]
                batch = side.batch(rows, durations_s)
                work = lambda side=side, batch=batch: side.step(batch)  # noqa: E731
                if number == 0 and i == 0 and scale == 1.0:
                    work()  # warm
                side.prepare(batch)
                sums[name] += cost_of(work, audio_s=float(durations_s[rows].sum()))
        for name, cost in sums.items():
            measured.add(name, cost)
    return measured


def measure(tiny: bool = False) -> list[Result]:
    sizes = SMALLEST if tiny else TINY_EN
    sides: dict[str, Any] = {"peer": Peer(sizes), **{f"{m:g}": Ours(sizes, margin_s=m) for m in (0.0, 1.0, 8.0)}}
    sides["frozen peer"] = Peer(sizes, frozen=True)
    sides |= {f"kept {m}": Ours(sizes, margin_s=m, frozen=True) for m in (None, 1.0)}
    measured = compare(sides, rounds=1 if tiny else 2, steps=1, scale=0.3 if tiny else 1.0)
    worse = "a model must be tuned for a margin under 8 s (see the table of Whisper's context)"
    results = []
    for margin, target in (("0", 5.5), ("1", 5.5), ("8", 2.0)):
        note = "harmless without tuning" if margin == "8" else ""
        cpu, wall = measured.ratios(margin, "peer")
        what = f"Whisper step, tiny, {margin} s after the clip"
        results.append(Result("C4", what, target, cpu, wall, worse="" if note else worse, note=note))
    for margin_s, words, target in ((None, "30 s", 8.0), (1.0, "1 s after the clip", 8.0)):
        for peer, against in (("peer", "peer that trains all"), ("frozen peer", "peer with a frozen encoder")):
            cpu, wall = measured.ratios(f"kept {margin_s}", peer)
            what = f"Whisper step, frozen encoder's output kept ({words}), against the {against}"
            size_mb = 2 * sizes["d_model"] * (1500 if margin_s is None else 300) / 1e6
            results.append(
                Result("C4", what, target, cpu, wall, worse=f"{size_mb:.2f} MB of disk a clip; states in float16")
            )
    return results


if __name__ == "__main__":
    main(measure)
