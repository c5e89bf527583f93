"""Normalised transcripts -> the tokens a CTC model can emit, and transcripts -> their ids.

The order of ids is that of the original scripts (sorted characters, the word delimiter in the place of the space,
then the unknown and the padding token), so a vocabulary of the same text is the same file. Other than there, it is
made from the training text only: what the evaluation text has beyond it is counted by `missing_characters`, and scored
as an error, because a model that has never seen a character can't be said to know it.

A phoneme vocabulary is the same thing with phones, which may be several characters long, as tokens.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from speechtune.errors import ModelError, TextError

__all__ = [
    "Labeller",
    "build_vocabulary",
    "extend_vocabulary",
    "is_nested",
    "load_vocabulary",
    "missing_characters",
    "name_character",
    "save_vocabulary",
    "text_to_labels",
]

UNK_TOKEN = "[UNK]"
PAD_TOKEN = "[PAD]"
WORD_DELIMITER_TOKEN = "|"


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
    """Token -> id, ids 0 to V - 1 without gaps.

    Args:
        texts: normalised transcripts, of the training split only. With `phones`, phones separated by spaces and words
            by the delimiter, as `phonemes.Phonemizer` writes them.
        unk_token: stands for every character that is not in the vocabulary; None: none.
        pad_token: padding, and CTC's blank; None: none.
        word_delimiter_token: stands in the place of the space; None: the space stays itself.
        phones: tokens are phones instead of characters.
        where: names the text in messages, e.g. `common_voice/tr, train+validation`.
        raw_texts: the transcripts before normalisation; read only to explain an empty vocabulary.

    Raises:
        TextError: no transcript has a character left.

    Source: `create_vocabulary_from_data` of the original CTC script.
    """
    tokens: set[str] = set()
    for text in texts:
        tokens.update(text.split() if phones else text)
    tokens -= {"", " ", word_delimiter_token or "", unk_token or "", pad_token or ""}
    if not any(not token.isspace() for token in tokens):
        raise TextError(_explain_empty(where, raw_texts))
    # The delimiter sorts where the space would: first, as no other character of normalised text is below it.
    ordered = sorted(tokens | {" "})
    if word_delimiter_token is not None:
        ordered[ordered.index(" ")] = word_delimiter_token
    ordered += [token for token in (unk_token, pad_token) if token is not None]
    return {token: index for index, token in enumerate(ordered)}


def _explain_empty(where: str, raw_texts: Iterable[str]) -> str:
    removed: Counter[str] = Counter()
    for text in raw_texts:
        removed.update(char for char in text if not char.isspace())
    if removed:
        shown = " ".join(f"{char!r} ({count} times)" for char, count in removed.most_common(12))
        return (
            f"{where}: no character is left after normalisation, so the vocabulary is empty.\n"
            f"--chars_to_ignore removed: {shown}.\nTry it without the letters of the language."
        )
    return (
        f"{where}: no transcript has a character, so the vocabulary is empty.\n"
        "Check --text_column_name and --chars_to_ignore."
    )


def missing_characters(
    vocabulary: Mapping[str, int],
    eval_texts: Iterable[str],
    *,
    word_delimiter_token: str | None = WORD_DELIMITER_TOKEN,
    phones: bool = False,
) -> Counter[str]:
    """How often each character (or phone) that the vocabulary lacks occurs in normalised evaluation text.

    Args:
        vocabulary: token -> id, not nested.
        eval_texts: normalised transcripts.
        word_delimiter_token: what stands for the space in `vocabulary`.
        phones: the tokens are phones separated by spaces.
    """
    counts: Counter[str] = Counter()
    for text in eval_texts:
        counts.update(text.split() if phones else text)
    known = set(vocabulary)
    if word_delimiter_token is not None and word_delimiter_token in known:
        known.add(" ")
    return Counter({token: count for token, count in counts.items() if token not in known})


def name_character(character: str) -> str:
    """`character` so that one can find it in a message: itself, code point and Unicode name."""
    if len(character) != 1:
        return repr(character)
    name = unicodedata.name(character, "no name")
    shown = f"◌{character}" if unicodedata.combining(character) else character
    return f"{shown} (U+{ord(character):04X}, {name})"


class Labeller:
    """Transcript -> token ids, as the tokenizer's `input_ids` are, some 25 times faster. Picklable.

    Equal to `Wav2Vec2CTCTokenizer`, or with `phones` to `Wav2Vec2PhonemeCTCTokenizer(do_phonemize=False)`, whose
    vocabulary is `vocabulary` and which add no token of their own (`bos_token=None, eos_token=None`).
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        *,
        unk_token: str = UNK_TOKEN,
        word_delimiter_token: str = WORD_DELIMITER_TOKEN,
        phones: bool = False,
    ) -> None:
        """
        Args:
            vocabulary: token -> id, not nested.
            unk_token: what an unknown character becomes; must be in the vocabulary.
            word_delimiter_token: what a space becomes.
            phones: the tokens are phones separated by spaces.

        Raises:
            ModelError: the vocabulary has no `unk_token`.
        """
        if unk_token not in vocabulary:
            raise ModelError(f"The vocabulary has no unknown token '{unk_token}'. Try --unk_token with one it has.")
        self._ids = dict(vocabulary)
        self._unknown = vocabulary[unk_token]
        self._word_delimiter_token = word_delimiter_token
        self._phones = phones
        long_tokens = sorted((token for token in vocabulary if len(token) > 1), key=len, reverse=True)
        self._long_tokens = re.compile(rf"\s*({'|'.join(map(re.escape, long_tokens))})\s*") if long_tokens else None

    def __call__(self, text: str) -> list[int]:
        """Token ids, shape (L,). Spaces become the word delimiter; a token of several characters is matched as a whole
        ("[UNK]" in the text, "ch" in the vocabulary), the longest first, together with the white space around it.
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


def text_to_labels(
    text: str,
    vocabulary: Mapping[str, int],
    *,
    unk_token: str = UNK_TOKEN,
    word_delimiter_token: str = WORD_DELIMITER_TOKEN,
    phones: bool = False,
) -> list[int]:
    """Token ids of one `text`, shape (L,). For many texts make one `Labeller`, whose arguments these are."""
    labeller = Labeller(vocabulary, unk_token=unk_token, word_delimiter_token=word_delimiter_token, phones=phones)
    return labeller(text)


def is_nested(vocabulary: Mapping[str, object]) -> bool:
    """True for a vocabulary of several languages, `{"tur": {"a": 0, ...}, ...}`, as MMS has."""
    return bool(vocabulary) and all(isinstance(entry, Mapping) for entry in vocabulary.values())


def extend_vocabulary(
    nested: Mapping[str, Mapping[str, int]] | None,
    language: str,
    vocabulary: Mapping[str, int],
    *,
    overwrite: bool = False,
) -> dict[str, dict[str, int]]:
    """`nested` with one more language; the others stay as they are, in their order.

    Args:
        nested: language -> vocabulary, or None to begin one.
        language: MMS' code, e.g. `tur`; names the adapter file too.
        vocabulary: token -> id of that language.
        overwrite: replace the vocabulary of a language that is there already (`--overwrite_lang_vocab`).
            Without it the old one is kept, since the trained head belongs to it.

    Raises:
        ModelError: `nested` is a vocabulary without languages.
    """
    if nested and not is_nested(nested):
        raise ModelError(
            f"vocab.json holds one vocabulary of {len(nested)} tokens, not one for each language, "
            f"so '{language}' can't be added.\nTrain the adapter from the multilingual checkpoint, or choose "
            "another --output_dir."
        )
    extended = {name: dict(entry) for name, entry in (nested or {}).items()}
    if overwrite or language not in extended:
        extended[language] = dict(vocabulary)
    return extended


def save_vocabulary(vocabulary: Mapping[str, object], folder: str | Path) -> Path:
    """Write `vocab.json` into `folder`, whole or not at all. Nested or not.

    Returns:
        Path of the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocab.json"
    handle, aside = tempfile.mkstemp(dir=folder, prefix="vocab.json.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(vocabulary, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(aside).chmod(0o666 & ~_umask())  # mkstemp makes it private
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def load_vocabulary(path: str | Path, language: str | None = None) -> dict[str, int]:
    """Token -> id out of a `vocab.json`.

    Args:
        path: the file.
        language: which vocabulary of a nested file; None where it is not nested.

    Raises:
        ModelError: no JSON object of tokens and ids, or the language is not in it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: no vocabulary can be read from it: {error}.") from None
    if isinstance(content, dict) and is_nested(content):
        if language not in content:
            raise ModelError(
                f"{path}: no vocabulary for '{language}'.\nLanguages: {', '.join(sorted(content)[:40])}.\n"
                "Try --target_language with one of them."
            )
        content = content[language]
    if not isinstance(content, dict) or not content or not all(type(value) is int for value in content.values()):
        raise ModelError(f'{path}: expected an object of tokens and ids, {{"a": 0, "b": 1, ...}}.')
    return content
