"""Transcripts that don't match their recordings, found by a model: `speechtune doctor --with_model MODEL`.

A model that recognises the language at all writes something near a right transcript and finds it likely; a wrong one is
neither. The score of an utterance is the mean of two numbers from 0 to 1:

- the character error rate of the model's text against the transcript, at most 1;
- the loss of the transcript per label, l / (l + the median over all utterances): 0.5 is usual, near 1 is far worse.

Either alone fails: the error rate where the model writes another spelling or script everywhere, the loss where it is
unsure of a language. Punctuation and symbols are left out of both: models differ in how they write them.

Rejected: confident learning over frames (cleanlab), which needs a model that did not train on the data and class
probabilities that sequences do not have.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from speechtune.doctor.roles import Corpus, Role
from speechtune.files import explain_write_errors, write_atomically
from speechtune.options.table import Settings
from speechtune.types import Hypothesis

if TYPE_CHECKING:
    import torch

    from speechtune.models.recogniser import Recogniser

__all__ = ["LABEL_ERRORS_FILE", "Judged", "judge", "ranked", "without_signs", "write_label_errors"]

LABEL_ERRORS_FILE = "label_errors.csv"
MAX_WRITTEN = 1_000
BATCH_SIZE = 8
COLUMNS = ("id", "split", "file", "text", "recognised", "score", "cer", "loss_per_label", "seconds", "speaker")


@dataclass(frozen=True, slots=True)
class Judged:
    """An utterance with what the model makes of it.

    Args:
        split: of the corpus.
        text: transcript as the corpus has it.
        row: its normalised transcript beside the model's text.
        loss: of the transcript per label; inf where the model can't emit it, nan where it has none.
        score: 0 to 1, the higher the likelier the transcript is wrong; set by `ranked`.
    """

    split: str
    text: str
    row: Hypothesis
    loss: float
    score: float = math.nan


def judge(corpus: Corpus, model: str, *, on_cpu: bool = False, on_clip: Callable[[int, int], None]) -> list[Judged]:
    """Run a model over the utterances of both splits that are in use; return them with the likeliest errors first.

    What it can't take in one pass (too long, more labels than it has places for) is not among them.

    Args:
        model: folder or name on the hub.
        on_clip: called with the utterances done, and all of them.

    Raises:
        ModelError: the model can't be loaded.
    """
    import torch

    from speechtune.models.ctc.setup import load_ctc
    from speechtune.models.loading import family_of, model_config_of
    from speechtune.models.seq2seq.setup import load_seq2seq
    from speechtune.plan.text import text_normaliser

    settings = replace(
        corpus.settings, model_name_or_path=model, tokenizer_name_or_path=None, config_name=None,
        feature_extractor_name=None, model_revision="main", encoder_context=None,
    )  # fmt: skip
    family = family_of(model_config_of(settings))
    is_seq2seq = family == "seq2seq"
    recogniser = load_seq2seq(settings, corpus_language=corpus.language) if is_seq2seq else load_ctc(settings)
    device = torch.device("cuda" if torch.cuda.is_available() and not on_cpu else "cpu")
    recogniser.model.to(device).eval()
    _, normalise_hypothesis = text_normaliser(settings, corpus.language, family)
    spoken: Callable[[str], str] = (lambda text: text) if settings.phones else without_signs
    total = sum(len(role.split) for role in corpus.roles)
    judged: list[Judged] = []
    done = 0
    for role in corpus.roles:
        references = [spoken(text) for text in role.split.texts]
        hypothesis_of = lambda text: spoken(normalise_hypothesis(text))  # noqa: E731
        for found, num_read in _judged(role, references, recogniser, device, settings, hypothesis_of):
            judged += found
            done += num_read
            on_clip(done, total)
    return ranked(judged)


def without_signs(text: str) -> str:
    """Return a text without punctuation and symbols, apostrophes excepted; words that they part stay apart."""
    return " ".join(
        "".join(" " if char != "'" and unicodedata.category(char)[0] in "PS" else char for char in text).split()
    )


def ranked(judged: Sequence[Judged]) -> list[Judged]:
    """Return utterances with their scores, highest first."""
    finite = [one.loss for one in judged if math.isfinite(one.loss)]
    usual = statistics.median(finite) if finite else 1.0

    def loss_part(loss: float) -> float:
        if math.isnan(loss):
            return 0.5
        return 1.0 if math.isinf(loss) else loss / ((loss + usual) or 1.0)

    scored = [replace(one, score=(min(one.row.characters.rate, 1.0) + loss_part(one.loss)) / 2) for one in judged]
    return sorted(scored, key=lambda one: (-one.score, one.split, one.row.id))


def write_label_errors(folder: Path, judged: Sequence[Judged]) -> Path:
    """Write the 1,000 likeliest errors as label_errors.csv, which --corrections reads back, and return its path.

    Raises:
        OutputError: it can't be written.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in judged[:MAX_WRITTEN]:
        numbers = (f"{one.score:.3f}", f"{one.row.characters.rate:.3f}", f"{one.loss:.3f}")
        seconds = "" if math.isnan(one.row.duration_s) else f"{one.row.duration_s:.1f}"
        texts = (one.row.id, one.split, one.row.file, " ".join(one.text.split()), one.row.hypothesis)
        writer.writerow([*texts, *numbers, seconds, one.row.speaker or ""])
    path = folder / LABEL_ERRORS_FILE
    with explain_write_errors(LABEL_ERRORS_FILE, folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "\ufeff" + file.getvalue())  # the mark tells spreadsheets that it is UTF-8
    return path


def _judged(
    role: Role,
    references: list[str],
    recogniser: Recogniser,
    device: torch.device,
    settings: Settings,
    normalise: Callable[[str], str],
) -> Iterator[tuple[list[Judged], int]]:
    """Yield the utterances of each batch, and how many of the split's are done with it."""
    import torch

    from speechtune.data.dataset import BatchMaker, SpeechDataset, evaluation_loader
    from speechtune.data.prepare import Limits, prepare_split
    from speechtune.evaluation.metrics.cer import character_edits
    from speechtune.evaluation.metrics.wer import word_edits
    from speechtune.training.data import audio_reader

    limits = Limits(
        max_duration_s=min(recogniser.model_input.max_whole_s, recogniser.max_duration_s or math.inf),
        max_labels=recogniser.max_labels,
    )
    split = prepare_split(role.split.table, references, encode=recogniser.encode, limits=limits)
    reader = audio_reader(settings, recogniser.sampling_rate)
    make_batch = BatchMaker(
        reader, recogniser.model_input, min_length=recogniser.min_input_length, split=split.table.split, limits=limits
    )
    yield [], len(role.split) - len(split)
    for batch in evaluation_loader(SpeechDataset(split, make_batch), batch_size=BATCH_SIZE):
        with torch.inference_mode():
            outputs = recogniser.recognise(recogniser.model, batch.to(device), with_loss=True) if len(batch) else []
        found = []
        for utterance, reference, output in zip(batch.utterances, batch.texts, outputs, strict=True):
            text = " ".join(normalise(output.text).split())
            words = word_edits(recogniser.words_of(reference), recogniser.words_of(text))
            row = Hypothesis(
                utterance.id, reference, text, words, character_edits(reference, text),
                utterance.duration_s, utterance.file, utterance.speaker,
            )  # fmt: skip
            loss = output.loss / output.num_items if output.num_items else math.nan
            found.append(Judged(split.table.split, utterance.text, row, loss))
        yield found, len(batch) + len(batch.skipped)
