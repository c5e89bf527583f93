"""The decoded-audio cache: what was stored comes back from any process; what was cut, lost or refused is missing."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from speechtune.audio import cache_files as audio_cache_files
from speechtune.audio.cache import AudioCache
from speechtune.audio.cache_files import (
    RECORD,
    audio_cache_folder,
    audio_cache_folders,
    audio_cache_usage,
    clear_audio_cache,
    segment_sizes,
)
from speechtune.audio.samples import dequantise, quantise

RATE = 16000
WRITER = """
import sys
import numpy as np
from speechtune.audio.cache import AudioCache

folder, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cache = AudioCache(folder, 16000, min_free_bytes=0)
print("ready", flush=True)
for number in range(first, last):
    generator = np.random.default_rng(number)
    pcm = generator.integers(-32768, 32768, generator.integers(1, 30_000)).astype(np.int16)
    assert cache.put(f"clip {number}", pcm)
"""


def clip(number: int) -> np.ndarray:
    """The clip that WRITER stores under "clip {number}"."""
    generator = np.random.default_rng(number)
    return generator.integers(-32768, 32768, generator.integers(1, 30_000)).astype(np.int16)


def new_audio_cache(folder: Path, **settings) -> AudioCache:
    return AudioCache(folder, RATE, **{"min_free_bytes": 0, "refresh_s": 0.0, **settings})


def start_writer(folder: Path, first: int, last: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(last)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
    return process


def sole_file(folder: Path, suffix: str) -> Path:
    (path,) = folder.glob(f"*.{suffix}")
    return path


# --- storing and reading ----------------------------------------------------------------------------------------------


def test_what_was_stored_comes_back_here_and_in_a_new_audio_cache(tmp_path):
    cache = new_audio_cache(tmp_path)
    samples = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    assert cache.get("a") is None
    assert cache.put("a", samples)
    assert cache.put("b", quantise(samples)[::2])
    for reader in (cache, new_audio_cache(tmp_path)):
        np.testing.assert_array_equal(reader.get("a"), quantise(samples))
        np.testing.assert_array_equal(reader.get("b"), quantise(samples)[::2])
        assert reader.get("c") is None
        assert len(reader) == 2


def test_a_clip_that_is_there_is_not_stored_again(tmp_path):
    cache = new_audio_cache(tmp_path)
    assert cache.put("a", clip(1)) and cache.put("a", clip(1))
    assert sole_file(tmp_path, "pcm").stat().st_size == clip(1).nbytes


def test_the_sampling_rate_is_part_of_the_key(tmp_path):
    new_audio_cache(tmp_path).put("a", clip(1))
    assert AudioCache(tmp_path, 8000).get("a") is None


def test_any_text_is_a_key(tmp_path):
    cache = new_audio_cache(tmp_path)
    keys = ["", "a" * 10_000, "ğü\n\0", "\udcff", "0f" * 16, "0F" * 16]
    for number, key in enumerate(keys):
        assert cache.put(key, clip(number))
    for number, key in enumerate(keys):
        np.testing.assert_array_equal(cache.get(key), clip(number))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_audio_that_is_not_finite_is_never_stored(tmp_path, bad):
    cache = new_audio_cache(tmp_path)
    assert not cache.put("a", np.array([0.1, bad, 0.2], np.float32))
    assert not cache.put("empty", np.zeros(0, np.float32))
    assert cache.get("a") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["with space", "ğüş हिन्दी", "new\nline", "[a]*?"])
def test_any_folder_name_works(tmp_path, name):
    folder = audio_cache_folder(tmp_path / name, RATE)
    assert new_audio_cache(folder).put("a", clip(1))
    np.testing.assert_array_equal(new_audio_cache(folder).get("a"), clip(1))
    assert audio_cache_usage(folder)[0] == 1
    clear_audio_cache(folder)
    assert audio_cache_usage(folder) == (0, 0.0)


# --- several processes ------------------------------------------------------------------------------------------------


def test_two_processes_write_at_once_and_a_third_reads_all(tmp_path):
    writers = [start_writer(tmp_path, 0, 150), start_writer(tmp_path, 100, 250)]
    reader = new_audio_cache(tmp_path)
    while any(writer.poll() is None for writer in writers):
        number = random.randrange(250)
        pcm = reader.get(f"clip {number}")
        assert pcm is None or np.array_equal(pcm, clip(number))
    assert [writer.wait() for writer in writers] == [0, 0]
    for number in range(250):
        np.testing.assert_array_equal(reader.get(f"clip {number}"), clip(number))
    assert audio_cache_usage(tmp_path)[0] == 250 and len(segment_sizes(tmp_path)) == 2


def test_kill_at_random_moments_loses_nothing_that_was_recorded_and_yields_nothing_else(tmp_path):
    rng = random.Random(0)
    stored = 0
    for round_number in range(10):
        first = round_number * 100_000
        writer = start_writer(tmp_path, first, first + 100_000)
        time.sleep(rng.uniform(0.0, 0.08))
        writer.kill()
        assert writer.wait() == -9
        reader = new_audio_cache(tmp_path)
        found = 0
        while (pcm := reader.get(f"clip {first + found}")) is not None:
            np.testing.assert_array_equal(pcm, clip(first + found))
            found += 1
        assert reader.get(f"clip {first + found + 1}") is None, "clips are stored in order"
        stored += found
        assert len(reader) == stored, "no record is lost, none is made up"
    assert stored > 0


def _put_in_child(cache: AudioCache, number: int) -> None:
    pcm = cache.get("of the parent")
    assert pcm is not None and len(pcm) == len(clip(0))
    assert cache.put(f"clip {number}", clip(number))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_have_their_own_segments(tmp_path, method):
    cache = new_audio_cache(tmp_path)
    cache.put("of the parent", clip(0))
    context = multiprocessing.get_context(method)
    children = [context.Process(target=_put_in_child, args=(cache, number)) for number in (1, 2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert cache.put("after", clip(3))
    for number, key in enumerate(["of the parent", "clip 1", "clip 2", "after"]):
        np.testing.assert_array_equal(new_audio_cache(tmp_path).get(key), clip(number))
        np.testing.assert_array_equal(cache.get(key), clip(number))
    assert len(segment_sizes(tmp_path)) == 3


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_while_another_thread_holds_the_lock_doesnt_hang(tmp_path):
    cache = new_audio_cache(tmp_path)
    cache.put("of the parent", clip(0))
    with cache._lock:
        child = multiprocessing.get_context("fork").Process(target=_put_in_child, args=(cache, 1))
        child.start()
        child.join(timeout=20)
    assert child.exitcode == 0


def test_threads_share_an_audio_cache(tmp_path):
    cache = new_audio_cache(tmp_path)

    def work(first: int) -> None:
        for number in range(first, first + 40):
            assert cache.put(f"clip {number}", clip(number))
            np.testing.assert_array_equal(cache.get(f"clip {number}"), clip(number))

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert audio_cache_usage(tmp_path)[0] == 80


def test_only_the_settings_travel(tmp_path):
    cache = new_audio_cache(tmp_path, max_bytes=10**6)
    for number in range(100):
        cache.put(f"clip {number}", clip(number)[:100])
    data = pickle.dumps(cache)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert (copy.max_bytes, copy.min_free_bytes, copy.sampling_rate) == (10**6, 0, RATE)
    np.testing.assert_array_equal(copy.get("clip 7"), clip(7)[:100])


def test_others_clips_are_looked_for_at_most_once_a_while(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr("speechtune.audio.cache.segment_sizes", lambda folder: looks.append(folder) or {})
    cache = new_audio_cache(tmp_path, refresh_s=3600.0)
    for number in range(50):
        cache.get(f"clip {number}")
        cache.put(f"clip {number}", clip(number))
    assert len(looks) == 1


def test_many_segments_need_few_descriptors(tmp_path):
    for number in range(80):
        new_audio_cache(tmp_path).put(f"clip {number}", clip(number)[:50])
    before = len(list(Path("/proc/self/fd").iterdir()))
    reader = new_audio_cache(tmp_path)
    for number in (*range(80), *range(80)):
        np.testing.assert_array_equal(reader.get(f"clip {number}"), clip(number)[:50])
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 64
    del reader
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- torn and damaged files -------------------------------------------------------------------------------------------


def small_audio_cache(folder: Path) -> list[np.ndarray]:
    """Three short clips in one segment."""
    clips = [np.arange(start, start + 5, dtype=np.int16) for start in (1, 100, 1000)]
    cache = new_audio_cache(folder)
    for number, pcm in enumerate(clips):
        cache.put(f"clip {number}", pcm)
    return clips


def test_cut_at_every_byte_leaves_whole_clips_or_none(tmp_path):
    clips = small_audio_cache(tmp_path)
    for suffix, clip_bytes in (("idx", RECORD.itemsize), ("pcm", 10)):
        path = sole_file(tmp_path, suffix)
        whole = path.read_bytes()
        for cut in range(len(whole), -1, -1):
            path.write_bytes(whole[:cut])
            reader = new_audio_cache(tmp_path)
            for number, pcm in enumerate(clips):
                read = reader.get(f"clip {number}")
                if cut >= (number + 1) * clip_bytes:
                    np.testing.assert_array_equal(read, pcm)
                else:
                    assert read is None, (suffix, cut, number)
        path.write_bytes(whole)


def test_one_flipped_byte_never_gives_other_samples(tmp_path):
    clips = small_audio_cache(tmp_path)
    for suffix in ("idx", "pcm"):
        path = sole_file(tmp_path, suffix)
        whole = path.read_bytes()
        for position in range(len(whole)):
            damaged = bytearray(whole)
            damaged[position] ^= 0x10
            path.write_bytes(damaged)
            reader = new_audio_cache(tmp_path)
            reads = [reader.get(f"clip {number}") for number in range(3)]
            lost = position // (len(whole) // 3)
            for number, (read, pcm) in enumerate(zip(reads, clips, strict=True)):
                assert (read is None) if number == lost else np.array_equal(read, pcm)
        path.write_bytes(whole)


def test_zeros_and_rubbish_after_the_records_are_passed_over(tmp_path):
    clips = small_audio_cache(tmp_path)
    with sole_file(tmp_path, "idx").open("ab") as file:  # as a power cut may leave them
        file.write(bytes(400) + random.Random(0).randbytes(777))
    reader = new_audio_cache(tmp_path)
    assert len(reader) == 0
    for number, pcm in enumerate(clips):
        np.testing.assert_array_equal(reader.get(f"clip {number}"), pcm)
    assert len(reader) == 3


def test_a_damaged_clip_is_stored_again(tmp_path):
    clips = small_audio_cache(tmp_path)
    sole_file(tmp_path, "pcm").write_bytes(b"\x55" * 30)
    cache = new_audio_cache(tmp_path)
    assert cache.get("clip 1") is None
    assert cache.put("clip 1", clips[1])
    np.testing.assert_array_equal(cache.get("clip 1"), clips[1])
    np.testing.assert_array_equal(new_audio_cache(tmp_path).get("clip 1"), clips[1])


def test_samples_are_compared_with_their_checksum_once_a_process(tmp_path, monkeypatch):
    small_audio_cache(tmp_path)
    counted = []
    reader = new_audio_cache(tmp_path)
    checksum = audio_cache_files.zlib.crc32
    monkeypatch.setattr("speechtune.audio.cache.zlib.crc32", lambda data: counted.append(1) or checksum(data))
    for _ in range(5):
        assert reader.get("clip 1") is not None
    assert len(counted) == 1


def test_files_of_others_are_left_alone(tmp_path):
    small_audio_cache(tmp_path)
    (tmp_path / "notes.idx").write_bytes(b"mine")
    (tmp_path / "sub-0123456789abcdef.pcm").mkdir()
    assert audio_cache_usage(tmp_path)[0] == 3
    clear_audio_cache(tmp_path)
    assert (tmp_path / "notes.idx").read_bytes() == b"mine"


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_cap_counts_all_segments_and_turns_storing_off(tmp_path):
    first, second = (new_audio_cache(tmp_path, max_bytes=20_000) for _ in range(2))
    pcm = np.ones(1000, np.int16)
    results = [cache.put(f"{number} {cache is first}", pcm) for number in range(10) for cache in (first, second)]
    assert results.count(True) == 9  # of 2040 bytes each
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000
    assert first.get("0 True") is not None
    assert not first.put("new", pcm)
    clear_audio_cache(tmp_path)
    assert first.put("new", pcm)


def test_the_disks_reserve_turns_storing_off(tmp_path):
    cache = new_audio_cache(tmp_path, min_free_bytes=1 << 60)
    assert not cache.put("a", clip(1))
    assert list(tmp_path.iterdir()) == []
    assert new_audio_cache(tmp_path, min_free_bytes=None)._measure_spare_bytes() < os.statvfs(tmp_path).f_bavail * 4096


@pytest.mark.parametrize("written_before", [0, 1, 7, 10, 11, 30, 41])
def test_full_disk_in_the_middle_of_a_clip_or_record_is_only_a_false(tmp_path, monkeypatch, written_before):
    cache = new_audio_cache(tmp_path)
    assert cache.put("before", clip(1)[:5])
    really_write, left = os.write, [written_before]

    def write(descriptor: int, data: memoryview) -> int:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: left[0]]
        left[0] -= len(part)
        return really_write(descriptor, part)

    monkeypatch.setattr(os, "write", write)
    assert not cache.put("lost", clip(2)[:5])
    monkeypatch.undo()
    assert not cache.put("soon after", clip(3)[:5]), "not tried again at once"
    cache._refuse_until_s = 0.0
    assert cache.put("after", clip(4)[:5])
    for reader in (cache, new_audio_cache(tmp_path)):
        np.testing.assert_array_equal(reader.get("before"), clip(1)[:5])
        np.testing.assert_array_equal(reader.get("after"), clip(4)[:5])
        assert reader.get("lost") is None
    num_bytes = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert num_bytes == 2 * (10 + RECORD.itemsize), "what was half written was removed"


def test_a_real_limit_on_the_size_of_files_is_survived(tmp_path):
    script = WRITER.replace("import sys\n", "import resource, signal, sys\n", 1).replace(
        'assert cache.put(f"clip {number}", pcm)', 'cache.put(f"clip {number}", pcm)'
    )
    limit = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (200_001, 200_001))\n"
    )
    script = script.replace("\nfolder,", f"\n{limit}folder,", 1)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), "0", "60"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reader = new_audio_cache(tmp_path)
    found = [number for number in range(60) if reader.get(f"clip {number}") is not None]
    assert found == list(range(len(found))) and len(found) >= 3
    for number in found:
        np.testing.assert_array_equal(reader.get(f"clip {number}"), clip(number))


def test_a_folder_that_cant_be_made_is_only_a_false(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache = new_audio_cache(tmp_path / "file" / "cache")
    assert cache.get("a") is None
    assert not cache.put("a", clip(1))


def test_ctrl_c_in_the_middle_of_a_clip_leaves_the_next_ones_right(tmp_path, monkeypatch):
    cache = new_audio_cache(tmp_path)
    cache.put("before", clip(1))
    really_write = os.write

    def write(descriptor: int, data: memoryview) -> int:
        really_write(descriptor, data[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(KeyboardInterrupt):
        cache.put("interrupted", clip(2))
    monkeypatch.undo()
    assert cache.put("after", clip(3))
    for number, key in ((1, "before"), (3, "after")):
        np.testing.assert_array_equal(new_audio_cache(tmp_path).get(key), clip(number))


# --- the cache command ------------------------------------------------------------------------------------------------


def test_an_audio_cache_that_is_dropped_closes_its_files(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(5):
        cache = new_audio_cache(tmp_path)
        cache.put(f"clip {number}", clip(number))
        cache.get("clip 0")
    del cache
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_audio_cache_that_lives_until_the_interpreter_ends_says_nothing(tmp_path):
    work = (
        "import ctypes, os, sys, numpy\n"
        "from speechtune.audio import cache_files as audio_cache_files\nfrom speechtune.audio.cache import AudioCache\n"
        "os.kept = AudioCache(sys.argv[1], 16000, min_free_bytes=0)\n"
        # Modules that outlive the interpreter's clean-up lose their names, the cache's own before those of `os`.
        "[ctypes.pythonapi.Py_IncRef(ctypes.py_object(module)) for module in (audio_cache_files, os)]\n"
        "assert os.kept.put('clip', numpy.ones(100, numpy.int16))"
    )
    done = subprocess.run([sys.executable, "-c", work, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_usage_and_clearing(tmp_path):
    folder = audio_cache_folder(tmp_path, RATE)
    assert audio_cache_usage(folder) == (0, 0.0) and audio_cache_folders(tmp_path) == []
    cache = new_audio_cache(folder)
    cache.put("a", np.ones(16000, np.int16))
    cache.put("b", np.ones(8000, np.int16))
    assert audio_cache_folders(tmp_path) == [folder]
    assert audio_cache_usage(folder) == (2, 1.5)
    clear_audio_cache(folder)
    assert audio_cache_folders(tmp_path) == []


def test_a_process_whose_audio_cache_is_cleared_continues_in_a_new_segment(tmp_path):
    cache = new_audio_cache(tmp_path)
    cache.put("a", clip(1))
    assert cache.get("a") is not None
    clear_audio_cache(tmp_path)
    cache._refresh()
    assert cache.get("a") is None
    assert cache.put("a", clip(1))
    np.testing.assert_array_equal(new_audio_cache(tmp_path).get("a"), clip(1))


def test_reading_is_20_000_times_real_time(tmp_path):
    cache = new_audio_cache(tmp_path)
    pcm = np.random.default_rng(0).integers(-3000, 3000, 5 * RATE).astype(np.int16)
    for number in range(100):
        cache.put(str(number), pcm)
    cache = new_audio_cache(tmp_path)
    cache._refresh()
    fastest_s = min(_seconds_to_read(cache) for _ in range(5))
    assert 5 * 100 / fastest_s > 20_000


def _seconds_to_read(cache: AudioCache) -> float:
    started = time.process_time()
    for number in range(100):
        dequantise(cache.get(str(number)))
    return time.process_time() - started
