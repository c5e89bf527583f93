"""Publish a trained folder on the hub: checked before training, uploaded once, at its end.

    check_push     token, name, right to write; creates the repository           before the first step
    publish_run    model card; upload, or the command that uploads later         after the last one
    push           the upload alone: `speechtune push FOLDER`

Uploaded is what a user of the model needs: weights, adapters, tokenizer, configuration, card, scores. Transcripts,
hypotheses and the report are not, since a corpus' text is not ours to publish; nor are checkpoints, optimiser states,
settings and logs, which name local folders.

Rejected: Trainer's own push (it uploads everything in the folder, and finds a wrong token after the training).
"""

from __future__ import annotations

import json
import logging
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from speechtune.errors import PublishError
from speechtune.files import read_json
from speechtune.publishing.hub import Repository, UnreachableError
from speechtune.reporting.model_card import is_generated, write_model_card
from speechtune.reporting.values import last_name

__all__ = ["check_push", "publish_run", "push", "uploaded_files"]

log = logging.getLogger("speechtune")

WEIGHTS = ("model*.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
UPLOADED = (
    *WEIGHTS,
    "adapter.*.safetensors",
    *(
        "config.json",
        "adapter_config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
    ),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "normalizer.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model", "chat_template.jinja"),
    *("lm.arpa", "lm.arpa.gz", "lm.json"),
    *("README.md", "LICENSE*", "eval_results*.json", "train_results.json", "all_results.json"),
)
PATH_FIELDS = {
    *("_name_or_path", "name_or_path", "base_model_name_or_path", "model"),
    *("tokenizer_file", "vocab_file", "special_tokens_map_file"),
}


def check_push(
    output_dir: Path,
    *,
    hub_model_id: str | None = None,
    hub_private_repo: bool | None = None,
    hub_token: str | None = None,
    hub_revision: str | None = None,
    hub_strategy: str = "end",
) -> str | None:
    """Create the repository and check that the upload can succeed; by the first process, before training.

    Returns:
        Name of the repository; None, after a warning, without a token or a connection to the hub: training continues,
        and nothing is lost but the upload.

    Raises:
        PublishError: the token is wrong or may not write there, or the name is not allowed.
    """
    if hub_strategy != "end":
        log.info(f"--hub_strategy {hub_strategy}: the upload happens once, at the end")
    try:
        return Repository(
            output_dir, hub_model_id=hub_model_id, private=hub_private_repo, token=hub_token, revision=hub_revision
        ).create()
    except UnreachableError as error:
        log.warning(
            f"--push_to_hub: {error}\nTraining continues without the upload; afterwards: {_command(output_dir)}"
        )
        return None


def publish_run(output_dir: Path, repo_id: str | None, *, push_to_hub: bool = False, **hub: Any) -> None:
    """Write the model card, and with `push_to_hub` upload the folder.

    Args:
        repo_id: as returned by `check_push`.
        hub: the other options of `push`.

    Raises:
        PublishError: the upload failed; the model is in the folder all the same.
    """
    write_model_card(output_dir, repo_id=repo_id)
    if push_to_hub and repo_id is None:
        log.warning(f"not uploaded to the hub; to do it: {_command(output_dir)}")
    elif push_to_hub:
        log.info(f"uploaded: {push(output_dir, hub_model_id=repo_id, **hub)}")


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
        output_dir: of the training.
        hub_model_id: name on the hub; without it the one that the training was given, else the folder's.
        hub_private_repo: for a new repository; without it as the training was given.
        hub_token: without it that of `hf auth login` or HF_TOKEN.
        hub_revision: branch; without it the main one.

    Returns:
        Address of the repository.

    Raises:
        PublishError: there is no model, or the hub can't be reached or refuses.
    """
    folder = Path(output_dir).expanduser()
    if not (folder / "config.json").is_file() or not any(
        fnmatch(name, "*model*.safetensors") for name in uploaded_files(folder)
    ):
        raise PublishError(
            f"{folder}: no trained model here (config.json, model.safetensors).\n"
            "Give the --output_dir of a training that was completed."
        )
    given = read_json(folder / "settings.json").get("options", {})
    try:
        repository = Repository(
            folder,
            hub_model_id=hub_model_id or given.get("hub_model_id"),
            private=hub_private_repo or given.get("hub_private_repo"),
            token=hub_token,
            revision=hub_revision or given.get("hub_revision"),
        )
        write_model_card(folder, repo_id=repository.create())
        names = uploaded_files(folder)
        _warn_of_a_local_base(folder)
        if _keeps_its_card(repository, folder / "README.md"):
            names.remove("README.md")
        return repository.upload({name: _without_paths(folder / name) for name in names})
    except PublishError as error:
        again = f"The model is complete in {folder}; to try again: {_command(folder)}"
        raise PublishError(f"Not uploaded: {error}\n{again}") from error


def _warn_of_a_local_base(folder: Path) -> None:
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if base and Path(str(base)).is_dir():
        log.warning(
            f"{folder}: an adapter of {base}, a folder of this machine, so that nobody else can load it.\n"
            "`speechtune export` merges the two into a model that stands alone; push that."
        )


def uploaded_files(folder: Path) -> list[str]:
    """Return the names of the files that are uploaded, sorted."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name for path in folder.iterdir() if path.is_file() and any(fnmatch(path.name, p) for p in UPLOADED)
    )


def _keeps_its_card(repository: Repository, ours: Path) -> bool:
    """Return True for a card that was edited on the hub, unless the local one was edited too."""
    if not is_generated(ours.read_text("utf-8", errors="replace")):
        return False
    card = repository.card()
    if card is None or is_generated(card):
        return False
    log.info(f"{repository.url}: its README.md was edited there and is kept; remove it there to upload ours")
    return True


def _without_paths(path: Path) -> Path | bytes:
    """Return a file; of a JSON file that names local paths, the content with their last names only."""
    if path.suffix != ".json":
        return path
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        return path
    changed = _strip_paths(content)
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode() if changed else path


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


def _command(folder: Path) -> str:
    return f"speechtune push {shlex.quote(str(folder))}"
