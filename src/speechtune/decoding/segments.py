"""Words with times, grouped into segments that can be read as subtitles."""

from __future__ import annotations

from collections.abc import Sequence

from speechtune.types import Segment, Word

__all__ = ["ends_sentence", "joined_text", "segments_of"]

PAUSE_S = 0.8  # a segment ends before a longer one
MAX_CHARACTERS = 84  # two lines of 42, the usual limit of subtitles
MAX_DURATION_S = 7.0
SENTENCE_ENDS = tuple(".?!…。？！।؟")
CLAUSE_ENDS = tuple(",;:—،、，")
AFTER_ENDS = "\"'»”’)]」"


def segments_of(words: Sequence[Word], *, separator: str = " ") -> tuple[Segment, ...]:
    """Group words into segments that end at pauses and sentences, of at most 84 characters and 7 s.

    A longer stretch is divided after a clause, else at its longest pause.

    Args:
        separator: between words; empty in languages without spaces.
    """
    segments: list[Segment] = []
    current: list[Word] = []
    for word in words:
        if current and (word.start_s - current[-1].end_s > PAUSE_S or ends_sentence(current[-1].text)):
            segments.append(_segment(current, separator))
            current = []
        current.append(word)
        while len(current) > 1 and _is_too_long(current, separator):
            cut = _best_cut(current)
            segments.append(_segment(current[:cut], separator))
            current = current[cut:]
    if current:
        segments.append(_segment(current, separator))
    return tuple(segments)


def ends_sentence(text: str) -> bool:
    """Return whether a word ends a sentence by its punctuation."""
    return text.rstrip(AFTER_ENDS).endswith(SENTENCE_ENDS)


def joined_text(words: Sequence[Word], separator: str = " ") -> str:
    """Return the text of words."""
    return separator.join(word.text for word in words)


def _segment(words: Sequence[Word], separator: str) -> Segment:
    return Segment(joined_text(words, separator), words[0].start_s, words[-1].end_s, tuple(words))


def _is_too_long(words: Sequence[Word], separator: str) -> bool:
    return len(joined_text(words, separator)) > MAX_CHARACTERS or words[-1].end_s - words[0].start_s > MAX_DURATION_S


def _best_cut(words: Sequence[Word]) -> int:
    """Return the number of words before the cut: in the second half, unless the last word alone is too much."""

    def worth(cut: int) -> tuple[bool, float, int]:
        return words[cut - 1].text.endswith(CLAUSE_ENDS), words[cut].start_s - words[cut - 1].end_s, cut

    return max(range(max(1, len(words) // 2), len(words)), key=worth)
