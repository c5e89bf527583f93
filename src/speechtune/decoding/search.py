"""The search of a recogniser, as options ask for it: a language model, hot words and their weights.

A language model is an ARPA file; beside it lm.json keeps the weights that `speechtune lm tune` found, so that both
travel with the folder of the model.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechtune.decoding.beam_search import Beam, BeamSearch, align, cut_at_blanks
from speechtune.decoding.fusion import Fusion, Piece, Weights
from speechtune.errors import OptionError
from speechtune.files import read_json
from speechtune.models.ctc.recogniser import CtcRecogniser
from speechtune.models.recogniser import Recogniser
from speechtune.models.seq2seq.recogniser import Seq2SeqRecogniser
from speechtune.models.whisper.prompt import preceding_tokens
from speechtune.options.table import Settings
from speechtune.text.ngrams.model import load_ngram_model
from speechtune.text.normalise import make_normaliser

__all__ = [
    "DEFAULT_BEAMS",
    "LM_NAMES",
    "WEIGHTS",
    "CtcSearch",
    "attach_prompt",
    "attach_search",
    "attached_search",
    "default_beams",
    "find_lm",
    "hotword_weights",
    "pieces_of",
    "spoken_text",
    "tuned_weights",
    "uses_search",
]

LM_NAMES = ("lm.arpa.gz", "lm.arpa")  # of a language model in a model's folder
WEIGHTS = "lm.json"
DEFAULT_BEAMS: dict[str, int] = {"ctc": 100, "seq2seq": 5}
HOTWORD_WEIGHT = 8.0
PUNCTUATION = tuple('!"#%&()*+,./:;<=>?@[]^_`{|}~¡¿«»“”„‘‚…–—।॥؟،؛。，！？、：；')  # not the apostrophe
MAX_PROCESSES = 16
MIN_FRAMES = 1000  # of a batch that is worth several processes

LogProbs = NDArray[np.float32]


class CtcSearch:
    """Beam search of batches, each utterance by itself, over several processes. The order is that of the utterances.

    Args:
        search: of one utterance.
        num_processes: 1 stays in this one.
    """

    def __init__(self, search: BeamSearch, *, num_processes: int = 1) -> None:
        self.search, self.num_processes = search, num_processes
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, utterances: Sequence[LogProbs]) -> list[NDArray[np.int64]]:
        """Return the label of each frame, blanks between them, so that they spell the best text of each utterance.

        A recording longer than one search is cut at its longest blanks.
        """
        cuts = [cut_at_blanks(log_probs, self.search.blank) for log_probs in utterances]
        parts = [u[a:b] for u, cut in zip(utterances, cuts, strict=True) for a, b in itertools.pairwise(cut)]
        paths = iter(self._map(best_path, parts))
        return [np.concatenate([next(paths) for _ in cut[1:]] or [np.zeros(0, np.int64)]) for cut in cuts]

    def n_best(self, utterances: Sequence[LogProbs]) -> list[list[Beam]]:
        """Return the hypotheses of each utterance, best first. None may be longer than one search."""
        return list(self._map(BeamSearch.__call__, utterances))

    def _map(self, function: Callable[[BeamSearch, LogProbs], Any], parts: Sequence[LogProbs]) -> Iterable[Any]:
        if self.num_processes == 1 or len(parts) < 2 or sum(map(len, parts)) < MIN_FRAMES:
            return [function(self.search, part) for part in parts]
        if self._pool is None:
            # Forked: the language model is shared, not copied. The children run numpy only.
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(self.num_processes, context, _start_process, (self.search,))
        return self._pool.map(functools.partial(_in_process, function), parts)

    def close(self) -> None:
        """End the processes; the next batch starts them again."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def best_path(search: BeamSearch, log_probs: LogProbs) -> NDArray[np.int64]:
    """Return the label of each frame of the best hypothesis, (num_frames,)."""
    if not len(log_probs):
        return np.zeros(0, np.int64)
    return align(log_probs, search(log_probs)[0].labels, search.blank)


_search_here: BeamSearch | None = None  # of this process, where it is one of the pool's


def _start_process(search: BeamSearch) -> None:
    global _search_here
    _search_here = search
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops, and ends the pool
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_process(function: Callable[[BeamSearch, LogProbs], Any], log_probs: LogProbs) -> Any:
    assert _search_here is not None
    return function(_search_here, log_probs)


def default_beams(kind: str) -> int:
    """Return the beams of a kind of model, where the user names no number.

    Raises:
        OptionError: it has no search.
    """
    if kind not in DEFAULT_BEAMS:
        raise OptionError("--lm, --hotwords and --num_beams: transducers are decoded greedily. Leave them out.")
    return DEFAULT_BEAMS[kind]


def uses_search(settings: Settings) -> bool:
    """Return whether recognition is more than the most probable label of each frame, or the checkpoint's generation."""
    return bool(settings.lm or settings.hotwords or settings.num_beams)


def attach_search(recogniser: Recogniser, settings: Settings, *, normalise: Callable[[str], str] = str) -> None:
    """Let a recogniser use the language model, the hot words and the number of beams that the settings name.

    Args:
        settings: `lm` is a path, or "auto" for the file in the model's folder.
        normalise: makes of a hypothesis what the language model was built from.

    Raises:
        OptionError, ModelError: an option is not for this kind of model, or the language model can't be read.
    """
    attach_prompt(recogniser, settings.prompt)
    if not uses_search(settings):
        return
    num_beams = settings.num_beams or default_beams(recogniser.kind)
    fusion = fusion_of(settings)
    if isinstance(recogniser, CtcRecogniser):
        search = BeamSearch(pieces_of(recogniser), recogniser.blank, fusion=fusion, num_beams=num_beams)
        recogniser.search = CtcSearch(search, num_processes=_num_processes())
    elif isinstance(recogniser, Seq2SeqRecogniser):
        if settings.hotwords:
            raise OptionError(
                "--hotwords is for CTC models; this one is sequence-to-sequence. Leave it out.\n"
                "Whisper takes them as --prompt 'ankara, new york'."
            )
        recogniser.num_beams = num_beams
        recogniser.external_score = None if fusion is None else lambda text: fusion.score(normalise(text))


def attach_prompt(recogniser: Recogniser, prompt: str | None) -> None:
    """Let Whisper take a text for what was said before each recording; None lets it be.

    Raises:
        OptionError: the model has no place for it, or the text can't be used.
    """
    if prompt is None:
        return
    if not isinstance(recogniser, Seq2SeqRecogniser) or recogniser.context is None:
        raise OptionError("--prompt is for Whisper; this model has no place for a text before. Leave it out.")
    recogniser.preceding = preceding_tokens(recogniser.model, recogniser.tokenizer, prompt)


def fusion_of(settings: Settings) -> Fusion | None:
    """Return the language model with its weights, and the hot words, that the settings name; None without both."""
    path = find_lm(settings.lm, settings.model_name_or_path) if settings.lm else None
    if path is None and not settings.hotwords:
        return None
    model = load_ngram_model(path) if path else None
    return Fusion(model, weights=tuned_weights(path, settings), hotwords=hotword_weights(settings.hotwords or ()))


def ctc_search(recogniser: CtcRecogniser, fusion: Fusion | None, num_beams: int) -> CtcSearch:
    """Return a search over a model's labels, in as many processes as there are cores."""
    search = BeamSearch(pieces_of(recogniser), recogniser.blank, fusion=fusion, num_beams=num_beams)
    return CtcSearch(search, num_processes=_num_processes())


@contextmanager
def attached_search(
    recogniser: Recogniser, settings: Settings, *, normalise: Callable[[str], str] = str
) -> Iterator[None]:
    """Attach a search for a while: evaluations during a training are greedy, and its processes end here."""
    attach_search(recogniser, settings, normalise=normalise)
    try:
        yield
    finally:
        if isinstance(recogniser, CtcRecogniser):
            if isinstance(recogniser.search, CtcSearch):
                recogniser.search.close()
            recogniser.search = None
        elif isinstance(recogniser, Seq2SeqRecogniser):
            recogniser.num_beams = recogniser.external_score = None
            recogniser.preceding = ()


def find_lm(name: str, model: str) -> Path:
    """Return the ARPA file that `--lm` names.

    Raises:
        OptionError: there is none.
    """
    if name != "auto":
        if not os.path.isfile(Path(name).expanduser()):  # noqa: PTH113 - Path raises on a name too long for a file
            raise OptionError(f"--lm {name}: no such file.\nGive an ARPA file; `speechtune lm build` makes one.")
        return Path(name).expanduser()
    folder = Path(model).expanduser()
    found = next((folder / lm for lm in LM_NAMES if os.path.isfile(folder / lm)), None)  # noqa: PTH113
    if found is None:
        raise OptionError(
            f"--lm auto: no {LM_NAMES[0]} in {model}.\n"
            f"Build one: speechtune lm build TEXT --model {model} -o {folder / LM_NAMES[0]}"
        )
    return found


def tuned_weights(lm: Path | None, settings: Settings) -> Weights:
    """Return the weights that the user gave, else those of lm.json beside the language model, else ours."""
    found = read_json(lm.parent / WEIGHTS) if lm is not None else {}
    tuned = found.get("weights") if lm is not None and found.get("lm") == lm.name else None
    weights = Weights(**tuned) if isinstance(tuned, Mapping) else Weights()
    given = {"alpha": settings.lm_alpha, "beta": settings.lm_beta}
    return Weights(**(vars(weights) | {name: value for name, value in given.items() if value is not None}))


def hotword_weights(words: Sequence[str]) -> dict[str, float]:
    """Return hot words with their weights: of "ankara", "new york=12".

    Raises:
        OptionError: a weight is no number, or there is no word before it.
    """
    weights = {}
    for entry in words:
        word, equals, number = entry.rpartition("=") if "=" in entry else (entry, "", "")
        try:
            weight = float(number) if equals else HOTWORD_WEIGHT
            if not word.strip() or not abs(weight) <= 1000:
                raise ValueError
        except ValueError:
            raise OptionError(f"--hotwords {entry!r}: expected a word, or a word and its weight: ankara=12.") from None
        weights[" ".join(word.split())] = weight
    return weights


def pieces_of(recogniser: CtcRecogniser) -> list[Piece]:
    """Return what each label adds to a text, in the spelling of normalised text."""
    decoder: Any = recogniser.decoder
    lower = getattr(decoder, "lower", False) or recogniser.upper_case
    if hasattr(decoder, "tokens"):  # letters or phones
        pieces = [
            Piece("", starts_word=True) if token == " " else Piece(token, starts_word=bool(decoder.joint))
            for token in map(str, decoder.tokens)
        ]
    else:
        tokenizer = recogniser.tokenizer
        names = tokenizer.convert_ids_to_tokens(list(range(int(recogniser.model.config.vocab_size))))
        special = set(tokenizer.all_special_tokens)
        named = ["" if name is None or name in special else str(name) for name in names]
        pieces = [Piece(name.lstrip("▁"), starts_word=name.startswith("▁")) for name in named]
    return [Piece(piece.text.lower(), piece.starts_word) for piece in pieces] if lower else pieces


def spoken_text(language: str | None) -> Callable[[str], str]:
    """Return a normaliser of what Whisper writes, for a language model of plain words: lower case, no punctuation."""
    return make_normaliser("default", PUNCTUATION, language=language)


def _num_processes() -> int:
    if sys.platform != "linux":  # elsewhere a forked process of a program with threads is not safe
        return 1
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(cores, MAX_PROCESSES))
