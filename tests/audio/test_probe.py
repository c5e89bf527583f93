from __future__ import annotations

import math
from pathlib import Path

import pytest
from standins.corpora import write_audio

import speechtune.audio.probe as headers
from speechtune.audio.probe import Probe, Task, probe, probe_all


def test_children_give_the_same_answers_in_the_same_order(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "SERIAL_BELOW", 10)
    monkeypatch.setattr(headers, "CHUNK", 7)
    tasks = []
    for number in range(40):
        path = tmp_path / f"ü {number}.wav"
        write_audio(path, "x" * (number % 5 * 10), 8_000)
        tasks.append(Task(str(path)))
    tasks[13] = Task(str(tmp_path / "nothing.wav"))
    tasks[14] = Task(str(tmp_path / "half \udcff surrogate.wav"))
    tasks[15] = Task("nul \x00.wav")
    tasks[16] = Task(str(tmp_path))
    assert repr(list(probe_all(iter(tasks), max_workers=2))) == repr([probe(task) for task in tasks])


def test_reader_that_crashes_costs_only_its_file(tmp_path, monkeypatch):
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    for path in (good, bad):
        write_audio(path, "bir", 8_000)
    crashing = tmp_path / "site"
    crashing.mkdir()
    (crashing / "sitecustomize.py").write_text(
        "import os, speechtune.audio.decode as audio\n"
        "read = audio.read_header\n"
        "audio.read_header = lambda path, **k: os._exit(139) if 'bad' in str(path) else read(path, **k)\n"
    )
    monkeypatch.syspath_prepend(str(crashing))
    monkeypatch.setattr(headers, "SERIAL_BELOW", 2)
    tasks = [Task(str(path)) for path in (good, bad, good)]
    answers = list(probe_all(iter(tasks), max_workers=2))
    assert [answer.reason for answer in answers] == ["", "undecodable", ""]
    assert answers[1].detail == "the audio reader crashed on this file"


def test_presence_is_checked_even_where_the_duration_is_known(tmp_path):
    assert probe(Task(str(tmp_path / "no.wav"), 3.0)).reason == "missing_file"


def test_folder_is_no_audio(tmp_path):
    assert probe(Task(str(tmp_path))) == Probe(reason="undecodable", detail="not a file")


@pytest.mark.parametrize("duration_s", [math.nan, -2.0, math.inf, 1e9])
def test_implausible_duration_counts_as_unknown(duration_s):
    assert math.isnan(headers.task_of("a.wav", duration_s).duration_s)


def test_nothing_is_started_for_a_small_corpus(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(headers, "_start_child", lambda: pytest.fail("a child was started"))
    write_audio(tmp_path / "a.wav", "bir", 8_000)
    (answer,) = probe_all([Task(str(tmp_path / "a.wav"))])
    assert answer.duration_s == pytest.approx(0.6)
