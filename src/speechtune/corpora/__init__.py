"""Speech corpora, read in place. One file a corpus in `layouts/`: every module there with a `LAYOUT` is used.

    open_corpus("common_voice", "tr").read("train+validation")  ->  SplitTable of Utterances

Only headers of audio files are read, once; see index.py.
"""

from speechtune.corpora.find import all_layouts, open_corpus

__all__ = ["all_layouts", "open_corpus"]
