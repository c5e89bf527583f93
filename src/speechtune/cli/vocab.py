"""A tokenizer folder from a corpus' training text, as training would make it: `speechtune vocab`, for streams.

A stream's text is not known before it is read, so its tokenizer must be there beforehand. The characters are printed
with their counts: a vocabulary is short, and what doesn't belong in it is seen at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from speechtune.errors import OptionError, OutputError
from speechtune.files import explain_write_errors
from speechtune.options.table import Options
from speechtune.terminal.formatting import character_name, visible
from speechtune.text.vocab import build_vocabulary, name_character
from speechtune.training.data import Splits, open_splits, text_normaliser

__all__ = ["run"]

log = logging.getLogger("speechtune")

TOKENIZER_FILES = {
    *("vocab.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json")
}
RARE = 5  # times: below, a character is hardly learnt, and often a slip


def run(options: Options) -> int:
    """Write vocab.json and tokenizer_config.json into `--output_dir`, and print the characters.

    Returns:
        Exit code, 0.

    Raises:
        CorpusError, TextError: the corpus is not there, or no character is left of it.
        OutputError: the folder holds something else than a tokenizer.
    """
    folder = options.output_dir
    if folder is None:
        raise OptionError("--output_dir is missing: where should the tokenizer go?")
    for note in options.notes:
        log.info(note)
    _check_folder(folder)
    config = options.config
    # The original scripts' vocabulary has the evaluation text's characters too.
    splits = open_splits(options, train=True, evaluate=config.protocol == "readme")
    normalise, _ = text_normaliser(options, splits.language)
    splits.normalise(normalise)
    texts = [*splits.train_texts, *splits.evaluation_texts]
    tokens = _write(options, splits, texts, folder)
    for line in _shown(texts, tokens, phones=config.phones):
        print(line)
    print(f"{folder}: {len(tokens)} tokens. Use it with --tokenizer_name_or_path {folder}")
    return 0


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file.\nGive a folder to --output_dir.")
    others = (
        sorted(path.name for path in folder.iterdir() if path.name not in TOKENIZER_FILES) if folder.exists() else []
    )
    if others:
        raise OutputError(
            f"{folder}: holds more than a tokenizer ({', '.join(others[:3])}), whose vocabulary would no longer fit.\n"
            "Give a new folder to --output_dir."
        )


def _write(options: Options, splits: Splits, texts: list[str], folder: Path) -> dict[str, int]:
    """Make the tokenizer; returns its vocabulary."""
    config = options.config
    phones = config.phones
    special = {
        "unk_token": config.unk_token,
        "pad_token": config.pad_token,
        "word_delimiter_token": config.word_delimiter_token,
    }
    where = f"{splits.name}, {splits.train_split}"
    raw_texts = [] if splits.train is None else splits.train.texts
    vocabulary = build_vocabulary(texts, phones=phones, where=where, raw_texts=raw_texts, **special)
    from speechtune.models.ctc.tokenizer import ctc_tokenizer

    with explain_write_errors("the tokenizer", folder):
        ctc_tokenizer(vocabulary, folder, phones=phones, **special).save_pretrained(folder)
    return vocabulary


def _shown(texts: Iterable[str], tokens: dict[str, int], *, phones: bool) -> list[str]:
    """The tokens with their counts, most frequent first, and the rare ones by name."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split() if phones else text)
    counts = Counter({token: count for token, count in counts.items() if token in tokens or token == " "})
    names = [f"{visible(character_name(token))} {count:,}" for token, count in counts.most_common()]
    lines = ["   ".join(names[start : start + 10]) for start in range(0, len(names), 10)]
    rare = sorted((count, token) for token, count in counts.items() if count < RARE and token != " ")
    if rare:
        described = ", ".join(f"{visible(name_character(token))} x{count}" for count, token in rare[:20])
        more = f" and {len(rare) - 20} more" if len(rare) > 20 else ""
        lines.append(f"Fewer than {RARE} times: {described}{more}. If one is no letter, give it to --chars_to_ignore.")
    return lines
