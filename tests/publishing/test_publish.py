"""The push: what could refuse is asked before training, only what belongs there goes up, nothing secret leaves."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standins import hub_server
from standins.hub_server import TOKEN, HubServer

from speechtune.errors import PublishError
from speechtune.publishing.publish import check_push, publish_run, push, uploaded_files
from speechtune.reporting.model_card import is_generated

# Of the hub's client, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:Use .content:DeprecationWarning", "ignore:Warnings while validating")

SECRET_FOLDER = "/home/somebody/secret project"
REPORT = [
    "hypotheses.jsonl",
    "skipped.jsonl",
    "report.html",
    "settings.json",
    "trainer_state.json",
    "training_args.bin",
    ".lock",
]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub for this process, and a token for it."""
    from huggingface_hub import constants

    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
    assert server.unknown == []


@pytest.fixture(autouse=True)
def _lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "speechtune")


def answer(monkeypatch: pytest.MonkeyPatch, methods: str, pattern: str, status: int, content: dict[str, Any]) -> None:
    """Let the server answer such requests so, before all its own routes."""
    row = (tuple(methods.split()), pattern, False, lambda request, *_: request.send_json(content, status=status))
    monkeypatch.setattr(hub_server, "ROUTES", [row, *hub_server.ROUTES])


def model_folder(folder: Path) -> Path:
    """What a training leaves, as far as an upload looks at it."""
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "adapter.tur.safetensors", *REPORT):
        (folder / name).write_bytes(b"{}" if name.endswith(".json") else name.encode())
    (folder / "config.json").write_text('{"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}')
    (folder / "vocab.json").write_text('{"tur": {"a": 0}}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"name_or_path": f"{SECRET_FOLDER}/tokenizer"}))
    (folder / "eval_results.json").write_text(json.dumps({"eval_wer": 0.5, "model": f"{SECRET_FOLDER}/base"}))
    (folder / "settings.json").write_text(json.dumps({"options": {"hub_token": TOKEN, "learning_rate": 1e-4}}))
    for name in ("checkpoint-2/model.safetensors", "checkpoint-2/optimizer.pt", "tmp-model/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"half")
    return folder


# ---- before training


def test_the_repository_is_made_under_the_tokens_user_and_the_folders_name(hub: HubServer, tmp_path: Path):
    assert check_push(tmp_path / "wav2vec2-tr") == "tester/wav2vec2-tr"
    assert hub.repositories["tester/wav2vec2-tr"].files == {}


@pytest.mark.parametrize(
    ("asked", "name"), [("mine", "tester/mine"), ("org/mine", "org/mine"), ("org/", "org/out"), (None, "tester/out")]
)
def test_a_name_may_come_with_or_without_its_namespace(hub: HubServer, tmp_path: Path, asked: str | None, name: str):
    assert check_push(tmp_path / "out", hub_model_id=asked) == name


def test_the_current_folder_gives_its_own_name(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert check_push(Path("./")) == "tester/here"


def test_a_private_repository_is_asked_for(hub: HubServer, tmp_path: Path):
    check_push(tmp_path / "out", hub_private_repo=True)
    assert hub.repositories["tester/out"].private


def test_the_second_run_finds_its_repository(hub: HubServer, tmp_path: Path):
    assert check_push(tmp_path / "out") == check_push(tmp_path / "out")


@pytest.mark.parametrize("name", ["a/b/c", "two words", "--", "x" * 97])
def test_a_name_that_the_hub_refuses_is_met_before_training_also_without_network(tmp_path: Path, name: str):
    with pytest.raises(PublishError, match="can't be a name on the hub") as caught:
        check_push(tmp_path / "out", hub_model_id=name)
    assert "--hub_model_id" in str(caught.value)


def test_a_folder_whose_name_is_none_on_the_hub_names_the_option_to_give(tmp_path: Path):
    with pytest.raises(PublishError, match=r"^--output_dir: 'my run'"):
        check_push(tmp_path / "my run")


def test_a_wrong_token_is_met_before_training_and_not_shown(hub: HubServer, tmp_path: Path):
    with pytest.raises(PublishError, match="does not know the token") as caught:
        check_push(tmp_path / "out", hub_token="hf_wrong")
    assert "hf_wrong" not in str(caught.value)


def test_a_token_that_can_only_read_is_met_before_training(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    user = {"name": "tester", "auth": {"type": "access_token", "accessToken": {"role": "read"}}}
    answer(monkeypatch, "GET", "/api/whoami-v2", 200, user)
    with pytest.raises(PublishError, match="can only read"):
        check_push(tmp_path / "out")


def test_a_namespace_where_one_may_not_write_is_met_before_training(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answer(monkeypatch, "POST", "/api/repos/create", 403, {"error": "You don't have the rights"})
    with pytest.raises(PublishError, match=r"other/out: the token may not write there: .*You don't have the rights"):
        check_push(tmp_path / "out", hub_model_id="other/out")


def test_a_repository_of_others_is_met_before_training(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    check_push(tmp_path / "out")
    answer(monkeypatch, "GET", "/api/models/tester/out/auth-check/write", 403, {"error": "use a write token"})
    with pytest.raises(PublishError, match=r"tester/out: the token may not write there: .*use a write token"):
        check_push(tmp_path / "out")


def test_who_may_write_but_not_make_repositories_continues(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    check_push(tmp_path / "out")
    answer(monkeypatch, "POST", "/api/repos/create", 403, {"error": "no"})
    assert check_push(tmp_path / "out", hub_model_id="tester/out") == "tester/out"


def test_a_public_repository_is_not_taken_for_the_private_one_asked_for(hub: HubServer, tmp_path: Path):
    check_push(tmp_path / "out")
    with pytest.raises(PublishError, match="exists already and is public"):
        check_push(tmp_path / "out", hub_private_repo=True)


def test_without_a_token_training_continues_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert check_push(tmp_path / "out") is None
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "no token" in record.message and record.message.endswith(f"speechtune push {tmp_path / 'out'}")


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_way_to_the_hub_training_continues_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, offline: bool
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    assert check_push(tmp_path / "out", hub_token=TOKEN) is None
    (record,) = caplog.records
    assert "can't be reached" in record.message and "Training continues" in record.message


def test_a_hub_that_is_down_does_not_stop_training(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answer(monkeypatch, "GET", "/api/whoami-v2", 503, {"error": "maintenance"})
    assert check_push(tmp_path / "out") is None


def test_strategies_of_several_uploads_are_said_to_be_one(
    hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    check_push(tmp_path / "out", hub_strategy="every_save")
    assert "--hub_strategy every_save: the upload happens once, at the end" in caplog.messages


# ---- the upload


def test_only_what_a_user_of_the_model_needs_goes_up(hub: HubServer, tmp_path: Path):
    folder = model_folder(tmp_path / "out")
    assert push(folder) == f"{hub.endpoint}/tester/out"
    expected = {"model.safetensors", "adapter.tur.safetensors", "config.json", "vocab.json", "tokenizer_config.json"}
    files = hub.repositories["tester/out"].files
    assert files.keys() == expected | {"eval_results.json", "README.md"}
    for name in ("model.safetensors", "config.json", "vocab.json", "README.md"):
        assert files[name] == (folder / name).read_bytes()


def test_nothing_that_goes_up_or_is_said_holds_the_token_or_a_local_folder(
    hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    push(model_folder(tmp_path / "out"))
    said = [*hub.repositories["tester/out"].files.values(), caplog.text.encode()]
    assert not any(TOKEN.encode() in text or SECRET_FOLDER.encode() in text for text in said)
    results = json.loads(hub.repositories["tester/out"].files["eval_results.json"])
    assert results == {"eval_wer": 0.5, "model": "base"}
    assert json.loads((tmp_path / "out" / "eval_results.json").read_text())["model"] == f"{SECRET_FOLDER}/base"


def test_the_end_of_training_writes_the_card_and_uploads(
    hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "out"
    repo_id = check_push(folder, hub_model_id="org/model", hub_private_repo=False)
    publish_run(model_folder(folder), repo_id, push_to_hub=True, hub_private_repo=False)
    assert b"org/model" in hub.repositories["org/model"].files["README.md"]
    assert f"uploaded: {hub.endpoint}/org/model" in caplog.messages


def test_the_end_of_a_training_that_could_not_reach_the_hub_says_how_to_push(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = model_folder(tmp_path / "with space")
    publish_run(folder, None, push_to_hub=True)
    assert caplog.messages == [f"not uploaded to the hub; to do it: speechtune push '{folder}'"]
    assert (folder / "README.md").is_file()


def test_without_push_the_card_is_written_and_nothing_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    publish_run(model_folder(tmp_path / "out"), None)
    assert is_generated((tmp_path / "out" / "README.md").read_text()) and caplog.messages == []


def test_a_refused_upload_leaves_the_model_and_says_what_to_do(hub: HubServer, tmp_path: Path):
    folder = model_folder(tmp_path / "out")
    hub.refuse_uploads = True
    with pytest.raises(PublishError, match="may not write there") as caught:
        push(folder)
    assert str(caught.value).endswith(f"The model is complete in {folder}; to try again: speechtune push {folder}")
    assert caught.value.exit_code == 2
    assert (folder / "model.safetensors").read_bytes() == b"model.safetensors"


def test_a_later_push_goes_where_the_training_was_told(hub: HubServer, tmp_path: Path):
    folder = model_folder(tmp_path / "out")
    (folder / "settings.json").write_text('{"options": {"hub_model_id": "org/told", "hub_private_repo": true}}')
    push(folder, hub_private_repo=False)  # as the command line says without the option
    assert hub.repositories["org/told"].private


def test_a_second_push_changes_what_changed(hub: HubServer, tmp_path: Path):
    folder = model_folder(tmp_path / "out")
    push(folder)
    (folder / "model.safetensors").write_bytes(b"better")
    push(folder)
    assert hub.repositories["tester/out"].files["model.safetensors"] == b"better"


def test_a_card_that_was_edited_on_the_hub_stays(hub: HubServer, tmp_path: Path):
    folder = model_folder(tmp_path / "out")
    push(folder)
    hub.repositories["tester/out"].files["README.md"] = b"---\nlicense: mit\n---\nMine.\n"
    push(folder)
    assert hub.repositories["tester/out"].files["README.md"].endswith(b"Mine.\n")
    (folder / "README.md").write_text("My own card.")
    push(folder)
    assert hub.repositories["tester/out"].files["README.md"] == b"My own card."


def test_a_branch_is_made_for_a_revision(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answer(monkeypatch, "POST", "/api/models/tester/out/branch/trial", 200, {})
    push(model_folder(tmp_path / "out"), hub_revision="trial")
    assert "POST /api/models/tester/out/commit/trial" in hub.requests


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_a_message(tmp_path: Path, missing: str):
    folder = model_folder(tmp_path / "out")
    (folder / missing).unlink()
    with pytest.raises(PublishError, match="no trained model here"):
        push(folder)


def test_sharded_weights_go_up_pickles_do_not(tmp_path: Path):
    names = ["model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    for name in (*names, "pytorch_model.bin", "optimizer.pt", ".README.md.1.tmp"):
        (tmp_path / name).touch()
    assert uploaded_files(tmp_path) == names
