from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from standins.corpora import write_audio

import speechtune.audio.probe as headers
from speechtune.audio.probe import Probe, Task, probe, probe_all


def test_processes_give_the_same_answers_in_the_same_order(tmp_path, monkeypatch):
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
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(crashing), *sys.path]))
    monkeypatch.setattr(headers, "SERIAL_BELOW", 2)
    monkeypatch.setattr(headers, "CHUNK", 3)
    paths = [good, bad, good, good, good, good, bad, bad, good]
    answers = list(probe_all([Task(str(path)) for path in paths], max_workers=2))
    assert [answer.reason for answer in answers] == ["undecodable" if path == bad else "" for path in paths]
    assert answers[1].detail == "the audio reader crashed on this file"


SCRIPT = """
import sys
import speechtune.audio.probe as headers
headers.SERIAL_BELOW = 2
print(len(list(headers.probe_all([headers.Task(sys.argv[1])] * 9, max_workers=2))))
"""


def test_script_without_a_main_guard_reads_headers_in_processes(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    write_audio(tmp_path / "a.wav", "bir", 8_000)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "a.wav")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "9\n"


def test_processes_end_with_a_killed_parent(tmp_path):
    write_audio(tmp_path / "a.wav", "bir", 8_000)
    script = SCRIPT.replace("[headers.Task(sys.argv[1])] * 9", "endless()").replace(
        "print", "def endless():\n    while True: yield headers.Task(sys.argv[1])\nprint"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a.wav")])
    children = wait_for(lambda: children_of(parent.pid) if len(children_of(parent.pid)) >= 2 else [])
    time.sleep(1.0)
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_for(what, seconds: float = 20.0):
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_presence_is_checked_even_where_the_duration_is_known(tmp_path):
    assert probe(Task(str(tmp_path / "no.wav"), 3.0)).reason == "missing_file"


def test_folder_is_not_audio(tmp_path):
    found = probe(Task(str(tmp_path)))
    assert found == Probe(reason="not_a_file", detail=f"{tmp_path}: is a folder, device or pipe, not a file.")


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/version", "/dev/zero", "/sys/kernel/mm/ksm/run"])
def test_files_of_the_system_are_never_opened(path, tmp_path):
    link = tmp_path / "a.wav"
    link.symlink_to(path)
    assert probe(Task(path)).reason == probe(Task(str(link))).reason == "not_a_file"


@pytest.mark.parametrize(
    ("duration_s", "num_bytes", "plausible"),
    [
        (10.0, 320_044, True),  # 16 kHz, 16 bits
        (10.0, 8_000, True),  # Opus of 6 kbit/s
        (2.0, 115_200_044, False),  # an hour
        (36_000.0, 320_044, False),
        (math.nan, 1_000, False),
        (-2.0, 1_000, False),
        (0.0, 1_000, False),
        (math.inf, 1_000, False),
        (2.0, -1, False),
    ],
)
def test_duration_of_a_table_is_believed_if_it_fits_the_size(duration_s, num_bytes, plausible):
    assert headers.is_plausible(duration_s, num_bytes) is plausible


def test_nothing_is_started_for_a_small_corpus(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(headers, "_pool", lambda workers: pytest.fail("a process was started"))
    write_audio(tmp_path / "a.wav", "bir", 8_000)
    (answer,) = probe_all([Task(str(tmp_path / "a.wav"))])
    assert answer.duration_s == pytest.approx(0.6)
