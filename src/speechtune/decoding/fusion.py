"""What is known of a text beside the audio: an n-gram language model and hot words, scored while the text grows.

    score = alpha ln P(words) + beta number of words + unknown number of unknown words + weights of hot words

Sources: Graves & Jaitly 2014, "Towards End-to-End Speech Recognition with Recurrent Neural Networks"; Hannun et al.
2014, "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs". A word is scored
when it ends, or when no known word starts so: then nothing can change any more. Hot words count in part as
they grow, so that they are not pruned; what was counted is taken back where they don't end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from speechtune.text.ngrams.model import SPACE, NgramModel

__all__ = ["FusedState", "Fusion", "Piece", "Weights"]

_END = ""  # key of a hot word's weight, in the tree of its letters


@dataclass(frozen=True)
class Weights:
    """How much a language model counts, in natural logarithms.

    Args:
        alpha: factor of its log probabilities.
        beta: added for each word (or character, of a model of characters).
        unknown: added for each word that it does not know.
    """

    alpha: float = 0.5
    beta: float = 1.0
    unknown: float = -5.0


class Piece(NamedTuple):
    """What a label adds to a text: its letters, and whether a new word starts before them."""

    text: str
    starts_word: bool = False


class FusedState(NamedTuple):
    """State of a growing text.

    Args:
        rank: score of the text so far, with what is only expected.
        sure: score of its finished words.
        context: state of the language model.
        word: letters of the unfinished word.
        hot: place in the tree of hot words, None where none can match before the next word.
        pending: what was added to `rank` for an unfinished hot word.
    """

    rank: float
    sure: float
    context: int
    word: str
    hot: Any
    pending: float


class Fusion:
    """Scores of a language model, hot words, or both.

    Args:
        model: None for hot words alone.
        weights: of the model.
        hotwords: words or phrases with what is added to the score of a text for each; at least one letter.
    """

    def __init__(
        self,
        model: NgramModel | None = None,
        *,
        weights: Weights | None = None,
        hotwords: Mapping[str, float] | None = None,
    ) -> None:
        self.model = model
        self.weights = weights or Weights()
        self.hotwords = {" ".join(text.split()): weight for text, weight in (hotwords or {}).items()}
        self.tree = _letter_tree(self.hotwords)
        self.hot_parts = {word for text in self.hotwords for word in text.split()}

    def with_weights(self, weights: Weights) -> Fusion:
        """Return the same with other weights."""
        return Fusion(self.model, weights=replace(weights), hotwords=self.hotwords)

    def start(self) -> FusedState:
        """Return the state of an empty text."""
        return FusedState(0.0, 0.0, self.model.begin if self.model else 0, "", self.tree, 0.0)

    def extend(self, state: FusedState, piece: Piece) -> FusedState:
        """Return the state after one more label."""
        sure, context, word, hot, pending = state[1:]
        if piece.starts_word and word:
            added, context = self._word(context, word)
            gain, hot = self._hot_word(hot)
            sure += added + gain
            word, pending = "", 0.0 if hot is self.tree else _expected(hot)
        if not piece.text:
            return FusedState(sure + pending, sure, context, word, hot, pending)
        new_word = word + piece.text
        if hot is not None:  # a phrase that does not go on so may be the start of another hot word
            hot = _below(hot, piece.text) or _below(self.tree, new_word)
        pending = 0.0 if hot is None else _expected(hot)
        model = self.model
        if model is None:
            return FusedState(sure + pending, sure, context, new_word, hot, pending)
        if model.of_characters:
            added, context = self._characters(context, piece.text, first=not word and context != model.begin)
            return FusedState(sure + added + pending, sure + added, context, new_word, hot, pending)
        # Of a word that is surely unknown the whole score is known; else nothing but what hot words promise.
        is_open = (hot is not None and bool(self.tree)) or model.begins_word(new_word)
        expected = pending if is_open else self._word(context, new_word)[0]
        return FusedState(sure + expected, sure, context, new_word, hot, pending)

    def finish(self, state: FusedState) -> float:
        """Return the score of the whole text, with its end."""
        total, context = state.sure, state.context
        if state.word:
            added, context = self._word(context, state.word)
            total += added + self._hot_word(state.hot)[0]
        return total + (self.weights.alpha * self.model.score_end(context) if self.model else 0.0)

    def score(self, text: str) -> float:
        """Return the score of a whole text; its hot words are found from left to right."""
        state = self.start()
        for word in text.split():
            state = self.extend(state, Piece(word, starts_word=True))
        return self.finish(state)

    def features(self, text: str) -> tuple[float, int, int, float]:
        """Return a text's log probability, its words, its unknown words, and its hot words' weight."""
        hot = Fusion(hotwords=self.hotwords).score(text) if self.hotwords else 0.0
        if self.model is None:
            return 0.0, len(text.split()), 0, hot
        units = self.model.units(text)
        unknown = sum(unit not in self.model and unit not in self.hot_parts for unit in units)
        return self.model.sentence(units), len(units), 0 if self.model.of_characters else unknown, hot

    def _word(self, context: int, word: str) -> tuple[float, int]:
        if self.model is None or self.model.of_characters:
            return 0.0, context
        log_prob, after = self.model.score(context, word)
        known = word in self.model or word in self.hot_parts
        return self.weights.alpha * log_prob + self.weights.beta + (0.0 if known else self.weights.unknown), after

    def _characters(self, context: int, text: str, *, first: bool) -> tuple[float, int]:
        """Score letters, and the space before them where they start a word that is not the first."""
        assert self.model is not None
        total = 0.0
        for letter in [SPACE, *text] if first else text:
            log_prob, context = self.model.score(context, letter)
            total += self.weights.alpha * log_prob + self.weights.beta
        return total, context

    def _hot_word(self, hot: Any) -> tuple[float, Any]:
        """Return the weight of a hot word that ends here, and where the next word is looked for."""
        if not hot:
            return 0.0, self.tree
        return hot.get(_END, 0.0), hot.get(" ", self.tree)


def _letter_tree(hotwords: Mapping[str, float]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for text, weight in hotwords.items():
        node = tree
        for letter in text:
            node = node.setdefault(letter, {})
        node[_END] = weight
    _expect(tree, 0)
    return tree


_EXPECTED = "expected"  # key of what an unfinished hot word counts; no letter has this name


def _expect(node: dict[str, Any], depth: int) -> list[tuple[float, int]]:
    """Note in each node its share of the best hot word below it; return their weights and lengths."""
    found = [(node[_END], depth)] if _END in node else []
    for letter, below in list(node.items()):
        if isinstance(below, dict):
            assert len(letter) == 1
            found += _expect(below, depth + 1)
    if depth:
        node[_EXPECTED] = max((weight * depth / length for weight, length in found), key=abs)
    return found


def _below(node: Mapping[str, Any], letters: str) -> Any:
    """Return the place in a tree after these letters, or None."""
    for letter in letters:
        node = node.get(letter, {})
    return node or None


def _expected(node: Mapping[str, Any]) -> float:
    return float(node.get(_EXPECTED, 0.0))
