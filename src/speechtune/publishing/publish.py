"""A trained folder to the hub: what could refuse is asked before training, the upload happens once, at its end.

    check_push     token, name, right to write; makes the repository             before the first step
    publish_run    model card; upload, or how to do it later                     after the last one
    push           the upload alone: `speechtune push FOLDER`

What goes up is what a user of the model needs: weights, adapters, tokenizer, configuration, card, scores. Transcripts,
hypotheses and the report stay here, since a corpus' text is not ours to publish; so do checkpoints, optimiser states,
settings and logs, which name folders of this machine.

Rejected: Trainer's own push (it uploads whatever lies in the folder, and meets a wrong token after the training).
"""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from speechtune.errors import PublishError
from speechtune.options.table import Options
from speechtune.publishing.hub import Repository, UnreachableError
from speechtune.reporting.model_card import is_generated, write_model_card
from speechtune.reporting.model_card_text import last_name

__all__ = ["check_push", "publish_run", "push", "uploaded_files"]

log = logging.getLogger("speechtune")

WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")
UPLOADED = (
    *WEIGHTS,
    "adapter.*.safetensors",
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "normalizer.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model", "chat_template.jinja"),
    *("README.md", "LICENSE*", "eval_results*.json", "train_results.json"),
)
PATH_FIELDS = {"_name_or_path", "name_or_path", "model", "tokenizer_file", "vocab_file", "special_tokens_map_file"}


def check_push(options: Options) -> str | None:
    """See to it that the upload at the end can succeed. To be called before training, by the first process.

    Returns:
        Name of the repository, which is there now; None, after a warning, where there is no token or no way to the
        hub: training goes on, and nothing is lost but the upload.

    Raises:
        PublishError: the token is wrong or may not write there, or the name can't be one.
    """
    assert options.output_dir is not None
    asked = options.training
    if str(asked.get("hub_strategy", "end")) not in ("end", "HubStrategy.END"):
        log.info(f"--hub_strategy {asked['hub_strategy']}: the upload happens once, at the end")
    try:
        return Repository(
            options.output_dir,
            hub_model_id=asked.get("hub_model_id"),
            private=asked.get("hub_private_repo"),
            token=asked.get("hub_token") or options.config.token,
            revision=asked.get("hub_revision"),
        ).make()
    except UnreachableError as error:
        log.warning(
            f"--push_to_hub: {error}\nTraining goes on without the upload; afterwards: {_command(options.output_dir)}"
        )
        return None


def publish_run(options: Options, repo_id: str | None) -> None:
    """Write the model card, and upload the folder if that was asked for.

    Args:
        repo_id: what `check_push` gave back.

    Raises:
        PublishError: the upload failed; the model lies here all the same.
    """
    folder = options.output_dir
    assert folder is not None
    write_model_card(folder, repo_id=repo_id)
    asked = options.training
    if not asked.get("push_to_hub"):
        return
    if repo_id is None:
        log.warning(f"not uploaded to the hub; to do it: {_command(folder)}")
        return
    url = push(
        folder,
        hub_model_id=repo_id,
        hub_private_repo=asked.get("hub_private_repo"),
        hub_token=asked.get("hub_token") or options.config.token,
        hub_revision=asked.get("hub_revision"),
    )
    log.info(f"uploaded: {url}")


def push(
    output_dir: str | Path,
    *,
    hub_model_id: str | None = None,
    hub_private_repo: bool | None = None,
    hub_token: str | None = None,
    hub_revision: str | None = None,
) -> str:
    """Upload a trained folder, with its card.

    Args:
        output_dir: where the model lies.
        hub_model_id: name on the hub; without it the one that the training was given, else the folder's.
        hub_private_repo: for a repository that is made now; without it as the training was told.
        hub_token: without it that of `hf auth login` or HF_TOKEN.
        hub_revision: branch; without it the main one.

    Returns:
        Address of the repository.

    Raises:
        PublishError: no model lies there, or the hub can't be reached or refuses.
    """
    folder = Path(output_dir).expanduser()
    if not (folder / "config.json").is_file() or not any(fnmatch(name, WEIGHTS[0]) for name in uploaded_files(folder)):
        raise PublishError(
            f"{folder}: no trained model lies here (config.json, model.safetensors).\n"
            "Give the --output_dir of a training that came to its end."
        )
    told = _settings(folder)
    try:
        repository = Repository(
            folder,
            hub_model_id=hub_model_id or told.get("hub_model_id"),
            private=hub_private_repo or told.get("hub_private_repo"),
            token=hub_token,
            revision=hub_revision or told.get("hub_revision"),
        )
        write_model_card(folder, repo_id=repository.make())
        with _staged(folder, without=_kept_there(repository, folder)) as staged:
            return repository.upload(staged)
    except PublishError as error:
        again = f"The model is whole in {folder}; to try again: {_command(folder)}"
        raise PublishError(f"Not uploaded: {error}\n{again}") from error


def uploaded_files(folder: Path) -> list[str]:
    """Names of the files that go to the hub, sorted."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name for path in folder.iterdir() if path.is_file() and any(fnmatch(path.name, p) for p in UPLOADED)
    )


def _kept_there(repository: Repository, folder: Path) -> set[str]:
    """A card that somebody edited on the hub stays, unless there is one of theirs here too."""
    here, there = folder / "README.md", repository.card()
    if there is None or is_generated(there) or not here.is_file():
        return set()
    if not is_generated(here.read_text("utf-8", errors="replace")):
        return set()
    log.info(f"{repository.url}: its README.md was written there and stays; remove it there to have ours")
    return {here.name}


@contextmanager
def _staged(folder: Path, *, without: set[str]) -> Iterator[Path]:
    """A folder of links to exactly the files that go up; where one names a local path, a copy without it."""
    with tempfile.TemporaryDirectory(prefix="speechtune-push-") as name:
        staged = Path(name)
        for file in uploaded_files(folder):
            if file in without:
                continue
            clean = _without_paths(folder / file) if file.endswith(".json") else None
            if clean is not None:
                (staged / file).write_text(clean, encoding="utf-8")
                continue
            try:
                (staged / file).symlink_to((folder / file).resolve())
            except OSError:  # a system without links
                shutil.copyfile(folder / file, staged / file)
        yield staged


def _without_paths(path: Path) -> str | None:
    """A JSON file's text with the last name of each local path that its fields hold; None where there is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n" if _strip_paths(content) else None


def _strip_paths(content: Any) -> bool:
    """Change `content` in place; True if there was something to change."""
    changed = False
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(value, (dict, list)):
            changed |= _strip_paths(value)
        elif key in PATH_FIELDS and isinstance(value, str) and last_name(value) != value:
            content[key] = last_name(value)
            changed = True
    return changed


def _settings(folder: Path) -> dict[str, Any]:
    """Options that the training in this folder was given."""
    try:
        options = json.loads((folder / "settings.json").read_text("utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return options if isinstance(options, dict) else {}


def _command(folder: Path) -> str:
    return f"speechtune push {shlex.quote(str(folder))}"
