"""Best label a frame -> text, as the tokenizers of transformers do it, but for whole arrays.

Source: Graves et al. 2006, section 3.2, best path decoding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GreedyDecoder"]


class GreedyDecoder:
    """Collapses repeats, drops blanks and joins tokens; equal to `tokenizer.decode` (a test holds it).

    Special tokens other than the blank are written out, as `tokenizer.decode` does: an unknown token in a hypothesis is
    an error to be seen.

    Args:
        tokenizer: of a CTC model.
        num_labels: size of the model's head, which may exceed the tokenizer's vocabulary.
    """

    def __init__(self, tokenizer: Any, *, num_labels: int) -> None:
        self.blank = int(tokenizer.pad_token_id)
        delimiter = getattr(tokenizer, "word_delimiter_token", None)
        tokens = {i: token for token, i in tokenizer.get_vocab().items()}
        unknown = str(tokenizer.unk_token or "")
        named = [tokens.get(i, unknown) for i in range(max(num_labels, len(tokens)))]
        phones = type(tokenizer).__name__ == "Wav2Vec2PhonemeCTCTokenizer"
        # Among phones the delimiter stays, or one could not tell words from phones.
        self.tokens = np.array([" " if token == delimiter and not phones else token for token in named], dtype=object)
        self.joint = " " if phones else ""
        self.lower = bool(getattr(tokenizer, "do_lower_case", False))

    def __call__(self, ids: NDArray[np.integer[Any]]) -> str:
        """Label ids of the real frames, (num_frames,) -> text."""
        if len(ids) == 0:
            return ""
        first = np.concatenate([[True], ids[1:] != ids[:-1]])
        kept = ids[first & (ids != self.blank)]
        text = self.joint.join(self.tokens[kept]).strip()
        return text.lower() if self.lower else text
