"""Compare systems on the same utterances: which is better, by how much, where, and whether it may be chance.

Each system is compared with the first. Utterances are matched by id; scores must be computed in the same way, while
what belongs to a system (precision, beams, padding) may differ and is noted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechtune.errors import OptionError, OutputError
from speechtune.evaluation.comparison import Comparison, Pair, System
from speechtune.evaluation.confidence import FEW_SPEAKERS
from speechtune.evaluation.evaluate import Evaluation
from speechtune.evaluation.metrics.cer import character_edits
from speechtune.evaluation.metrics.wer import word_edits
from speechtune.evaluation.pairs import compare_pairs
from speechtune.files import read_json, read_jsonl
from speechtune.types import Hypothesis

__all__ = ["Scored", "compare_evaluations", "find_evaluation", "short_names"]

SCORING = ("name", "normalizer", "filters")  # of a protocol: equal, or figures are not comparable
FEW_SEGMENTS = 50  # below, MAPSSWE's normal approximation is poor


@dataclass(frozen=True)
class Scored:
    """An evaluation with hypotheses, the name to show, and the folder it was read from."""

    name: str
    evaluation: Evaluation
    folder: str = ""

    @property
    def protocol(self) -> Mapping[str, Any]:
        return self.evaluation.results.get("protocol") or {}


def find_evaluation(path: Path) -> Scored | None:
    """Return the evaluation in a folder, or the one that a file of results or hypotheses belongs to.

    A folder without hypotheses of its own may hold one `evaluation-*` folder, as `speechtune evaluate` makes it.

    Raises:
        OutputError: a file can't be read, or a folder holds several evaluations and none of its own.
    """
    if path.is_file() and path.suffix == ".jsonl" and not path.name.startswith("hypotheses"):
        return Scored(str(path), Evaluation(_rows(path)), str(path.parent))
    for prefix, ending in (("hypotheses", ".jsonl"), ("eval_results", ".json")):
        if path.name.startswith(prefix) and path.suffix == ending and path.is_file():
            return _with_rows(str(path), path.parent, path.stem.removeprefix(prefix))
    if (path / "hypotheses.jsonl").is_file():
        return _with_rows(str(path), path)
    inner = sorted(path.glob("evaluation-*/hypotheses.jsonl"))
    if len(inner) > 1:
        names = "\n".join(f"  {file.parent}" for file in inner)
        raise OutputError(f"{path}: it holds several evaluations. Name one of them:\n{names}")
    return _with_rows(str(path), inner[0].parent) if inner else None


def _with_rows(name: str, folder: Path, suffix: str = "") -> Scored:
    rows = _rows(folder / f"hypotheses{suffix}.jsonl")
    results = read_json(folder / f"eval_results{suffix}.json")
    return Scored(name, Evaluation(rows, results=results, suffix=suffix), str(folder))


def _rows(path: Path) -> list[Hypothesis]:
    """Read hypotheses, ours or another tool's: then only id, reference and hypothesis are needed.

    Raises:
        OutputError: it has none, or a row lacks one of them.
    """
    rows, needed = [], ("id", "reference", "hypothesis")
    for number, row in enumerate(read_jsonl(path), 1):
        if not all(isinstance(row.get(name), str) for name in needed):
            raise OutputError(f"{path}, object {number}: id, reference and hypothesis are needed, as strings.")
        if "words" not in row or "characters" not in row:
            texts = row["reference"], row["hypothesis"]
            counts = {"words": asdict(word_edits(*texts)), "characters": asdict(character_edits(*texts))}
            row = {name: row[name] for name in (*needed, "duration_s", "speaker") if name in row} | counts
        rows.append(Hypothesis.from_json(row))
    if not rows:
        raise OutputError(f"{path}: it holds no utterance.")
    return rows


def short_names(names: Sequence[str]) -> list[str]:
    """Return the last part of each path or hub name, and parts before it as far as they tell the names apart.

    `evaluation-CORPUS-SPLIT` of a model's folder counts only where the models are the same.
    """
    inner = "evaluation-"
    models = [str(Path(name).parent) if Path(name).name.startswith(inner) else name for name in names]
    parts = [Path(name).parts for name in (models if len(set(models)) == len(models) else names)]
    for count in range(1, max(map(len, parts)) + 1):
        short = ["/".join(part[-count:]) for part in parts]
        if len(set(short)) == len(short):
            return short
    return [f"{Path(name).name} ({place})" for place, name in enumerate(names, 1)]


def compare_evaluations(systems: Sequence[Scored]) -> Comparison:
    """Compare each system with the first, on the utterances that all have.

    Args:
        systems: two or more, with different names.

    Raises:
        OptionError: their scores are computed differently, they are of different texts, or share no utterance.
    """
    first = systems[0]
    for other in systems[1:]:
        _check_protocols(first, other)
    rows = _common_rows(systems)
    pairs = compare_pairs(rows, [system.name for system in systems])
    return Comparison(
        systems=[_system(system, own) for system, own in zip(systems, rows, strict=True)],
        pairs=pairs,
        num_utterances=len(rows[0]),
        num_words=sum(row.words.reference_length for row in rows[0]),
        dataset=str(first.evaluation.results.get("dataset") or ""),
        split=str(first.evaluation.results.get("split") or ""),
        protocol=first.protocol,
        notes=_notes(systems, rows, pairs),
    )


def _check_protocols(first: Scored, other: Scored) -> None:
    one, two = first.protocol, other.protocol
    unlike = [key for key in SCORING if one.get(key) != two.get(key)] if one and two else []
    if unlike:
        lines = "\n".join(
            f"  {key}\n    {first.name}: {one.get(key)}\n    {other.name}: {two.get(key)}" for key in unlike
        )
        raise OptionError(
            f"{first.name} and {other.name} can't be compared: their scores are computed differently.\n{lines}\n"
            "Evaluate one of them again with the text options of the other: --normaliser, --protocol, "
            "--chars_to_ignore, --do_lower_case, --spell_numbers, --language."
        )


def _common_rows(systems: Sequence[Scored]) -> list[list[Hypothesis]]:
    """Return each system's rows of the utterances that all have, in the order of the first."""
    tables = [{row.id: row for row in system.evaluation.hypotheses} for system in systems]
    for system, table in zip(systems, tables, strict=True):
        if len(table) < len(system.evaluation.hypotheses):
            raise OptionError(f"{system.name}: several utterances have the same id, so they can't be matched.")
    common = [id for id in tables[0] if all(id in table for table in tables)]
    if not common:
        examples = "\n".join(f"  {one.name}: {next(iter(table))}" for one, table in zip(systems, tables, strict=True))
        raise OptionError(
            f"No utterance is in all evaluations. Utterances are matched by id, such as\n{examples}\n"
            "Evaluate all systems on the same corpus and split."
        )
    for system, table in zip(systems[1:], tables[1:], strict=True):
        unlike = [id for id in common if table[id].reference != tables[0][id].reference]
        if unlike:
            raise OptionError(
                f"{systems[0].name} and {system.name} have different references for {len(unlike):,} of {len(common):,} "
                f"utterances, such as {unlike[0]}:\n"
                f"  {tables[0][unlike[0]].reference}\n  {table[unlike[0]].reference}\n"
                "Evaluate both on the same corpus and split, with the same text options."
            )
    return [[table[id] for id in common] for table in tables]


def _system(system: Scored, rows: Sequence[Hypothesis]) -> System:
    return System(
        name=system.name,
        model=str(system.evaluation.results.get("model") or ""),
        folder=system.folder,
        scores=Evaluation(list(rows)).scores(),
        num_missing=len(system.evaluation.hypotheses) - len(rows),
        num_empty=sum(bool(row.reference.strip()) and not row.hypothesis.strip() for row in rows),
    )


def _notes(systems: Sequence[Scored], rows: Sequence[Sequence[Hypothesis]], pairs: Sequence[Pair]) -> list[str]:
    notes = []
    for system in systems:
        if missing := len(system.evaluation.hypotheses) - len(rows[0]):
            notes.append(
                f"{system.name}: {missing:,} of its utterances are not in all evaluations; they are not compared."
            )
        if not system.protocol:
            notes.append(f"{system.name}: how its scores are computed is not recorded; it must be as for the others.")
    speakers = len({row.speaker for row in rows[0] if row.speaker is not None})
    if 0 < speakers < FEW_SPEAKERS:
        notes.append(
            f"Of {speakers} speaker{'s' * (speakers > 1)} only, so utterances are resampled, not speakers: this "
            "holds for their speech, not for that of others."
        )
    for other in systems[1:]:
        for key, a, b in _unlike(systems[0].protocol, other.protocol):
            notes.append(f"The {key.replace('_', ' ')} of {systems[0].name} is {a}, that of {other.name} {b}.")
    if any(0 < pair.mapsswe.segments < FEW_SEGMENTS for pair in pairs):
        notes.append(f"MAPSSWE is for {FEW_SEGMENTS} segments with errors or more; with fewer it is an indication.")
    return notes


def _unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return what systems may do differently, where both say how: (name, in A, in B)."""
    flat_a, flat_b = ({"padding": p.get("padding"), **(p.get("decoding") or {})} for p in (a, b))
    return [(key, flat_a[key], flat_b[key]) for key in sorted(set(flat_a) & set(flat_b)) if flat_a[key] != flat_b[key]]
