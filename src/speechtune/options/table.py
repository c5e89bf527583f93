"""Every option of ours, once: name, type, default, help, the commands it belongs to, the models it is for.

`Settings` holds the options of the original scripts and our own; the options of `TrainingArguments` stay beside it,
in `Options.training`, as the words the user gave: this module imports neither torch nor transformers. `arguments.py`
turns words into values by the annotations here; `compat.py` puts the two halves together.

Rejected: one big dataclass that inherits from `TrainingArguments`. It costs six seconds before a misspelt option
can be answered, and its defaults hide what the user asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from speechtune.errors import OptionError

__all__ = ["SECRET_OPTIONS", "Command", "Family", "Kind", "Options", "Settings"]

Kind = Literal["ctc", "ctc_streaming", "ctc_adapter", "seq2seq"]  # one for each of the original scripts
Family = Literal["ctc", "seq2seq"]  # what a model is
# "script": an original script's name was called. "plan" and "script" take the options of "train".
Command = Literal["train", "plan", "script", "evaluate", "doctor", "vocab"]

SECRET_OPTIONS = frozenset({"token", "hub_token"})  # never in a log, a card or a file
SEQ2SEQ_TRAINING = frozenset(
    {"predict_with_generate", "generation_max_length", "generation_num_beams", "generation_config"}
)
_KIND_DEFAULTS: dict[str, dict[str, Any]] = {
    "ctc_streaming": {"streaming": True},
    "seq2seq": {"train_split_name": "train"},
}

_EVERYWHERE = "train evaluate doctor vocab"
_WITH_MODEL = "train evaluate doctor"


def _option(
    group: str,
    default: Any,
    help: str,
    *,
    commands: str,
    only_for: str = "",
    low: float | None = None,
    high: float | None = None,
    secret: bool = False,
) -> Any:
    metadata = {"group": group, "commands": commands, "help": help, "only_for": only_for, "low": low, "high": high}
    return field(default=default, repr=not secret, metadata=metadata)


_model = partial(_option, "Model", commands=_WITH_MODEL)
_weights = partial(_option, "Training: the model", commands="train")
_share = partial(_option, "Training: the model", commands="train", only_for="ctc", low=0, high=1)
_corpus = partial(_option, "Corpus", commands=_EVERYWHERE)
_text = partial(_option, "Text", commands=_EVERYWHERE)
_batches = partial(_option, "Batches and speed", commands="train evaluate")
_run = partial(_option, "The run", commands="train")


@dataclass(frozen=True)
class Settings:
    """Options of ours, beside those of `TrainingArguments`. Times in seconds; None stands for "not set"."""

    model_name_or_path: str = _model("", "pretrained model: a folder, or a name on the hub")
    model_config: Mapping[str, Any] | str | None = _model(
        None,
        "start from random weights: the model's settings, 'model_type' among them, as JSON or a file of it (then no"
        " --model_name_or_path)",
        commands="train",
    )
    tokenizer_name_or_path: str | None = _model(
        None,
        "tokenizer: a folder or a name on the hub; without it, the model's own, or one made from the training text",
    )
    config_name: str | None = _model(None, "take the model's configuration from this folder or name")
    feature_extractor_name: str | None = _model(None, "take the feature extractor from this folder or name")
    model_revision: str = _model("main", "the model's version on the hub: a branch, tag or commit")
    cache_dir: str | None = _model(None, "folder for downloads and for our index", commands=_EVERYWHERE)
    token: str | None = _model(
        None, "the hub's token; without it, that of `hf auth login`", commands=_EVERYWHERE, secret=True
    )
    trust_remote_code: bool = _model(False, "run code that comes with a model or dataset: only if you read it")

    dataset_name: str = _corpus("", "a folder, archive or manifest; a corpus in --corpora_dir; or a name on the hub")
    dataset_config_name: str | None = _corpus(None, "the corpus' part, usually its language: tr, clean, german")
    corpora_dir: str | None = _corpus(None, "where corpora lie, up to three folders down; or $SPEECHTUNE_CORPORA")
    train_split_name: str = _corpus(
        "train+validation",
        "splits to train on, joined by +; 'train' for sequence-to-sequence models",
        commands="train doctor vocab",
    )
    eval_split_name: str = _corpus("test", "splits to evaluate on, joined by +", commands=_WITH_MODEL)
    audio_column_name: str = _corpus("audio", "column that holds the recording")
    allow_outside_audio: bool = _corpus(False, "read audio that a table names outside its folder (.. or ~)")
    text_column_name: str = _corpus("text", "column that holds the transcript; without it, the corpus' own")
    max_duration_in_seconds: float = _corpus(20.0, "longest recording to train on", low=0)
    min_duration_in_seconds: float = _corpus(0.0, "shortest recording to train on", low=0)
    max_train_samples: int | None = _corpus(
        None, "train on this many utterances at most", commands="train doctor vocab", low=1
    )
    max_eval_samples: int | None = _corpus(
        None, "evaluate on this many utterances at most", commands=_WITH_MODEL, low=1
    )
    max_skipped: float = _corpus(0.05, "stop if more than this share of a split can't be used", low=0, high=1)
    strict: bool = _corpus(False, "the first recording or transcript that can't be used is an error")
    preprocessing_num_workers: int | None = _corpus(None, "threads that read the recordings' headers", low=1)
    overwrite_cache: bool = _corpus(False, "index the corpus anew")
    streaming: bool = _corpus(
        False, "read a hub dataset or shards as a stream; needs --max_steps", commands="train evaluate"
    )
    shuffle_buffer_size: int = _corpus(
        500, "utterances a stream is shuffled within", commands="train", only_for="streaming", low=1
    )

    chars_to_ignore: tuple[str, ...] | None = _text(None, "characters to leave out of the transcripts, each as it is")
    do_lower_case: bool = _text(True, "lower the transcripts' case, by the rules of the language")
    language: str | None = _text(
        None, "the transcripts' language, as Whisper's prompt has it (hindi, hi); without it, the corpus'"
    )
    task: Literal["transcribe", "translate"] = _text(
        "transcribe", "Whisper's task", commands="train evaluate", only_for="seq2seq"
    )
    phoneme_language: str | None = _text(None, "write the transcripts as phonemes of this language", only_for="ctc")
    unk_token: str = _text("[UNK]", "unknown character, in a tokenizer made here", only_for="ctc")
    pad_token: str = _text("[PAD]", "padding and CTC's blank, in a tokenizer made here", only_for="ctc")
    word_delimiter_token: str = _text("|", "space between words, in a tokenizer made here", only_for="ctc")

    freeze_feature_encoder: bool = _weights(True, "keep the convolutional feature encoder as it is")
    freeze_encoder: bool = _weights(False, "keep the whole encoder as it is", only_for="seq2seq")
    attention_dropout: float = _share(0.0, "dropout of the attention's weights")
    activation_dropout: float = _share(0.0, "dropout inside the feed-forward layers")
    feat_proj_dropout: float = _share(0.0, "dropout after the feature projection")
    hidden_dropout: float = _share(0.0, "dropout of the encoder's fully connected layers")
    final_dropout: float = _share(0.0, "dropout before the output layer")
    layerdrop: float = _share(0.0, "share of layers skipped at random")
    mask_time_prob: float = _share(0.05, "SpecAugment: share of frames where a mask may cover them")
    mask_time_length: int = _weights(10, "SpecAugment: frames of one mask", only_for="ctc", low=1)
    mask_feature_prob: float = _share(0.0, "SpecAugment: share of features where a mask may cover them")
    mask_feature_length: int = _weights(10, "SpecAugment: features of one mask", only_for="ctc", low=1)
    apply_spec_augment: bool = _weights(False, "SpecAugment for Whisper, with its own settings", only_for="seq2seq")
    ctc_loss_reduction: Literal["mean", "sum"] = _weights("mean", "how a batch's losses become one", only_for="ctc")
    ctc_zero_infinity: bool = _weights(False, "count an infinite loss as zero", only_for="ctc")
    add_adapter: bool = _weights(False, "add the convolutional adapter after the encoder", only_for="ctc")
    target_language: str | None = _weights(
        None,
        "train only MMS attention adapters, for this language (ISO 639-3: tur, swe)",
        commands="train evaluate",
        only_for="ctc",
    )
    adapter_attn_dim: int = _weights(16, "width of the attention adapters", only_for="adapter", low=1)
    overwrite_lang_vocab: bool = _weights(
        False, "replace the language's vocabulary in the tokenizer", only_for="adapter"
    )

    batch_seconds: float | Literal["auto"] | None = _batches(
        None,
        "seconds of audio in a batch, padding included; 'auto' tries what fits; instead of a number of utterances",
        low=0.1,
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _batches(
        "auto", "precision; auto picks the machine's fastest safe one"
    )
    audio_cache_max_gb: float | None = _batches(
        None,
        "most disk for the decoded audio kept in the cache, in GB; 0 turns it off; without it, as disk allows",
        low=0,
    )
    encoder_context: float | Literal["full"] | None = _batches(
        None,
        "Whisper: seconds of silence after a clip, or 'full' (to 30 s); without it, what the model was tuned with",
        only_for="seq2seq",
        low=0,
    )
    force: bool = _batches(False, "allow a short --encoder_context on a model not tuned for it", only_for="seq2seq")
    encoder_cache: bool = _batches(
        False, "compute a frozen encoder once per utterance and keep it", commands="train", only_for="seq2seq"
    )

    eval_metrics: tuple[Literal["wer", "cer", "per"], ...] = _option(
        "Scores", ("wer",), "error rates to show: words, characters, phonemes", commands="train evaluate"
    )
    protocol: Literal["default", "readme"] = _option(
        "Scores",
        "default",
        "how to normalise, filter and score; readme: as the original scripts did, defects included",
        commands=_EVERYWHERE,
    )
    padding: Literal["invariant", "original"] = _option(
        "Scores",
        "invariant",
        "original: let padding change the answer, as the original models do",
        commands="train evaluate",
    )

    overwrite_output_dir: bool = _run(False, "start anew where the output folder holds a run")
    preprocessing_only: bool = _run(False, "read and check the corpus, then stop")
    no_measure: bool = _option(
        "The run",
        False,
        "do not run trial steps: leave out measured memory and time",
        commands="plan",
    )

    @property
    def corpus_phones(self) -> bool:
        """The transcripts are a corpus' own phone labels (TIMIT)."""
        return self.text_column_name == "phones"

    @property
    def phones(self) -> bool:
        """Phones are recognised, not letters."""
        return self.corpus_phones or self.phoneme_language is not None


@dataclass(frozen=True)
class Options:
    """What the user asked for, in two halves, with translations done.

    `given` names the options of `config` that the user set, on the command line or in a recipe; all else may take a
    corpus' or a model's own default. `training` has only what the user set of `TrainingArguments`, typed, and
    `do_train`/`do_eval`.
    """

    config: Settings
    training: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold hub_token
    given: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()  # one line each, to be shown before the run
    command: Command = "train"
    kind: Kind | None = None  # None until the model is known, but for the scripts
    recipe: Path | None = None
    recipe_info: Mapping[str, Any] = field(default_factory=dict)  # the recipe's own block: title, expected, notes

    @property
    def output_dir(self) -> Path | None:
        """The output folder, `~` expanded; None if it was not given (evaluation)."""
        folder = self.training.get("output_dir")
        return Path(folder).expanduser() if folder else None

    @property
    def do_train(self) -> bool:
        return bool(self.training.get("do_train", False))

    @property
    def do_eval(self) -> bool:
        """Asked for by name, or by an `eval_strategy`, as `TrainingArguments` sees it."""
        return bool(self.training.get("do_eval", False)) or self.training.get("eval_strategy", "no") != "no"

    def shareable(self) -> dict[str, Any]:
        """Every option the user gave, for logs, cards and files: secrets skipped. Sorted by name."""
        shared = {name: getattr(self.config, name) for name in self.given} | dict(self.training)
        return {name: shared[name] for name in sorted(shared) if name not in SECRET_OPTIONS}

    def for_family(self, family: Family) -> Options:
        """The same options once it is known what the model is: `kind` and its defaults filled in.

        Raises:
            OptionError: a script of the other family was called, or an option was given that only others know.
        """
        if self.kind is not None and (self.kind == "seq2seq") != (family == "seq2seq"):
            wanted = "seq2seq" if family == "seq2seq" else "ctc"
            raise OptionError(
                f"{self.config.model_name_or_path} is "
                + ("a sequence-to-sequence model" if family == "seq2seq" else "trained with CTC")
                + ", which this script does not do.\n"
                + f"Use run_speech_recognition_{wanted}.py or `speechtune train`."
            )
        kind = self._kind_of(family)
        wrong = [self._misfit(name, kind) for name in sorted(self.given | (SEQ2SEQ_TRAINING & set(self.training)))]
        if any(wrong):
            raise OptionError("\n".join(line for line in wrong if line))
        defaults = {k: v for k, v in _KIND_DEFAULTS.get(kind, {}).items() if k not in self.given}
        return replace(self, kind=kind, config=replace(self.config, **defaults))

    def _kind_of(self, family: Family) -> Kind:
        if family == "seq2seq":
            return "seq2seq"
        if self.kind == "ctc_adapter" or self.config.target_language is not None:
            return "ctc_adapter"
        return "ctc_streaming" if self.kind == "ctc_streaming" or self.config.streaming else "ctc"

    def _misfit(self, name: str, kind: Kind) -> str:
        """Why option `name` has no place in a run of this kind; empty if it has."""
        only_for = "seq2seq" if name in SEQ2SEQ_TRAINING else _ONLY_FOR[name]
        if only_for == "seq2seq" and kind != "seq2seq":
            return f"--{name} is for sequence-to-sequence models; this one is trained with CTC. Leave it out."
        if only_for in ("ctc", "adapter") and kind == "seq2seq":
            return f"--{name} is for CTC models; this one is sequence-to-sequence. Leave it out."
        if only_for == "adapter" and kind != "ctc_adapter":
            return f"--{name} is for MMS adapters: give --target_language too, or leave it out."
        if only_for == "streaming" and kind != "ctc_streaming" and not self.config.streaming:
            return f"--{name} is for streams: give --streaming too, or leave it out."
        return ""


_ONLY_FOR: dict[str, str] = {f.name: f.metadata["only_for"] for f in fields(Settings)}
