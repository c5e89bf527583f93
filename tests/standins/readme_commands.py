"""The commands of the original README as tables of options: facts, in our own form.

One entry a command: how it is launched, which script, and its options in their order. An option is a name with its
values; without values it stands alone. Values that the README joins by `=` and those that follow as words are told
apart by `Words`, since a shell tells them apart too.

Skipped on purpose: the two asterisks that surround the streaming command (they are Markdown that slipped into the code
block, and a shell would look for a program `**torchrun`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Words(tuple[str, ...]):
    """Values that follow an option as words of their own."""

    __slots__ = ()


Option = tuple[str, str | Words | None]
ALONE = None
# `\;` and `\:` reach the script as `;` and `:`, `\"` as `"`.
CHARS_TO_IGNORE = Words([",", "?", ".", "!", "-", ";", ":", '"', "“", "%", "‘", "”", "�"])


@dataclass(frozen=True)
class Command:
    """One command of the README."""

    name: str
    heading: str  # the README's heading above it
    script: str
    options: tuple[Option, ...]
    num_processes: int = 1  # above 1: torchrun --nproc_per_node
    claims: str = ""  # what the README says it yields, and on which machine

    def arguments(self) -> list[str]:
        """What follows the script's name, word by word as a shell hands it on."""
        words: list[str] = []
        for name, value in self.options:
            if isinstance(value, Words):
                words += [f"--{name}", *value]
            else:
                words.append(f"--{name}" if value is None else f"--{name}={value}")
        return words

    def words(self) -> list[str]:
        """The whole command, word by word."""
        if self.num_processes == 1:
            return ["python", self.script, *self.arguments()]
        return ["torchrun", "--nproc_per_node", str(self.num_processes), self.script, *self.arguments()]

    def value(self, name: str) -> str | Words | None:
        """The value of an option.

        Raises:
            KeyError: the command doesn't have that option.
        """
        return dict(self.options)[name]

    def has(self, name: str) -> bool:
        return any(name == option for option, _ in self.options)


_CTC_SINGLE = Command(
    name="ctc_single",
    heading="Single GPU CTC",
    script="run_speech_recognition_ctc.py",
    claims="1 V100, about 1 h 20 min, CTC loss 0.39, WER 0.35",
    options=(
        ("dataset_name", "common_voice"),
        ("model_name_or_path", "facebook/wav2vec2-large-xlsr-53"),
        ("dataset_config_name", "tr"),
        ("output_dir", "./wav2vec2-common_voice-tr-demo"),
        ("overwrite_output_dir", ALONE),
        ("num_train_epochs", "15"),
        ("per_device_train_batch_size", "16"),
        ("gradient_accumulation_steps", "2"),
        ("learning_rate", "3e-4"),
        ("warmup_steps", "500"),
        ("eval_strategy", "steps"),
        ("text_column_name", "sentence"),
        ("length_column_name", "input_length"),
        ("save_steps", "400"),
        ("eval_steps", "100"),
        ("layerdrop", "0.0"),
        ("save_total_limit", "3"),
        ("freeze_feature_encoder", ALONE),
        ("gradient_checkpointing", ALONE),
        ("chars_to_ignore", CHARS_TO_IGNORE),
        ("fp16", ALONE),
        ("group_by_length", ALONE),
        ("push_to_hub", ALONE),
        ("do_train", ALONE),
        ("do_eval", ALONE),
    ),
)

_CTC_MULTI = Command(
    name="ctc_multi",
    heading="Multi GPU CTC",
    script="run_speech_recognition_ctc.py",
    num_processes=8,
    claims="8 V100, about 18 min, CTC loss 0.39, WER 0.36",
    options=(
        ("dataset_name", "common_voice"),
        ("model_name_or_path", "facebook/wav2vec2-large-xlsr-53"),
        ("dataset_config_name", "tr"),
        ("output_dir", "./wav2vec2-common_voice-tr-demo-dist"),
        ("overwrite_output_dir", ALONE),
        ("num_train_epochs", "15"),
        ("per_device_train_batch_size", "4"),
        ("learning_rate", "3e-4"),
        ("warmup_steps", "500"),
        ("eval_strategy", "steps"),
        ("text_column_name", "sentence"),
        ("length_column_name", "input_length"),
        ("save_steps", "400"),
        ("eval_steps", "100"),
        ("logging_steps", "1"),
        ("layerdrop", "0.0"),
        ("save_total_limit", "3"),
        ("freeze_feature_encoder", ALONE),
        ("gradient_checkpointing", ALONE),
        ("chars_to_ignore", CHARS_TO_IGNORE),
        ("fp16", ALONE),
        ("group_by_length", ALONE),
        ("push_to_hub", ALONE),
        ("do_train", ALONE),
        ("do_eval", ALONE),
    ),
)

_CTC_STREAMING = Command(
    name="ctc_streaming",
    heading="Multi GPU CTC with Dataset Streaming",
    script="run_speech_recognition_ctc_streaming.py",
    num_processes=4,
    claims="4 V100, about 3 h 31 min, CTC loss 0.35, WER 0.29",
    options=(
        ("dataset_name", "common_voice"),
        ("model_name_or_path", "facebook/wav2vec2-xls-r-300m"),
        ("tokenizer_name_or_path", "anton-l/wav2vec2-tokenizer-turkish"),
        ("dataset_config_name", "tr"),
        ("train_split_name", "train+validation"),
        ("eval_split_name", "test"),
        ("output_dir", "wav2vec2-xls-r-common_voice-tr-ft"),
        ("overwrite_output_dir", ALONE),
        ("max_steps", "5000"),
        ("per_device_train_batch_size", "8"),
        ("gradient_accumulation_steps", "2"),
        ("learning_rate", "5e-4"),
        ("warmup_steps", "500"),
        ("eval_strategy", "steps"),
        ("text_column_name", "sentence"),
        ("save_steps", "500"),
        ("eval_steps", "500"),
        ("logging_steps", "1"),
        ("layerdrop", "0.0"),
        ("eval_metrics", Words(["wer", "cer"])),
        ("save_total_limit", "1"),
        ("mask_time_prob", "0.3"),
        ("mask_time_length", "10"),
        ("mask_feature_prob", "0.1"),
        ("mask_feature_length", "64"),
        ("freeze_feature_encoder", ALONE),
        ("chars_to_ignore", CHARS_TO_IGNORE),
        ("max_duration_in_seconds", "20"),
        ("shuffle_buffer_size", "500"),
        ("fp16", ALONE),
        ("push_to_hub", ALONE),
        ("do_train", ALONE),
        ("do_eval", ALONE),
        ("gradient_checkpointing", ALONE),
    ),
)

_MMS_SHARED: tuple[Option, ...] = (
    ("num_train_epochs", "4"),
    ("per_device_train_batch_size", "32"),
    ("learning_rate", "1e-3"),
    ("warmup_steps", "100"),
    ("eval_strategy", "steps"),
    ("text_column_name", "sentence"),
    ("length_column_name", "input_length"),
    ("save_steps", "200"),
    ("eval_steps", "100"),
    ("save_total_limit", "3"),
)
_MMS_END: tuple[Option, ...] = (
    ("gradient_checkpointing", ALONE),
    ("chars_to_ignore", CHARS_TO_IGNORE),
    ("fp16", ALONE),
    ("group_by_length", ALONE),
    ("do_train", ALONE),
    ("do_eval", ALONE),
    ("push_to_hub", ALONE),
)

_MMS_TURKISH = Command(
    name="mms_turkish",
    heading="Common Voice CTC Adapter",
    script="run_speech_recognition_ctc.py",
    claims="most GPUs, less than 10 min, WER below 0.27",
    options=(
        ("dataset_name", "common_voice"),
        ("model_name_or_path", "facebook/mms-1b-all"),
        ("dataset_config_name", "tr"),
        ("output_dir", "./wav2vec2-common_voice-tr-mms-demo"),
        *_MMS_SHARED,
        ("target_language", "tur"),
        *_MMS_END,
    ),
)

_MMS_SWEDISH = Command(
    name="mms_swedish",
    heading="Common Voice CTC Adapter",
    script="run_speech_recognition_ctc.py",
    claims="a second adapter in the same folder",
    options=(
        ("dataset_name", "common_voice"),
        ("model_name_or_path", "facebook/mms-1b-all"),
        ("dataset_config_name", "sw"),
        ("output_dir", "./wav2vec2-common_voice-tr-mms-demo"),
        ("tokenizer_name_or_path", "./wav2vec2-common_voice-tr-mms-demo"),
        *_MMS_SHARED,
        ("target_language", "swe"),
        *_MMS_END,
    ),
)

_WHISPER_START: tuple[Option, ...] = (
    ("model_name_or_path", "openai/whisper-small"),
    ("dataset_name", "mozilla-foundation/common_voice_11_0"),
    ("dataset_config_name", "hi"),
    ("language", "hindi"),
    ("task", "transcribe"),
    ("train_split_name", "train+validation"),
    ("eval_split_name", "test"),
    ("max_steps", "5000"),
    ("output_dir", "./whisper-small-hi"),
    ("per_device_train_batch_size", "16"),
)
_WHISPER_END: tuple[Option, ...] = (
    ("per_device_eval_batch_size", "16"),
    ("logging_steps", "25"),
    ("learning_rate", "1e-5"),
    ("warmup_steps", "500"),
    ("eval_strategy", "steps"),
    ("eval_steps", "1000"),
    ("save_strategy", "steps"),
    ("save_steps", "1000"),
    ("generation_max_length", "225"),
    ("preprocessing_num_workers", "16"),
    ("max_duration_in_seconds", "30"),
    ("text_column_name", "sentence"),
    ("freeze_feature_encoder", "False"),
    ("gradient_checkpointing", ALONE),
    ("fp16", ALONE),
    ("overwrite_output_dir", ALONE),
    ("do_train", ALONE),
    ("do_eval", ALONE),
    ("predict_with_generate", ALONE),
    ("use_auth_token", ALONE),
)

_WHISPER_SINGLE = Command(
    name="whisper_single",
    heading="Single GPU Whisper Training",
    script="run_speech_recognition_seq2seq.py",
    claims="1 V100, about 8 h, cross-entropy 1e-4, WER 32.6 %",
    options=(*_WHISPER_START, ("gradient_accumulation_steps", "2"), *_WHISPER_END),
)

_WHISPER_MULTI = Command(
    name="whisper_multi",
    heading="Multi GPU Whisper Training",
    script="run_speech_recognition_seq2seq.py",
    num_processes=2,
    claims="2 V100, about 4 h, cross-entropy 1e-4, WER 32.6 %",
    options=(*_WHISPER_START, *_WHISPER_END),
)


def _warm_started(*, accumulation: str, end: tuple[Option, ...]) -> tuple[Option, ...]:
    return (
        ("dataset_name", "librispeech_asr"),
        ("model_name_or_path", "./"),
        ("dataset_config_name", "clean"),
        ("train_split_name", "train.100"),
        ("eval_split_name", "validation"),
        ("output_dir", "./"),
        ("preprocessing_num_workers", "16"),
        ("length_column_name", "input_length"),
        ("overwrite_output_dir", ALONE),
        ("num_train_epochs", "5"),
        ("per_device_train_batch_size", "8"),
        ("per_device_eval_batch_size", "8"),
        ("gradient_accumulation_steps", accumulation),
        ("learning_rate", "3e-4"),
        ("warmup_steps", "400"),
        ("eval_strategy", "steps"),
        ("text_column_name", "text"),
        ("save_steps", "400"),
        ("eval_steps", "400"),
        ("logging_steps", "10"),
        ("save_total_limit", "1"),
        ("freeze_feature_encoder", ALONE),
        ("gradient_checkpointing", ALONE),
        ("fp16", ALONE),
        ("group_by_length", ALONE),
        ("predict_with_generate", ALONE),
        *end,
        ("do_train", ALONE),
        ("do_eval", ALONE),
        ("do_lower_case", ALONE),
    )


_SEQ2SEQ_SINGLE = Command(
    name="seq2seq_single",
    heading="Single GPU Seq2Seq",
    script="run_speech_recognition_seq2seq.py",
    claims="1 V100, about 5 h, cross-entropy 0.405, WER 0.0728",
    options=_warm_started(accumulation="8", end=(("generation_max_length", "40"), ("generation_num_beams", "1"))),
)

_SEQ2SEQ_MULTI = Command(
    name="seq2seq_multi",
    heading="Multi GPU Seq2Seq",
    script="run_speech_recognition_seq2seq.py",
    num_processes=8,
    claims="8 V100, about 45 min, cross-entropy 0.405, WER 0.0728",
    options=_warm_started(accumulation="1", end=()),
)

# In the README's order.
COMMANDS: tuple[Command, ...] = (
    _CTC_SINGLE,
    _CTC_MULTI,
    _CTC_STREAMING,
    _MMS_TURKISH,
    _MMS_SWEDISH,
    _WHISPER_SINGLE,
    _WHISPER_MULTI,
    _SEQ2SEQ_SINGLE,
    _SEQ2SEQ_MULTI,
)

# The Python snippet of "Warm-Started Speech-Encoder-Decoder Model": what it is given.
WARM_START: dict[str, Any] = {
    "encoder": "facebook/wav2vec2-base",
    "decoder": "facebook/bart-base",
    "encoder_add_adapter": True,
    "encoder_feat_proj_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "max_length": 200,
    "num_beams": 5,
}
