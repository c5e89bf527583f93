"""Every command of the original README, word for word, on stand-in models and corpora, cut to two optimiser steps.

The commands' last words are ours (`running.CUT`); before them nothing is changed but the number of processes (2 instead
of 4 or 8). One command is started by torchrun itself; the others run in forks of a process that has the libraries
loaded. What is run and what came of it stands in docs/readme-commands.md.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from reliability.forks import ForkServer
from standins.hub_server import HubServer
from standins.models import stand_in
from standins.readme_commands import COMMANDS, WARM_START, Command
from standins.running import (
    CUT,
    ROOT,
    Place,
    assert_ctc_loads,
    assert_finished,
    assert_seq2seq_loads,
    read_json,
    run_torchrun,
    run_words,
    session_place,
    warm_start,
)

README = ROOT.parent / "shared" / "seed" / "speech-recognition-examples.md"
BY_NAME = {command.name: command for command in COMMANDS}


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return session_place(tmp_path_factory)


def readme_blocks() -> list[str]:
    """The README's code blocks that call one of its scripts with options."""
    if not README.exists():
        pytest.skip(f"the original README is not beside the project ({README})")
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in blocks if ".py \\" in block]


def shell_words(block: str) -> list[str]:
    """A block as a POSIX shell reads it: a backslash at a line's end joins lines. Asterisks around it are Markdown."""
    return shlex.split(block.strip().strip("*").replace("\\\n", " "))


def test_the_table_has_every_command_of_the_readme_word_by_word():
    blocks = readme_blocks()
    assert [command.words() for command in COMMANDS] == [shell_words(block) for block in blocks]


def test_the_table_stands_under_the_readmes_headings():
    readme_blocks()
    headings = re.findall(r"^#+ (.*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert {command.heading for command in COMMANDS} <= set(headings)


def test_the_warm_start_table_is_what_the_readmes_snippet_passes():
    readme_blocks()
    snippet = re.search(r"```python\n(.*?from_encoder_decoder_pretrained.*?)```", README.read_text(), re.DOTALL)
    assert snippet is not None
    call = re.search(r"from_encoder_decoder_pretrained\((.*)\)", snippet[1])
    assert call is not None
    expected = {key: value for key, value in WARM_START.items() if key not in ("encoder", "decoder")}
    assert eval(f"dict({call[1].removeprefix('encoder_id, decoder_id, ')})") == expected
    assert f'encoder_id = "{WARM_START["encoder"]}"' in snippet[1]
    assert f'decoder_id = "{WARM_START["decoder"]}"' in snippet[1]


def test_the_readmes_snippet_itself_makes_the_same_model_folder(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    readme_blocks()
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    place.provide(models=[WARM_START["encoder"], WARM_START["decoder"]])
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    place.enter(monkeypatch, theirs)
    exec(snippet, {})
    warm_start(ours)
    assert {path.name for path in theirs.iterdir()} == {path.name for path in ours.iterdir()}
    for path in theirs.glob("*.json"):
        assert read_json(path) == read_json(ours / path.name), path.name


def run(
    command: Command, place: Place, tmp_path: Path, server: ForkServer | None = None, *, hub: HubServer | None = None
) -> str:
    """Run a command to its end, by torchrun where no server is given; returns its output, both streams."""
    environment = place.environment(tmp_path / "cache", hub.environment() if hub else None)
    words = [*command.words(), *CUT]
    if server is None:
        done = run_torchrun(words, folder=tmp_path, environment=environment)
        codes, output = [done.returncode], done.stdout + done.stderr
    else:
        ended = run_words(words, server, folder=tmp_path, environment=environment)
        codes, output = ended.codes, ended.output
    assert set(codes) == {0}, output[-6000:]
    return output


def folder_of(command: Command, tmp_path: Path) -> Path:
    return tmp_path / str(command.value("output_dir"))


def assert_pushed(hub: HubServer, folder: Path) -> None:
    """The repository has the folder's name and files; its card starts with metadata."""
    files = hub.repositories[f"tester/{folder.name}"].files
    for name in ("model.safetensors", "config.json", "preprocessor_config.json", "vocab.json"):
        assert files[name] == (folder / name).read_bytes()
    card = files["README.md"].decode()
    assert card.startswith("---\n") and "wer" in card
    assert not any("hf_dummy" in content.decode(errors="replace") for content in files.values())
    assert hub.unknown == []


@pytest.mark.parametrize("name", ["ctc_single", "ctc_multi"])
def test_ctc_on_common_voice_turkish(name: str, place: Place, tmp_path: Path, server: ForkServer):
    command = BY_NAME[name]
    place.provide(models=["facebook/wav2vec2-large-xlsr-53"], corpora=["common_voice/tr"])
    with HubServer(place.home) as hub:
        run(command, place, tmp_path, None if name == "ctc_multi" else server, hub=hub)
        folder = folder_of(command, tmp_path)
        assert_finished(folder)
        assert_ctc_loads(folder)
        assert_pushed(hub, folder)


def test_a_wrong_token_is_one_message_and_exit_code_2_before_the_training(
    place: Place, tmp_path: Path, server: ForkServer
):
    command = BY_NAME["ctc_single"]
    place.provide(models=["facebook/wav2vec2-large-xlsr-53"], corpora=["common_voice/tr"])
    with HubServer(place.home) as hub:
        environment = place.environment(tmp_path / "cache", hub.environment(token="hf_wrong"))
        ended = run_words([*command.words(), *CUT], server, folder=tmp_path, environment=environment)
    assert ended.code == 2
    assert "token" in ended.output and "hf auth login" in ended.output
    assert "Traceback" not in ended.output and "hf_wrong" not in ended.output
    assert not (folder_of(command, tmp_path) / "checkpoint-2").exists()
    assert hub.repositories == {}


def test_ctc_streaming_on_common_voice_turkish(place: Place, tmp_path: Path, server: ForkServer):
    command = BY_NAME["ctc_streaming"]
    models = ["facebook/wav2vec2-xls-r-300m", "anton-l/wav2vec2-tokenizer-turkish"]
    place.provide(models=models, corpora=["common_voice/tr"])
    with HubServer(place.home) as hub:
        run(command, place, tmp_path, server, hub=hub)
        folder = folder_of(command, tmp_path)
        assert_finished(folder, metrics=("wer", "cer"))
        assert_ctc_loads(folder)
        assert_pushed(hub, folder)
        given = read_json(stand_in(place.home, "anton-l/wav2vec2-tokenizer-turkish") / "vocab.json")
        assert given.items() <= read_json(folder / "vocab.json").items()


def test_mms_adapters_of_two_languages_in_one_folder(place: Place, tmp_path: Path, server: ForkServer):
    place.provide(models=["facebook/mms-1b-all"], corpora=["common_voice/tr", "common_voice/sw"])
    turkish, swedish = BY_NAME["mms_turkish"], BY_NAME["mms_swedish"]
    folder = folder_of(turkish, tmp_path)
    with HubServer(place.home) as hub:
        run(turkish, place, tmp_path, server, hub=hub)
        assert_finished(folder)
        assert_ctc_loads(folder, target_language="tur")
        adapter = (folder / "adapter.tur.safetensors").read_bytes()
        alphabet = read_json(folder / "vocab.json")["tur"]

        output = run(swedish, place, tmp_path, server, hub=hub)
        assert "Swahili" in output  # the README's `sw` is not Swedish
        assert_finished(folder)
        for language in ("tur", "swe"):
            assert_ctc_loads(folder, target_language=language)
        assert (folder / "adapter.tur.safetensors").read_bytes() == adapter
        vocabulary = read_json(folder / "vocab.json")
        assert vocabulary["tur"] == alphabet
        assert vocabulary["swe"] != alphabet
        assert {"adapter.tur.safetensors", "adapter.swe.safetensors"} <= hub.repositories[
            f"tester/{folder.name}"
        ].files.keys()
        assert_pushed(hub, folder)


@pytest.mark.parametrize("name", ["whisper_single", "whisper_multi"])
def test_whisper_on_common_voice_hindi(name: str, place: Place, tmp_path: Path, server: ForkServer):
    command = BY_NAME[name]
    place.provide(models=["openai/whisper-small"], corpora=["common_voice_11_0/hi"])
    run(command, place, tmp_path, server)
    folder = folder_of(command, tmp_path)
    assert_finished(folder)
    assert_seq2seq_loads(folder)


@pytest.mark.parametrize("name", ["seq2seq_single", "seq2seq_multi"])
def test_warm_started_wav2vec2_and_bart_on_librispeech(
    name: str, place: Place, tmp_path: Path, server: ForkServer, monkeypatch: pytest.MonkeyPatch
):
    command = BY_NAME[name]
    place.provide(models=["facebook/wav2vec2-base", "facebook/bart-base"], corpora=["librispeech_asr"])
    place.enter(monkeypatch, tmp_path)
    warm_start(tmp_path)  # the README runs inside the model's own folder: --model_name_or_path and --output_dir are ./
    run(command, place, tmp_path, server)
    assert_finished(tmp_path)
    assert_seq2seq_loads(tmp_path)
