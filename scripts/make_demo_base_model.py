"""Pretrain the demo's base model: `python scripts/make_demo_base_model.py --output_dir OUT`.

A small wav2vec2 encoder learns the phoneme of every 30 ms frame of synthetic speech in 22 languages, none of them
Turkic, by 84 of espeak-ng's voices, none of them the demo's unseen ones. The text is pseudo-words of each language's
syllables; espeak-ng reports which phoneme it spoke when. Everything is generated from the seed, so nothing is
downloaded and anyone can repeat it.

This is not `speechtune train` because the speech is endless and never stored, and has one label per frame: there is no
corpus, vocabulary or epoch. Rejected: CTC on the same phonemes (ten times as many steps until it outputs more than
blanks), self-supervised pretraining (hours on 2 cores for the same demo), real speech (licences, downloads).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechtune.demo.corpus import UNSEEN_VARIANTS
from speechtune.demo.synthesis import SAMPLING_RATE as VOICE_SAMPLING_RATE
from speechtune.demo.synthesis import Speaker

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import Wav2Vec2Model

SAMPLING_RATE = 16_000  # Hz; the model's
BATCH_S = 24.0  # seconds of padded speech per step
SPEAKERS_PER_CHUNK, UTTERANCES_PER_SPEAKER = 20, 10  # a chunk is generated, then split into batches by duration
BIN_SAMPLES = 8_000  # lengths are padded to multiples of this: oneDNN prepares its kernels for each new shape

# Convolutional front end: a frame every STRIDE samples (30 ms), of RECEPTIVE_FIELD samples each (73 ms).
CONV_KERNEL, CONV_STRIDE = (20, 8, 8, 6), (10, 4, 4, 3)
STRIDE = math.prod(CONV_STRIDE)
RECEPTIVE_FIELD = 1 + sum((kernel - 1) * math.prod(CONV_STRIDE[:i]) for i, kernel in enumerate(CONV_KERNEL))
FIRST_FRAME_MIDDLE = RECEPTIVE_FIELD // 2

# Syllables: onsets / nuclei / codas in the spelling of the language ("-" is none).
LANGUAGES = {
    "de": "b d f g h j k l m n p r s sch st t w z br gr kl/a e i o u ä ö ü ei au eu ie/- - n r s t l ch m ng",
    "en-us": "b d f g h j k l m n p r s sh t th v w y z ch tr st/a e i o u ee oo ai ou ay er/- - n r s t l ck m ng sh",
    "en-gb-x-rp": "b d f g h j k l m n p r s sh t th v w y z ch/a e i o u ee oo ai ou ow/- - n s t l ck m ng",
    "fr": "b d f g j k l m n p r s t v z ch gn br/a e i o u ou é è eu oi an on in/- - - r l s t",
    "es": "b d f g j k l m n ñ p r rr s t ch ll y z/a e i o u ie ue/- - n s r l",
    "it": "b d f g c l m n p r s t v z gi ci sc gn qu/a e i o u/- - - n r l s",
    "pt": "b d f g j c l m n p r s t v z ch lh nh/a e i o u ã ão é ei/- - s r m",
    "nl": "b d f g h j k l m n p r s sch t v w z/a e i o u aa ee oo uu ui eu ij oe ie/- - n r s t l k",
    "sv": "b d f g h j k l m n p r s t v sk tj/a e i o u å ä ö y/- - n r l t s ng",
    "da": "b d f g h j k l m n p r s t v/a e i o u å æ ø y/- - n r l t s",
    "fi": "h j k l m n p r s t v d/a e i o u y ä ö aa ii uu yö ie/- - n s t l r",
    "et": "h j k l m n p r s t v g b d/a e i o u ü õ ä ö aa/- - n s t l r",
    "hu": "b d f g h j k l m n p r s sz t v z zs cs gy ny ty/a e i o u ö ü á é í ó ő ű/- - n k r s l t gy",
    "pl": "b d f g h j k l m n p r s sz cz ś ć ż t w z ł dź/a e i o u y ą ę/- - n k r s l t m",
    "cs": "b d f g h j k l m n p r s š č ž ř t v z ď ť/a e i o u y á é í ů/- - n k r s l t m",
    "ro": "b d f g h j c l m n p r s ș ț t v z ci gi/a e i o u ă â î ea/- - n c r s l t m",
    "sq": "b d f g h j k l ll m n p q r rr s sh t th v xh y z zh ç gj nj/a e i o u ë y/- - n k r s l t m",
    "hr": "b d f g h j k l m n p r s š č ć ž đ t v z lj nj dž/a e i o u/- - - n k r s l t m",
    "ru": "б в г д ж з к л м н п р с т ф х ц ч ш щ й/а е и о у ы э ю я/- - н р с т л ш к",
    "el": "β γ δ ζ θ κ λ μ ν π ρ σ τ φ χ ξ μπ ντ γκ τσ/α ε ι ο ου/- - - ς ν",
    "id": "b d g h j k l m n p r s t w y c ny ng/a e i o u ai au/- - n k r s l t m ng",
    "ko": "-/가 그 스 드 거 고 구 기 느 나 니 모 므 브 바 부 라 르 리 로 서 사 저 즈 처 츠 트 크 흐 하"
    " 은 운 응 을 음 슬/-",
    "sw": "b d f g h j k l m n p r s t v w y z ch sh ng ny dh gh/a e i o u/-",
}  # fmt: skip

VARIANTS = [
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique",
    "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "RicishayMax", "RicishayMax2", "Storm",
    "Tweaky", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "david", "ed", "edward",
    "edward2", "f1", "f2", "f3", "f4", "grandma", "grandpa", "gustave", "ian", "iven", "iven2", "iven3", "iven4",
    "john", "kaukovalta", "klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6", "linda", "m1", "m2", "m3", "m4",
    "m5", "m6", "m7", "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul", "pedro", "quincy",
    "rob", "robert", "robosoft4", "robosoft7", "sandro", "shelby", "steph", "steph2", "steph3", "travis", "victor",
    "zac",
]  # fmt: skip
assert not set(VARIANTS) & set(UNSEEN_VARIANTS)


@dataclass(frozen=True, slots=True)
class Spoken:
    """One utterance of pseudo-words."""

    samples: np.ndarray  # float32, (num_samples,), at SAMPLING_RATE, zero mean and unit variance
    frames: list[str]  # phoneme at the middle of each frame, (num_frames,)


def draw_text(random: np.random.Generator, language: str) -> str:
    """Return one to six pseudo-words of one to four syllables each."""
    onsets, nuclei, codas = (part.split() for part in LANGUAGES[language].split("/"))
    words = []
    for _ in range(random.integers(1, 7)):
        num_syllables = random.choice([1, 2, 3, 4], p=[0.2, 0.4, 0.3, 0.1])
        syllables = [random.choice(onsets) + random.choice(nuclei) + random.choice(codas) for _ in range(num_syllables)]
        if random.random() < 0.15:  # a word that starts with its vowel
            syllables[0] = random.choice(nuclei) + random.choice(codas)
        words.append("".join(syllables).replace("-", ""))
    return " ".join(words) + random.choice([".", "?", "!"], p=[0.8, 0.1, 0.1])


def phoneme_class(ipa: str) -> str:
    """Return the IPA of a phoneme without length and secondary stress.

    Main stress stays: most Turkish words end on it.
    """
    return "".join(letter for letter in ipa if letter.isalpha() and letter not in "ʲʰˌːʔ")


def speak_chunk(seed: int, languages: list[str], variants: list[str]) -> list[Spoken]:
    """Synthesise the chunk of a seed: SPEAKERS_PER_CHUNK voices with UTTERANCES_PER_SPEAKER utterances each."""
    import numpy as np

    random = np.random.default_rng(seed)
    spoken = []
    for _ in range(SPEAKERS_PER_CHUNK):
        language = str(random.choice(languages))
        with Speaker(f"{language}+{random.choice(variants)}") as speaker:
            for _ in range(UTTERANCES_PER_SPEAKER):
                text = draw_text(random, language)
                samples = speaker.say(
                    text,
                    rate_wpm=int(random.integers(100, 211)),
                    pitch=int(random.integers(20, 81)),
                    pitch_range=int(random.integers(15, 86)),
                )
                pace = random.uniform(0.88, 1.14)
                heard = distort(samples, pace, random)
                starts = np.array([start for start, _ in speaker.phonemes]) * (
                    SAMPLING_RATE / VOICE_SAMPLING_RATE / pace
                )
                middles = FIRST_FRAME_MIDDLE + STRIDE * np.arange((len(heard) - RECEPTIVE_FIELD) // STRIDE + 1)
                indices = np.searchsorted(starts, middles, side="right") - 1
                spoken.append(Spoken(heard, [phoneme_class(speaker.phonemes[max(i, 0)][1]) for i in indices]))
    return spoken


def distort(samples: np.ndarray, pace: float, random: np.random.Generator) -> np.ndarray:
    """Simulate another voice, room and microphone: changed speed and formants, random equaliser, coloured noise.

    Args:
        samples: int16, (num_samples,), at VOICE_SAMPLING_RATE.
        pace: factor of speed, formants and pitch.

    Returns:
        float32, (num_samples,), at SAMPLING_RATE, zero mean and unit variance.
    """
    import numpy as np
    import soxr

    heard = samples.astype(np.float32) / 32_768.0
    heard = soxr.resample(heard, VOICE_SAMPLING_RATE * pace, SAMPLING_RATE, quality="MQ")
    fast_length = -(-len(heard) // 4096) * 4096  # FFTs of a prime length take ten times as long
    spectrum = np.fft.rfft(heard, n=fast_length)
    if random.random() < 0.6:
        spectrum *= _random_curve(random, len(spectrum), spread_db=6.0)
    if random.random() < 0.6:
        noise = np.fft.rfft(random.standard_normal(fast_length, dtype=np.float32))
        noise *= _random_curve(random, len(spectrum), spread_db=12.0)
        noise_db = 10 * np.log10((np.abs(spectrum) ** 2).mean() / (np.abs(noise) ** 2).mean() + 1e-12)
        spectrum = spectrum + noise * 10 ** ((noise_db - random.uniform(5.0, 40.0)) / 20)
    heard = np.fft.irfft(spectrum)[: len(heard)].astype(np.float32)
    return (heard - heard.mean()) / np.sqrt(heard.var() + 1e-7)


def _random_curve(random: np.random.Generator, num_bins: int, spread_db: float) -> np.ndarray:
    import numpy as np

    knots = random.uniform(-spread_db, spread_db, size=7)
    return (10 ** (np.interp(np.linspace(0, 6, num_bins), np.arange(7), knots) / 20)).astype(np.float32)


def phoneme_table() -> dict[str, int]:
    """Return phoneme -> class for all but the rare phonemes of a fixed sample of the pretraining speech."""
    counts: dict[str, int] = {}
    for language in LANGUAGES:
        for spoken in speak_chunk(0, [language], ["m1", "f2"]):
            for phoneme in spoken.frames:
                counts[phoneme] = counts.get(phoneme, 0) + 1
    return {phoneme: index for index, phoneme in enumerate(sorted(p for p, count in counts.items() if count >= 20))}


def batches(seed: int, step: int, table: dict[str, int], languages: list[str], variants: list[str]) -> Iterator[Any]:
    """Yield endless batches of BATCH_S padded seconds, of similar durations, from chunks `seed`, `seed + step`, ..."""
    waiting: dict[int, list[Spoken]] = {}
    while True:
        for utterance in speak_chunk(seed, languages, variants):
            num_bins = -(-len(utterance.samples) // BIN_SAMPLES)
            group = waiting.setdefault(num_bins, [])
            group.append(utterance)
            if len(group) == max(int(BATCH_S * SAMPLING_RATE / BIN_SAMPLES / num_bins), 1):
                yield collate(waiting.pop(num_bins), num_bins * BIN_SAMPLES, table)
        seed += step


def collate(spoken: list[Spoken], num_samples: int, table: dict[str, int]) -> dict[str, torch.Tensor]:
    """Return input_values and attention_mask (N, num_samples), classes (N, num_frames) with -100 for none."""
    import torch

    num_frames = (num_samples - RECEPTIVE_FIELD) // STRIDE + 1
    batch = {
        "input_values": torch.zeros(len(spoken), num_samples),
        "attention_mask": torch.zeros(len(spoken), num_samples, dtype=torch.long),
        "classes": torch.full((len(spoken), num_frames), -100, dtype=torch.long),
    }
    for row, utterance in enumerate(spoken):
        batch["input_values"][row, : len(utterance.samples)] = torch.from_numpy(utterance.samples)
        batch["attention_mask"][row, : len(utterance.samples)] = 1
        classes = [table.get(phoneme, -100) for phoneme in utterance.frames]
        batch["classes"][row, : len(classes)] = torch.tensor(classes)
    return batch


def build_encoder() -> Wav2Vec2Model:
    """Return an encoder of 2.2 M parameters; its frames of 30 ms halve the work of wav2vec2's 20 ms."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return Wav2Vec2Model(
        Wav2Vec2Config(
            hidden_size=192,
            num_hidden_layers=4,
            num_attention_heads=3,
            intermediate_size=768,
            conv_dim=(48, 96, 160, 192),
            conv_kernel=CONV_KERNEL,
            conv_stride=CONV_STRIDE,
            num_feat_extract_layers=4,
            conv_bias=True,
            feat_extract_norm="layer",  # output does not depend on padding
            do_stable_layer_norm=True,
            num_conv_pos_embeddings=32,
            num_conv_pos_embedding_groups=16,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            feat_proj_dropout=0.0,
            final_dropout=0.0,
            layerdrop=0.0,
            mask_time_prob=0.05,
            mask_time_length=5,
            ctc_loss_reduction="mean",
            ctc_zero_infinity=True,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def frame_accuracy(encoder: Wav2Vec2Model, head: torch.nn.Linear, held_out: list[dict[str, torch.Tensor]]) -> float:
    """Return the share of labelled frames whose class is the most probable one."""
    import torch

    encoder.eval()
    right = total = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch in held_out:
            hidden = encoder(batch["input_values"], attention_mask=batch["attention_mask"]).last_hidden_state
            known = batch["classes"] >= 0
            right += int((head(hidden).argmax(-1) == batch["classes"])[known].sum())
            total += int(known.sum())
    encoder.train()
    return right / total


def pretrain(
    output_dir: Path,
    *,
    max_steps: int,
    stop_step: int,
    learning_rate: float,
    warmup_steps: int,
    seed: int,
    num_workers: int,
) -> None:
    """Train with AdamW, linear warm-up and cosine decay; save the encoder every 500 steps and at the end.

    Args:
        max_steps: the step at which the decay of the learning rate would end.
        stop_step: the last step.
    """
    import torch
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    table = phoneme_table()
    print(f"{len(table)} phonemes: {' '.join(table)}", flush=True)

    class Endless(IterableDataset):
        def __iter__(self) -> Iterator[Any]:
            worker = get_worker_info()
            assert worker is not None
            torch.set_num_threads(1)
            return batches((seed + 1) * 10**6 + worker.id, worker.num_workers, table, list(LANGUAGES), VARIANTS)

    held_out_batches = batches(10**9, 1, table, list(LANGUAGES), list(UNSEEN_VARIANTS))
    held_out = [next(held_out_batches) for _ in range(12)]
    torch.manual_seed(seed)
    encoder = build_encoder().train()
    head = torch.nn.Linear(encoder.config.hidden_size, len(table))
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer, schedule = _optimizer(parameters, learning_rate, warmup_steps, max_steps)
    start, heard_s, mean_loss = time.monotonic(), 0.0, 0.0
    for step, batch in enumerate(DataLoader(Endless(), batch_size=None, num_workers=num_workers, prefetch_factor=8), 1):
        with torch.autocast("cpu", torch.bfloat16):
            hidden = encoder(batch["input_values"], attention_mask=batch["attention_mask"]).last_hidden_state
            logits = head(hidden).float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["classes"].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        heard_s += float(batch["attention_mask"].sum()) / SAMPLING_RATE
        mean_loss += loss.item() / 100
        if step % 100 == 0:
            speed = heard_s / (time.monotonic() - start)
            print(f"step {step}  loss {mean_loss:.3f}  {heard_s / 3600:.2f} h, {speed:.0f} x real time", flush=True)
            mean_loss = 0.0
        if step % 500 == 0 or step == stop_step:
            accuracy = frame_accuracy(encoder, head, held_out)
            print(f"step {step}  frame accuracy, unseen voices: {accuracy:.3f}", flush=True)
            save(encoder, output_dir)
        if step == stop_step:
            break


def _optimizer(parameters: list[Any], learning_rate: float, warmup_steps: int, max_steps: int) -> tuple[Any, Any]:
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)

    def factor(step: int) -> float:
        return min((step + 1) / warmup_steps, 0.02 + 0.49 * (1 + math.cos(math.pi * min(step / max_steps, 1))))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def save(encoder: Wav2Vec2Model, output_dir: Path) -> None:
    """Save the encoder in float16 without the phoneme head, as fine-tuning starts from it."""
    import copy

    import torch
    from transformers import Wav2Vec2FeatureExtractor

    copy.deepcopy(encoder).to(torch.float16).save_pretrained(output_dir)
    Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLING_RATE, padding_value=0.0, do_normalize=True, return_attention_mask=True
    ).save_pretrained(output_dir)


def main() -> None:
    """Read the options and pretrain."""
    import torch

    parser = argparse.ArgumentParser(description="Pretrain the demo's base model on synthetic speech.")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--max_steps", type=int, default=5000)
    parser.add_argument("--stop_step", type=int, default=3500, help="the model that ships was stopped here")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--warmup_steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_workers", type=int, default=1)
    parser.add_argument("--num_threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.num_threads)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    pretrain(
        options.output_dir,
        max_steps=options.max_steps,
        stop_step=options.stop_step,
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup_steps,
        seed=options.seed,
        num_workers=options.num_workers,
    )


if __name__ == "__main__":
    main()
