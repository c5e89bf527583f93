"""Labels that are pieces of words (sentencepiece, BPE), as Parakeet, Lasr and Granite write them.

Such a checkpoint keeps its own tokenizer and head: fine-tuning starts from what it writes already. On request
(`--new_vocabulary bpe:256`) pieces are learned from the training text, for any CTC model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from speechtune.errors import ModelError, TextError
from speechtune.text.vocab import count_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "PIECE_START", "PieceDecoder", "PieceLabeller", "learn_pieces", "unwritable_characters", "writes_letters",
]  # fmt: skip

UNK_PIECE, PAD_PIECE = "<unk>", "<pad>"
PIECE_START = "\u2581"  # of pieces that start a word


def writes_letters(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether labels are letters or phones with a token between words, as in wav2vec2's tokenizers."""
    return hasattr(tokenizer, "word_delimiter_token")


class PieceLabeller:
    """Normalised text -> ids of pieces, without tokens for begin and end. Picklable.

    A tokenizer that has capital letters only gets those.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._upper_case = self._is_unknown("a") and not self._is_unknown("A")

    def __call__(self, text: str) -> list[int]:
        """Return the ids, (L,)."""
        text = text.strip()
        ids = self._tokenizer(text.upper() if self._upper_case else text, add_special_tokens=False, verbose=False)
        return list(ids.input_ids)

    def _is_unknown(self, text: str) -> bool:
        ids = self._tokenizer(text, add_special_tokens=False).input_ids
        return not ids or self._tokenizer.unk_token_id in ids


class PieceDecoder:
    """Collapse repeats, drop blanks and join pieces, as `batch_decode(..., skip_special_tokens=True)` does."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, blank: int) -> None:
        self.tokenizer, self.blank = tokenizer, blank

    def __call__(self, ids: NDArray[np.integer[Any]]) -> str:
        """Label ids of the real frames, (num_frames,) -> text."""
        if len(ids) == 0:
            return ""
        first = np.concatenate([[True], ids[1:] != ids[:-1]])
        kept = ids[first & (ids != self.blank)].tolist()
        # They are collapsed already: equal pieces with a blank between them are two.
        return str(self.tokenizer.decode(kept, skip_special_tokens=True, group_tokens=False)).strip()


def learn_pieces(texts: Sequence[str], num_pieces: int, *, where: str) -> PreTrainedTokenizerBase:
    """Learn byte-pair pieces of the words of `texts`; return a tokenizer that plain transformers loads.

    Args:
        texts: normalised transcripts of the training split.
        num_pieces: largest number of pieces, the unknown one among them; the blank comes behind them.
        where: names the texts in messages.

    Raises:
        TextError: there is no text, or it has more characters than pieces were asked for.

    Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", section 3.2.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import ParakeetTokenizer

    num_characters = len(count_tokens(texts)) + 1  # and the unknown piece; the space counts for the word boundary
    if num_characters == 1:
        raise TextError(f"{where}: no transcript has a character left, so there are no pieces to learn.")
    if num_characters > num_pieces:
        raise TextError(
            f"--new_vocabulary bpe:{num_pieces}: {where} has {num_characters - 1} characters, and each is a piece.\n"
            f"Ask for more than {num_characters}, or take `--new_vocabulary characters`."
        )
    pieces = Tokenizer(models.BPE(unk_token=UNK_PIECE))
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=num_pieces, special_tokens=[UNK_PIECE], show_progress=False)
    pieces.train_from_iterator((text.strip() for text in texts), trainer)
    pieces.add_special_tokens([AddedToken(PAD_PIECE, special=True)])
    return ParakeetTokenizer(tokenizer_object=pieces, unk_token=UNK_PIECE, pad_token=PAD_PIECE)


def unwritable_characters(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Counter[str]:
    """Count the characters of normalised texts that no piece has.

    Raises:
        ModelError: the tokenizer has no unknown token, so that it would drop them without a trace.
    """
    counts = count_tokens(texts)
    if tokenizer.unk_token_id is None:
        raise ModelError(f"{tokenizer.name_or_path}: the tokenizer has no unk_token, which CTC labels need.")
    encode = PieceLabeller(tokenizer)
    return Counter({c: n for c, n in counts.items() if not c.isspace() and tokenizer.unk_token_id in encode(c)})
