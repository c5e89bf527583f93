"""`speechtune vocab`: write the tokenizer that training would make of a corpus' text, and print its characters.

A stream's text is not known before it is read, so streaming needs its tokenizer beforehand.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from speechtune.corpora.table import SplitTable
from speechtune.errors import OutputError
from speechtune.files import explain_write_errors
from speechtune.options.table import Options
from speechtune.plan.resolve import resolve
from speechtune.terminal.formatting import character_name, visible
from speechtune.text.vocab import build_vocabulary, count_tokens, list_characters
from speechtune.training.data import read_corpus

__all__ = ["run"]

log = logging.getLogger("speechtune")

TOKENIZER_FILES = {
    *("vocab.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json")
}
RARE = 5  # occurrences; a character with fewer is hardly learnt, and often a typing error


def run(options: Options) -> int:
    """Write vocab.json and tokenizer_config.json into `--output_dir`, and print the characters with their counts.

    Returns:
        Exit code, 0.

    Raises:
        CorpusError, TextError: the corpus is missing, or no character of it is left.
        OutputError: the folder holds something else than a tokenizer, or can't be written.
    """
    from speechtune.models.ctc.tokenizer import ctc_tokenizer

    assert options.output_dir is not None  # a required option
    _check_folder(options.output_dir)
    plan = resolve(options)
    for note in plan.notes:
        log.info(note)
    folder, settings, data = plan.folder, plan.settings, read_corpus(plan)
    texts = [*data.train_texts, *data.evaluation_texts]
    special = {name: str(getattr(settings, name)) for name in ("unk_token", "pad_token", "word_delimiter_token")}
    tokens = build_vocabulary(
        texts,
        phones=settings.phones,
        where=f"{plan.corpus}, {settings.train_split_name}",
        raw_texts=data.train.texts if isinstance(data.train, SplitTable) else [],
        **special,
    )
    with explain_write_errors("the tokenizer", folder):
        ctc_tokenizer(tokens, folder, phones=settings.phones, **special).save_pretrained(folder)
    for line in _counts(texts, tokens, phones=settings.phones):
        print(visible(line))
    print(visible(f"{folder}: {len(tokens)} tokens. Use it with --tokenizer_name_or_path {folder}"))
    return 0


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file.\nGive a folder to --output_dir.")
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    others = [name for name in names if name not in TOKENIZER_FILES]
    if others:
        raise OutputError(
            f"{folder}: holds more than a tokenizer ({', '.join(others[:3])}), whose vocabulary would no longer fit.\n"
            "Give a new folder to --output_dir."
        )


def _counts(texts: Iterable[str], tokens: dict[str, int], *, phones: bool) -> list[str]:
    """Return lines with the tokens and their counts, most frequent first, and the rare ones by name."""
    counts = count_tokens(texts, phones=phones)
    counts = Counter({token: count for token, count in counts.items() if token in tokens or token == " "})
    names = [f"{visible(character_name(token))} {count:,}" for token, count in counts.most_common()]
    lines = ["   ".join(names[start : start + 10]) for start in range(0, len(names), 10)]
    rare = Counter({token: count for token, count in counts.items() if count < RARE and token != " "})
    if rare:
        listed = list_characters(rare, 20, rarest_first=True)
        lines.append(f"Fewer than {RARE} times: {listed}. Remove those that are not letters with --chars_to_ignore.")
    return lines
