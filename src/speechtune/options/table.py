"""Every option of ours, exactly once: name, type, default, help, range, its commands, and the models it is for.

To add an option, add one line to `Settings`: parsing, `--help` and docs/options.md follow from it. The options of
`TrainingArguments` stay beside it, in `Options.training`, as far as the user gave them. This module imports neither
torch nor transformers: a misspelt option is answered at once.

Rejected: one dataclass that inherits from `TrainingArguments`. Importing it takes six seconds, and its defaults hide
what the user asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from speechtune.errors import OptionError

__all__ = ["METRICS", "SECRET_OPTIONS", "Command", "Family", "Kind", "Options", "Settings"]

Kind = Literal["ctc", "ctc_streaming", "ctc_adapter", "seq2seq", "transducer"]  # the scripts', and transducers
Family = Literal["ctc", "seq2seq", "transducer"]  # what a model is
# "script": an original script's name was called. "plan" and "script" take the options of "train", "lm tune" those of
# "evaluate".
Command = Literal["train", "plan", "script", "evaluate", "doctor", "vocab", "lm tune"]

# A metric is a file of evaluation/metrics/. They are listed, not imported, so a new one is an option at once.
METRICS = tuple(
    sorted(
        (path.stem for path in (Path(__file__).parents[1] / "evaluation/metrics").glob("[!_]*.py")),
        key=lambda name: (name != "wer", name),
    )
)

SECRET_OPTIONS = frozenset({"token", "hub_token"})  # never in a message, log, card or file
SEQ2SEQ_TRAINING = frozenset(
    {
        *("predict_with_generate", "generation_max_length", "generation_num_beams", "generation_config"),
        *("label_smoothing_factor", "neftune_noise_alpha"),
    }
)
_FAMILY_WORDS = {"ctc": "trained with CTC", "seq2seq": "a sequence-to-sequence model", "transducer": "a transducer"}

_INSTEAD = {"hotwords": "Whisper takes them as --prompt 'ankara, new york'"}  # where another model has another way

_ALL, _WITH_MODEL, _TRAINING = "train evaluate doctor vocab", "train evaluate doctor", "train doctor vocab"
_SHARE, _SECONDS, _COUNT = (0, 1), (0, 86_400), (1, 10**9)


def _option(
    group: str,
    default: Any,
    help: str,
    commands: str = "train",
    *,
    only_for: str = "",
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """Return a field of `Settings`.

    Args:
        only_for: "ctc", "seq2seq", "adapter" or "streaming": an error with any other model or corpus.
        limits: smallest and largest number.
        choices: the only words allowed, where the annotation does not list them.
    """
    facts = {"group": group, "commands": commands, "help": help, "only_for": only_for, "limits": limits}
    return field(default=default, repr=not secret, metadata={**facts, "choices": choices, "secret": secret})


_model = partial(_option, "Model", commands=_WITH_MODEL)
_corpus = partial(_option, "Corpus", commands=_ALL)
_text = partial(_option, "Transcripts", commands=_ALL)
_ctc = partial(_option, "Training", only_for="ctc")
_share = partial(_option, "Training", only_for="ctc", limits=_SHARE)
_training = partial(_option, "Training")
_batches = partial(_option, "Batches and speed", commands="train evaluate")
_scores = partial(_option, "Scores", commands="train evaluate")
_evaluations = partial(_option, "Before and after")
_decoding = partial(_option, "Decoding", commands="train evaluate")
_run = partial(_option, "Run")


@dataclass(frozen=True)
class Settings:
    """Our options, beside those of `TrainingArguments`. Times are in seconds; None means "not set"."""

    model_name_or_path: str = _model("", "pretrained model: a folder, or a name on the Hugging Face hub")
    model_config: Mapping[str, Any] | str | None = _model(
        None,
        "start from random weights instead: the model's configuration, with its model_type, as JSON or a JSON file",
        commands="train",
        limits=(-(10**6), 10**6),
    )
    tokenizer_name_or_path: str | None = _model(None, "tokenizer; by default the model's, or one made from the text")
    new_vocabulary: str | None = _model(
        None,
        "train a new head: characters, or bpe:256 for pieces of words, of the training text; by default a model that "
        "writes pieces keeps its own, others get characters",
        commands="train",
        only_for="ctc",
    )
    config_name: str | None = _model(None, "use this configuration instead: a folder, or a name on the hub")
    feature_extractor_name: str | None = _model(
        None, "use this feature extractor instead: a folder, or a name on the hub"
    )
    model_revision: str = _model("main", "version of the model on the hub: a branch, tag or commit")
    cache_dir: str | None = _model(None, "folder for downloads and for the corpus index", commands=_ALL)
    token: str | None = _model(
        None, "token for the hub; by default that of `hf auth login`", commands=_ALL, secret=True
    )
    with_model: str | None = _model(
        None,
        "find transcripts that don't match their recordings by this model, a folder or a name on the hub",
        commands="doctor",
    )
    trust_remote_code: bool = _model(False, "run Python code that comes with a model or dataset; read that code first")

    dataset_name: str = _corpus("", "corpus: a folder, archive or manifest, a name in --corpora_dir, or one on the hub")
    dataset_config_name: str | None = _corpus(None, "part of the corpus, usually a language: tr, clean, german")
    corpora_dir: str | None = _corpus(None, "folder to search for corpora, three levels deep; or $SPEECHTUNE_CORPORA")
    train_split_name: str | None = _corpus(
        None,
        "splits to train on, joined by +; by default train+validation with CTC, train with sequence-to-sequence models",
        commands=_TRAINING,
    )
    eval_split_name: str = _corpus("test", "splits to evaluate on, joined by +", commands=_WITH_MODEL)
    audio_column_name: str = _corpus("audio", "column of the recordings")
    text_column_name: str | None = _corpus(None, "column of the transcripts; by default the corpus' own")
    allow_outside_audio: bool = _corpus(False, "read recordings that a corpus lists outside its own folder")
    corrections: str | None = _corpus(
        None, "CSV of corrected transcripts: id or file, and text; an empty text removes the utterance"
    )
    max_duration_in_seconds: float = _corpus(20.0, "skip longer recordings in training", limits=_SECONDS)
    min_duration_in_seconds: float = _corpus(0.0, "skip shorter recordings in training", limits=_SECONDS)
    max_train_samples: int | None = _corpus(None, "train on the first N utterances", commands=_TRAINING, limits=_COUNT)
    max_eval_samples: int | None = _corpus(
        None, "evaluate on the first N utterances", commands=_WITH_MODEL, limits=_COUNT
    )
    max_skipped: float = _corpus(0.05, "stop if more than this share of a split is unusable", limits=_SHARE)
    strict: bool = _corpus(False, "stop at the first unusable recording or transcript")
    preprocessing_num_workers: int | None = _corpus(None, "processes that read audio headers", limits=(1, 256))
    overwrite_cache: bool = _corpus(False, "index the corpus again")
    streaming: bool = _corpus(False, "stream from the hub or from shards; needs --max_steps", commands="train evaluate")
    shuffle_buffer_size: int = _corpus(
        500, "utterances to shuffle at a time", commands="train", only_for="streaming", limits=(1, 10**6)
    )

    chars_to_ignore: tuple[str, ...] | None = _text(None, "characters to remove from the transcripts: , ? . ! -")
    do_lower_case: bool | None = _text(
        None,
        "convert the transcripts to lower case, by their language's rules; default: true, but false for models that "
        "write case, such as Whisper",
    )
    language: str | None = _text(
        None, "language of the transcripts: hindi, hi; by default the corpus', else detected by Whisper"
    )
    task: Literal["transcribe", "translate"] = _text(
        "transcribe", "Whisper's task", commands="train evaluate", only_for="seq2seq"
    )
    phoneme_language: str | None = _text(None, "recognise phonemes: those of this language", only_for="ctc")
    unk_token: str = _text("[UNK]", "token for unknown characters, in a new tokenizer", only_for="ctc")
    pad_token: str = _text("[PAD]", "token for padding and the CTC blank, in a new tokenizer", only_for="ctc")
    word_delimiter_token: str = _text("|", "token for the space between words, in a new tokenizer", only_for="ctc")

    freeze_feature_encoder: bool = _training(True, "do not train the convolutional feature encoder")
    freeze_encoder: bool = _training(False, "do not train the encoder", only_for="seq2seq")
    freeze: tuple[str, ...] | None = _training(
        None, 'do not train the weights of these names: "encoder.layers.[0-11]"; * is any part of a name'
    )
    lora: bool | str = _training(
        False, "train low-rank updates of the linear layers only; alone, or as r=32,alpha=64,targets=auto,dora"
    )
    attention_dropout: float = _share(0.0, "dropout of the attention weights")
    activation_dropout: float = _share(0.0, "dropout inside the feed-forward layers")
    feat_proj_dropout: float = _share(0.0, "dropout after the feature projection")
    hidden_dropout: float = _share(0.0, "dropout of the encoder's fully connected layers")
    final_dropout: float = _share(0.0, "dropout before the output layer")
    layerdrop: float = _share(0.0, "probability of skipping an encoder layer")
    mask_time_prob: float = _share(0.05, "SpecAugment: share of frames to mask")
    mask_time_length: int = _ctc(10, "SpecAugment: frames per mask", limits=(1, 1000))
    mask_feature_prob: float = _share(0.0, "SpecAugment: share of features to mask")
    mask_feature_length: int = _ctc(10, "SpecAugment: features per mask", limits=(1, 1000))
    apply_spec_augment: bool = _training(
        False, "SpecAugment for Whisper, as its configuration says", only_for="seq2seq"
    )
    ctc_loss_reduction: Literal["mean", "sum"] = _ctc("mean", "reduction of the CTC loss")
    ctc_zero_infinity: bool = _ctc(False, "count an infinite CTC loss as zero")
    add_adapter: bool = _ctc(False, "add the convolutional adapter after the encoder")
    target_language: str | None = _ctc(
        None, "train only MMS attention adapters, for this language (ISO 639-3: tur, swe)", commands="train evaluate"
    )
    adapter_attn_dim: int | None = _training(
        None,
        "width of the attention adapters; by default the checkpoint's own, or 16",
        only_for="adapter",
        limits=(1, 4096),
    )
    overwrite_lang_vocab: bool = _training(False, "replace this language's vocabulary", only_for="adapter")

    batch_seconds: float | Literal["auto"] | None = _batches(
        None,
        "seconds of audio per batch, with padding; replaces the number of utterances; auto: all that fits",
        limits=(0.1, 10**6),
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _batches(
        "auto", "precision of the computation; auto: the fastest one that is safe on this machine"
    )
    audio_cache_max_gb: float | None = _batches(
        None, "largest decoded-audio cache, in GB; 0 turns it off; by default a share of the disk", limits=(0, 10**6)
    )
    encoder_context: float | Literal["full"] | None = _batches(
        None,
        "Whisper: seconds of silence after each clip; full: up to 30 s; by default as the model was fine-tuned",
        only_for="seq2seq",
        limits=(0, 30),
    )
    force: bool = _batches(
        False, "allow an --encoder_context that the model was not fine-tuned with, and scores on training recordings"
    )
    encoder_cache: bool = _batches(
        False, "keep the output of a frozen encoder on disk, by utterance", commands="train", only_for="seq2seq"
    )

    eval_metrics: tuple[str, ...] = _scores(("wer",), "error rates of words, characters, phones", choices=METRICS)
    protocol: Literal["default", "readme"] = _scores(
        "default",
        "normalisation, filter and score; readme: as the original scripts did, errors included",
        commands=_ALL,
    )
    normaliser: Literal["default", "none", "whisper-basic", "whisper-english"] | None = _scores(
        None,
        "of scores; default: as the transcripts that are learnt; none: as written, case and punctuation count; "
        "for models that write case whisper-basic, else default",
    )
    spell_numbers: bool = _scores(
        False, "write out numbers (42: forty-two) in the transcripts' language before scoring; needs speechtune[scores]"
    )
    probe_silence: bool = _scores(
        False, "count the words that the model writes on generated silence, noise, hum and tones"
    )
    padding: Literal["invariant", "original"] = _scores(
        "invariant", "original: padding changes the output, as in the scripts"
    )

    baseline: bool | None = _evaluations(
        None,
        "evaluate the starting model first, where it can recognise; by default with `speechtune train`, not in scripts",
    )
    also_evaluate: tuple[str, ...] | None = _evaluations(
        None, "further sets to evaluate, before and after: NAME[:CONFIG[:SPLIT]]; no NAME: the same corpus (:de)"
    )
    interpolate_weights: tuple[float, ...] | None = _evaluations(
        None,
        "after training, mix the starting weights with so much of the final ones: 0 0.25 0.5 0.75 1; all are "
        "evaluated, and the best on the validation split is kept",
        limits=_SHARE,
    )
    average_checkpoints: int | None = _evaluations(
        None,
        "average the weights of the best N checkpoints, or of the last; kept where better on the validation split",
        limits=(2, 1000),
    )

    lm: str | None = _decoding(
        None, "n-gram language model (ARPA) for recognition; auto: the one in the model's folder, built in training"
    )
    lm_alpha: float | None = _decoding(
        None, "weight of the language model; by default as `lm tune` found, or 0.5", limits=(0, 100)
    )
    lm_beta: float | None = _decoding(
        None, "added to a text's score for each word; by default as `lm tune` found, or 1", limits=(-100, 100)
    )
    num_beams: int | None = _decoding(
        None,
        "hypotheses kept in the search; by default 100 (CTC) or 5 with a language model or hot words, else 1",
        limits=(1, 1000),
    )
    hotwords: tuple[str, ...] | None = _decoding(
        None,
        "words or phrases to prefer, each with its weight where 8 is not right: ankara 'new york=12'",
        only_for="ctc",
    )
    prompt: str | None = _decoding(
        None,
        "Whisper: words or a sentence that it takes for what was said before: names and spellings to prefer",
        commands="evaluate",
        only_for="seq2seq",
    )

    overwrite_output_dir: bool = _run(False, "start again, even if the output folder holds a run to resume")
    report_audio_mb: float = _run(
        5.0,
        "MB of recordings that report.html may hold: who gets the report hears them; 0: none",
        commands="train evaluate doctor",
        limits=(0, 1000),
    )
    preprocessing_only: bool = _run(False, "read and check the corpus, then stop")
    no_measure: bool = _run(False, "do not run trial steps: no measured memory and time", commands="plan")

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
    """What the user asked for, typed, with old option names translated.

    `given` names the options of `config` that the user set, on the command line or in a recipe; the others may take a
    default of the corpus or the model. `training` holds the options of `TrainingArguments` that the user set, and
    `do_train`/`do_eval`.
    """

    config: Settings
    training: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold hub_token
    given: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()  # lines to show before the run
    command: Command = "train"
    kind: Kind | None = None  # None until the model is known, except for the scripts
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
        if self.kind is not None and (self.kind if self.kind in ("seq2seq", "transducer") else "ctc") != family:
            script = "" if family == "transducer" else f"run_speech_recognition_{family}.py or "
            raise OptionError(
                f"{self.config.model_name_or_path} is {_FAMILY_WORDS[family]}, which this script does not do.\n"
                f"Use {script}`speechtune train`."
            )
        kind = self._kind_of(family)
        wrong = [self._misfit(name, kind) for name in sorted(self.given | (SEQ2SEQ_TRAINING & set(self.training)))]
        if any(wrong):
            raise OptionError("\n".join(line for line in wrong if line))
        streaming = self.config.streaming or (kind == "ctc_streaming" and "streaming" not in self.given)
        return replace(self, kind=kind, config=replace(self.config, streaming=streaming))

    def _kind_of(self, family: Family) -> Kind:
        if family != "ctc":
            return family
        if self.kind == "ctc_adapter" or self.config.target_language is not None:
            return "ctc_adapter"
        return "ctc_streaming" if self.kind == "ctc_streaming" or self.config.streaming else "ctc"

    def _misfit(self, name: str, kind: Kind) -> str:
        """Why option `name` has no place in a run of this kind; empty if it has."""
        only_for = "seq2seq" if name in SEQ2SEQ_TRAINING else _ONLY_FOR[name]
        if only_for == "seq2seq" and kind != "seq2seq":
            this = "a transducer" if kind == "transducer" else "trained with CTC"
            return f"--{name} is for sequence-to-sequence models; this one is {this}. Leave it out."
        if only_for in ("ctc", "adapter") and kind in ("seq2seq", "transducer"):
            this = "a transducer" if kind == "transducer" else "sequence-to-sequence"
            hint = f"\n{_INSTEAD[name]}." if name in _INSTEAD and kind == "seq2seq" else ""
            return f"--{name} is for CTC models; this one is {this}. Leave it out.{hint}"
        if only_for == "adapter" and kind != "ctc_adapter":
            return f"--{name} is for MMS adapters: give --target_language too, or leave it out."
        if only_for == "streaming" and kind != "ctc_streaming" and not self.config.streaming:
            return f"--{name} is for streams: give --streaming too, or leave it out."
        return ""


_ONLY_FOR: dict[str, str] = {f.name: f.metadata["only_for"] for f in fields(Settings)}
