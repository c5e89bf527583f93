"""The facts of a model card, read from the folder of a trained model."""

from __future__ import annotations

import re
from pathlib import Path

from speechtune.corpora import all_layouts
from speechtune.files import read_json
from speechtune.reporting.run_folder import read_run
from speechtune.reporting.values import last_name
from speechtune.text.languages import find_language, language_of

__all__ = ["CardFacts", "is_hub_name"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


class CardFacts:
    """What a card states.

    Args:
        folder: of the trained model.
        repo_id: name on the hub, or None.
    """

    def __init__(self, folder: Path, repo_id: str | None) -> None:
        self.run = read_run(folder)
        settings = self.settings = self.run.settings
        self.name = (repo_id or folder.resolve().name).rpartition("/")[2]
        # These are in code blocks, where nothing can be escaped.
        self.id = _in_code(repo_id or folder.resolve().name)
        self.adapters = [_in_code(path.name.split(".")[1]) for path in sorted(folder.glob("adapter.*.safetensors"))]
        config = read_json(folder / "config.json")
        self.model_type = str(config.get("model_type") or "")
        self.is_ctc = any("CTC" in str(name) for name in config.get("architectures") or ())
        self.from_scratch = any(name.startswith("model_config") for name in settings)
        self.lora_base = ""  # of low-rank updates: what they are added to
        if (folder / "adapter_config.json").is_file():
            self.lora_base = str(read_json(folder / "adapter_config.json").get("base_model_name_or_path") or "")
            self.lora_base = _in_code(self.lora_base if is_hub_name(self.lora_base) else last_name(self.lora_base))
        base = str(settings.get("model_name_or_path") or self.run.results.get("model") or "")
        self.base_model = base if is_hub_name(base) else None
        name = str(settings.get("dataset_name") or "")
        self.dataset = str(self.run.results.get("dataset") or last_name(name))
        self.dataset_id, self.licence = _dataset_on_hub(name, self.dataset)
        spoken = settings.get("corpus.language") or language_of(
            settings.get("dataset_config_name"), settings.get("target_language") or settings.get("language")
        )
        codes = [language_of(None, adapter) for adapter in self.adapters] or [str(spoken) if spoken else None]
        self.languages = [code for code in dict.fromkeys(codes) if code]

    @property
    def language_names(self) -> str:
        found = [(find_language(code), code) for code in self.languages]
        return " and ".join(language.name if language else code for language, code in found)


def is_hub_name(name: str) -> bool:
    """Return True for a name on the hub, False for a local folder."""
    return _HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def _dataset_on_hub(dataset_name: str, corpus: str) -> tuple[str | None, str]:
    """Return the name on the hub or None, and the licence where the corpus is a known one."""
    for name in (dataset_name, corpus.partition("/")[0]):
        layout = next((row for row in all_layouts() if row.searched and name and row.names.fullmatch(name)), None)
        if layout is not None:
            return layout.hub_name or name, layout.licence
    return (dataset_name if is_hub_name(dataset_name) else None), ""


def _in_code(text: str) -> str:
    return re.sub(r"[^\w./-]", "_", text)
