"""Vocabularies of CTC models, and the token ids of transcripts.

Ids are in the order of the original scripts (sorted characters, the word delimiter in the position of the space, then
the unknown and the padding token), so the same text gives the same file. Unlike theirs, a vocabulary has the characters
of the training text only: a model cannot emit a character it never saw, so the others in the evaluation text are
counted by `missing_characters` and scored as errors. A phoneme vocabulary has phones, which may be several characters
long, as tokens.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from speechtune.errors import ModelError, OptionError, TextError
from speechtune.files import write_atomically
from speechtune.terminal.formatting import character_name, visible

__all__ = [
    "Labeller",
    "build_vocabulary",
    "count_tokens",
    "is_nested",
    "list_characters",
    "missing_characters",
    "name_character",
    "num_pieces_of",
    "save_vocabulary",
]

UNK_TOKEN = "[UNK]"
PAD_TOKEN = "[PAD]"
WORD_DELIMITER_TOKEN = "|"
MAX_PIECES = 65_536


def build_vocabulary(
    texts: Iterable[str],
    *,
    unk_token: str | None = UNK_TOKEN,
    pad_token: str | None = PAD_TOKEN,
    word_delimiter_token: str | None = WORD_DELIMITER_TOKEN,
    phones: bool = False,
    where: str = "training text",
    raw_texts: Iterable[str] = (),
) -> dict[str, int]:
    """Return token -> id, ids 0 to V - 1 without gaps.

    Args:
        texts: normalised transcripts of the training split. With `phones`, phones separated by spaces and words by the
            delimiter, as `phonemes.Phonemizer` returns them.
        unk_token: token of characters outside the vocabulary, or None.
        pad_token: padding and CTC blank, or None.
        word_delimiter_token: replaces the space; None keeps the space.
        phones: tokens are phones instead of characters.
        where: names the text in messages, e.g. `common_voice/tr, train+validation`.
        raw_texts: transcripts before normalisation, to explain an empty vocabulary.

    Raises:
        TextError: no transcript has a character left.

    Source: `create_vocabulary_from_data` of the original CTC script.
    """
    tokens = set(count_tokens(texts, phones=phones))
    tokens -= {"", " ", word_delimiter_token or "", unk_token or "", pad_token or ""}
    if all(token.isspace() for token in tokens):
        raise TextError(_explain_empty(where, raw_texts))
    # The delimiter sorts as the space: first, as no other character of normalised text is below it.
    ordered = sorted(tokens | {" "})
    if word_delimiter_token is not None:
        ordered[ordered.index(" ")] = word_delimiter_token
    ordered += [token for token in (unk_token, pad_token) if token is not None]
    return {token: index for index, token in enumerate(ordered)}


def num_pieces_of(new_vocabulary: str | None) -> int | None:
    """Return N of `--new_vocabulary bpe:N`; None for characters.

    Raises:
        OptionError: it is neither `characters` nor `bpe:` and a number.
    """
    if new_vocabulary in (None, "characters"):
        return None
    kind, _, number = str(new_vocabulary).partition(":")
    if kind != "bpe" or not number.isascii() or not number.isdigit() or not 0 < int(number) <= MAX_PIECES:
        raise OptionError(
            f"--new_vocabulary {new_vocabulary}: give `characters`, or `bpe:256` for 256 pieces of words, "
            f"at most {MAX_PIECES}."
        )
    return int(number)


def _explain_empty(where: str, raw_texts: Iterable[str]) -> str:
    removed = count_tokens("".join(text.split()) for text in raw_texts)
    if not removed:
        return (
            f"{where}: no transcript has a character, so the vocabulary is empty.\n"
            "Check --text_column_name and --chars_to_ignore."
        )
    shown = " ".join(f"{char!r} ({count} times)" for char, count in removed.most_common(12))
    return (
        f"{where}: no character is left after normalisation, so the vocabulary is empty.\n"
        f"--chars_to_ignore removed: {shown}.\nTry it without the letters of the language."
    )


def count_tokens(texts: Iterable[str], *, phones: bool = False) -> Counter[str]:
    """Count the characters, or the phones separated by spaces, of all `texts`."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split() if phones else text)
    return counts


def missing_characters(
    vocabulary: Mapping[str, int],
    eval_texts: Iterable[str],
    *,
    word_delimiter_token: str | None = WORD_DELIMITER_TOKEN,
    phones: bool = False,
) -> Counter[str]:
    """Count the characters (or phones) of normalised evaluation text that are not in the vocabulary.

    Args:
        vocabulary: token -> id, not nested.
        eval_texts: normalised transcripts.
        word_delimiter_token: replaces the space in `vocabulary`.
        phones: tokens are phones separated by spaces.
    """
    known = {" ", *vocabulary} if word_delimiter_token in vocabulary else set(vocabulary)
    return Counter({token: n for token, n in count_tokens(eval_texts, phones=phones).items() if token not in known})


def name_character(character: str) -> str:
    """Return `character` with its code point and Unicode name, for messages."""
    if len(character) != 1:
        return repr(character)
    return f"{character_name(character)} (U+{ord(character):04X}, {unicodedata.name(character, 'no name')})"


def list_characters(counts: Counter[str], limit: int, *, rarest_first: bool = False) -> str:
    """Return `limit` characters with names and counts on one line, most frequent first, and how many more there are."""
    ordered = counts.most_common()[:: -1 if rarest_first else 1]
    shown = ", ".join(f"{visible(name_character(char))} x{count:,}" for char, count in ordered[:limit])
    return shown + (f" and {len(counts) - limit} more" if len(counts) > limit else "")


class Labeller:
    """Transcript -> token ids, equal to the tokenizer's `input_ids` but about 25 times faster. Picklable.

    Equal to `Wav2Vec2CTCTokenizer`, or with `phones` to `Wav2Vec2PhonemeCTCTokenizer(do_phonemize=False)`, of the same
    vocabulary and without further tokens (`bos_token=None, eos_token=None`).

    Args:
        vocabulary: token -> id, not nested.
        unk_token: replaces unknown characters; must be in the vocabulary.
        word_delimiter_token: replaces spaces.
        phones: tokens are phones separated by spaces.

    Raises:
        ModelError: the vocabulary has no `unk_token`.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        *,
        unk_token: str = UNK_TOKEN,
        word_delimiter_token: str = WORD_DELIMITER_TOKEN,
        phones: bool = False,
    ) -> None:
        if unk_token not in vocabulary:
            raise ModelError(f"The vocabulary has no unknown token '{unk_token}'. Try --unk_token with one it has.")
        self._ids = dict(vocabulary)
        self._unknown = vocabulary[unk_token]
        self._word_delimiter_token = word_delimiter_token
        self._phones = phones
        long_tokens = sorted((token for token in vocabulary if len(token) > 1), key=len, reverse=True)
        self._long_tokens = re.compile(rf"\s*({'|'.join(map(re.escape, long_tokens))})\s*") if long_tokens else None

    def __call__(self, text: str) -> list[int]:
        """Return the token ids, shape (L,).

        Tokens of several characters ("[UNK]", "ch") are matched first, the longest before others, together with the
        white space around them.
        """
        ids, unknown = self._ids, self._unknown
        if self._phones:
            return [ids.get(phone, unknown) for phone in text.split()]
        if self._long_tokens is None or not self._long_tokens.search(text):
            return [ids.get(char, unknown) for char in text.replace(" ", self._word_delimiter_token)]
        labels: list[int] = []
        for part in self._long_tokens.split(text):
            if len(part) > 1 and part in ids:
                labels.append(ids[part])
            else:
                labels += [ids.get(char, unknown) for char in part.replace(" ", self._word_delimiter_token)]
        return labels


def is_nested(vocabulary: Mapping[str, object]) -> bool:
    """Return whether a vocabulary has several languages, `{"tur": {"a": 0, ...}, ...}`, like that of MMS."""
    return bool(vocabulary) and all(isinstance(entry, Mapping) for entry in vocabulary.values())


def save_vocabulary(vocabulary: Mapping[str, object], folder: str | Path) -> Path:
    """Write `vocab.json`, flat or nested, into `folder` atomically and return its path."""
    path = Path(folder) / "vocab.json"
    write_atomically(path, json.dumps(vocabulary, ensure_ascii=False, indent=1) + "\n")
    return path
