"""`Comparison`: what `speechtune compare` found, as comparison.json holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from speechtune.errors import OutputError
from speechtune.evaluation.result_files import write_results
from speechtune.evaluation.significance import Difference, Mapsswe
from speechtune.files import read_json

__all__ = ["ChangedUtterance", "Comparison", "Pair", "SliceDifference", "System"]


@dataclass(frozen=True, slots=True)
class System:
    """One system, scored on the utterances that all of them have.

    Args:
        name: short and unlike the others': "whisper-base".
        model: that wrote the hypotheses; empty where it is not known.
        folder: of its evaluation.
        scores: "wer" and "cer" as in eval_results.json: rate, counts, 95 % interval.
        num_missing: utterances that it has and another system has not; they are not compared.
        num_empty: hypotheses without a word, of references with some.
    """

    name: str
    model: str
    folder: str
    scores: Mapping[str, Mapping[str, Any]]
    num_missing: int = 0
    num_empty: int = 0


@dataclass(frozen=True, slots=True)
class SliceDifference:
    """Word error rates of a group of utterances.

    Args:
        by, name: "length" and "4 to 6 s".
        words: in the references.
        rate_a, rate_b: of the two systems.
        difference: B minus A, its p-value corrected for the number of slices.
    """

    by: str
    name: str
    utterances: int
    words: int
    rate_a: float
    rate_b: float
    difference: Difference


@dataclass(frozen=True, slots=True)
class ChangedUtterance:
    """An utterance in which the systems make different numbers of word errors."""

    id: str
    reference: str
    hypothesis_a: str
    hypothesis_b: str
    errors_a: int
    errors_b: int
    duration_s: float = math.nan
    speaker: str | None = None
    file: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """B compared with A.

    Args:
        a, b: places of the two in `Comparison.systems`.
        sentence: what follows, for people.
        is_significant: the corrected p-value of the WER is below 0.05.
        differences: of "wer" and "cer", by the paired bootstrap.
        p_corrected: of the WER, by Holm's method where several systems are compared with A; else its p-value.
        mapsswe: the test of NIST's SCTK on word errors.
        num_needed: utterances or speakers (as `differences["wer"].unit`) that would probably show the difference.
        num_better, num_worse, num_equal: utterances with fewer, more, as many word errors of B.
        slices: by length, speaker, ...
        better, worse: utterances, the largest change first.
    """

    a: int
    b: int
    sentence: str
    is_significant: bool
    differences: Mapping[str, Difference]
    p_corrected: float
    mapsswe: Mapsswe
    num_needed: int | None
    num_better: int
    num_worse: int
    num_equal: int
    slices: list[SliceDifference] = field(default_factory=list)
    better: list[ChangedUtterance] = field(default_factory=list)
    worse: list[ChangedUtterance] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """Systems on the same utterances, each compared with the first.

    Args:
        systems: two or more.
        pairs: the first with each other one, in their order.
        num_utterances, num_words: that all systems have.
        dataset, split: as the first system's evaluation names them.
        protocol: of the first system: how scores are computed, which is the same for all.
        notes: what a reader has to know, one sentence each.
    """

    systems: list[System]
    pairs: list[Pair]
    num_utterances: int
    num_words: int
    dataset: str = ""
    split: str = ""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(pair.sentence for pair in self.pairs)

    def __repr__(self) -> str:
        return f"Comparison({' '.join(pair.sentence for pair in self.pairs)})"

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write comparison.json; numbers that are not finite become null."""
        write_results(path, self.as_json())

    @classmethod
    def read(cls, path: Path) -> Comparison:
        """Read what `write` wrote.

        Raises:
            OutputError: it is missing, or no comparison.
        """
        try:
            return cls.from_json(read_json(path))
        except (KeyError, TypeError) as error:
            raise OutputError(f"{path}: no comparison. Write it again: speechtune compare A B") from error

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Comparison:
        """Return the comparison of `as_json`, where null is nan again."""
        systems = [System(**row) for row in content["systems"]]
        pairs = [_pair(row) for row in content["pairs"]]
        return cls(**{**content, "systems": systems, "pairs": pairs})


def _pair(row: Mapping[str, Any]) -> Pair:
    return Pair(
        **{
            **_with_nan(row, "p_corrected"),
            "differences": {name: _difference(found) for name, found in row["differences"].items()},
            "mapsswe": Mapsswe(**row["mapsswe"]),
            "slices": [
                SliceDifference(
                    **{**_with_nan(part, "rate_a", "rate_b"), "difference": _difference(part["difference"])}
                )
                for part in row["slices"]
            ],
            **{name: [ChangedUtterance(**_with_nan(one, "duration_s")) for one in row[name]] for name in _CHANGED},
        }
    )


_CHANGED = ("better", "worse")


def _difference(row: Mapping[str, Any]) -> Difference:
    return Difference(**_with_nan(row, "difference", "low", "high", "p_value", "standard_error"))


def _with_nan(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {**row, **{name: math.nan for name in names if row[name] is None}}
