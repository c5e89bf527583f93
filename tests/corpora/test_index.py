from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from standins.corpora import write_audio

import speechtune.audio.probe as headers
from speechtune.corpora import open_corpus
from speechtune.errors import CorpusError


def write_manifest(folder: Path, number: int = 4) -> Path:
    lines = ["audio,text"]
    for index in range(number):
        write_audio(folder / "clips" / f"{index}.wav", f"text {index}", 8_000)
        lines.append(f"clips/{index}.wav,text {index}")
    (folder / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def index_files() -> list[Path]:
    return sorted(Path(os.environ["SPEECHTUNE_CACHE"]).glob("index/*/index.json"))


def forbid_headers(monkeypatch):
    def probe(task):
        raise AssertionError(f"looked at {task.audio}")

    monkeypatch.setattr(headers, "probe", probe)


def test_second_start_looks_at_no_clip(tmp_path, monkeypatch):
    write_manifest(tmp_path)
    first = open_corpus(str(tmp_path)).read("train")
    forbid_headers(monkeypatch)
    second = open_corpus(str(tmp_path)).read("train")
    assert [second[i] for i in range(4)] == [first[i] for i in range(4)]


def test_changed_table_is_indexed_again(tmp_path):
    write_manifest(tmp_path)
    assert len(open_corpus(str(tmp_path)).read("train")) == 4
    with (tmp_path / "train.csv").open("a") as file:
        file.write("clips/0.wav,once more\n")
    assert open_corpus(str(tmp_path)).read("train").texts[-1] == "once more"


def test_removed_and_added_clips_are_noticed(tmp_path):
    write_manifest(tmp_path)
    open_corpus(str(tmp_path)).read("train")
    data = (tmp_path / "clips/1.wav").read_bytes()
    (tmp_path / "clips/1.wav").unlink()
    assert len(open_corpus(str(tmp_path)).read("train")) == 3
    (tmp_path / "clips/1.wav").write_bytes(data)
    assert len(open_corpus(str(tmp_path)).read("train")) == 4


def test_overwrite_cache_looks_again(tmp_path, monkeypatch):
    write_manifest(tmp_path)
    open_corpus(str(tmp_path)).read("train")
    time.sleep(0.02)  # file times are coarse
    again = open_corpus(str(tmp_path), overwrite_cache=True)
    assert len(again.read("train")) == 4
    forbid_headers(monkeypatch)
    assert len(again.read("train")) == 4  # built after the corpus was opened: once a run is enough


def test_unreadable_clips_are_left_out_with_a_reason_and_kept_with_the_index(tmp_path):
    write_manifest(tmp_path)
    (tmp_path / "clips/0.wav").unlink()
    (tmp_path / "clips/1.wav").write_bytes(b"")
    (tmp_path / "clips/2.wav").write_bytes(b"not audio at all, whatever the name says")
    for _ in range(2):
        table = open_corpus(str(tmp_path)).read("train")
        assert table.texts == ["text 3"]
        assert [(row.id, row.reason) for row in table.skipped] == [
            ("clips/0", "missing_file"),
            ("clips/1", "undecodable"),
            ("clips/2", "undecodable"),
        ]
        assert table.skipped[0].file == str(tmp_path / "clips/0.wav")
        assert table.skipped[0].split == "train"


def test_corpus_without_a_readable_clip_is_an_error_that_names_the_first(tmp_path):
    write_manifest(tmp_path, 2)
    for clip in (tmp_path / "clips").iterdir():
        clip.unlink()
    with pytest.raises(CorpusError) as error:
        open_corpus(str(tmp_path)).read("train")
    assert "none of its 2 utterances can be used" in str(error.value)
    assert f"First: {tmp_path}/clips/0.wav: missing_file" in str(error.value)


def test_known_duration_spares_the_header_but_not_the_presence(tmp_path):
    write_audio(tmp_path / "a.wav", "bir", 8_000)
    (tmp_path / "train.csv").write_text("audio,text,duration\na.wav,bir,12.5\nb.wav,iki,3\n", encoding="utf-8")
    table = open_corpus(str(tmp_path)).read("train")
    assert table.durations_s.tolist() == [12.5]
    assert table.skipped[0].reason == "missing_file"


@pytest.mark.parametrize("nonsense", ["-1", "nan", "inf", "1e30", "soon", "0"])
def test_duration_that_makes_no_sense_is_read_from_the_header(tmp_path, nonsense):
    write_audio(tmp_path / "a.wav", "bir", 8_000)
    (tmp_path / "train.csv").write_text(f"audio,text,duration\na.wav,bir,{nonsense}\n", encoding="utf-8")
    assert open_corpus(str(tmp_path)).read("train").durations_s.tolist() == [pytest.approx(0.6)]


def test_torn_index_is_built_again(tmp_path):
    write_manifest(tmp_path)
    open_corpus(str(tmp_path)).read("train")
    (index,) = index_files()
    table = index.parent / json.loads(index.read_text())["table"]
    for damage in (b"", table.read_bytes()[:50]):
        from speechtune.audio.packed import open_arrow

        open_arrow.cache_clear()
        table.unlink()
        table.write_bytes(damage)
        assert len(open_corpus(str(tmp_path)).read("train")) == 4
    index.write_text("{")
    assert len(open_corpus(str(tmp_path)).read("train")) == 4


def test_left_behind_files_of_a_killed_run_are_removed(tmp_path):
    write_manifest(tmp_path)
    open_corpus(str(tmp_path)).read("train")
    (index,) = index_files()
    (index.parent / "tmp-1-abc").write_text("half")
    time.sleep(0.02)
    open_corpus(str(tmp_path), overwrite_cache=True).read("train")
    assert not list(index.parent.glob("tmp-*"))


def test_unwritable_cache_says_what_to_do(tmp_path, monkeypatch):
    write_manifest(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPEECHTUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(CorpusError, match=r"can't be written[\s\S]*--cache_dir or \$SPEECHTUNE_CACHE"):
        open_corpus(str(tmp_path)).read("train")


INDEX = """
import sys
import speechtune.audio.probe as headers
headers.SERIAL_BELOW = 50
from speechtune.corpora import open_corpus
table = open_corpus(sys.argv[1]).read("train")
print(len(table), float(table.durations_s.sum()))
"""


def run_index(folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", INDEX, str(folder)], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    write_audio(tmp_path / "clips" / "0.wav", "bir", 8_000)
    lines = ["audio,text"]
    for index in range(600):
        if index:
            os.link(tmp_path / "clips/0.wav", tmp_path / f"clips/{index}.wav")
        lines.append(f"clips/{index}.wav,bir")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_kill_at_any_moment_leaves_the_old_index_or_none(many):
    for delay_s in (0.35, 0.5, 0.7):
        process = run_index(many)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    table = open_corpus(str(many)).read("train")
    assert len(table) == 600
    assert float(table.durations_s.sum()) == pytest.approx(360.0, abs=0.01)


def test_processes_at_once_share_one_index(many):
    processes = [run_index(many) for _ in range(2)]
    answers = {process.communicate()[0] for process in processes}
    assert len(answers) == 1
    assert answers.pop().startswith("600 ")
    assert [process.returncode for process in processes] == [0, 0]
    (index,) = index_files()
    assert len(list(index.parent.glob("table-*.arrow"))) == 1
