"""Which files a process opens outside the folders that it may read.

An audit hook sees what Python opens, in this process and its forks. C libraries (libsndfile, FFmpeg, Arrow) open files
without it, and so do started programs: `Canaries` has the kernel report every opening of a file in the outside folder.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["Canaries", "OpenedFiles", "system_folders"]

# What the interpreter and the libraries read of the system.
SYSTEM_FILES = (
    *("/dev/null", "/dev/urandom", "/dev/random", "/dev/tty", "/dev/shm"),
    *("/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/filesystems", "/proc/mounts", "/proc/loadavg"),
    *("/proc/self/status", "/proc/self/stat", "/proc/self/statm", "/proc/self/maps", "/proc/self/cgroup"),
    *("/proc/self/mountinfo", "/proc/self/fd", "/proc/self/task", "/proc/version", "/proc/sys", "/proc/net/dev"),
    *("/etc/passwd", "/etc/nsswitch.conf", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/ld.so.cache"),
    *("/etc/os-release", "/etc/hosts", "/etc/resolv.conf", "/etc/host.conf", "/etc/ssl", "/etc/debian_version"),
    *("/usr/lib", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo", "/usr/share/fonts", "/sys"),
)


def system_folders() -> list[str]:
    """Return the interpreter's folders, the import path and what libraries read of the system."""
    own = {sys.prefix, sys.base_prefix, sys.exec_prefix, *(entry for entry in sys.path if entry)}
    return [*(os.path.realpath(entry) for entry in own), *SYSTEM_FILES]


class OpenedFiles:
    """Records files opened outside the allowed folders, from `start` on. It can't be undone in this process."""

    def __init__(self, allowed: Sequence[str | Path]) -> None:
        self._allowed = tuple(os.path.realpath(folder) for folder in allowed) + SYSTEM_FILES
        self._seen: set[str] = set()
        self.outside: set[str] = set()

    def start(self) -> None:
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(args[0], (str, bytes)):  # a descriptor was opened before
            return
        name = os.path.abspath(os.fsdecode(args[0]))  # noqa: PTH100 - no Path objects in a hook
        if name in self._seen:
            return
        self._seen.add(name)
        own = f"/proc/{os.getpid()}"
        name = "/proc/self" + name[len(own) :] if name.startswith(own) else name
        places = (name, os.path.realpath(name)) if not name.startswith("/proc/self") else (name,)
        if not all(self._is_allowed(place) for place in places):
            self.outside.add(name)

    def _is_allowed(self, name: str) -> bool:
        return any(name == folder or name.startswith(folder + os.sep) for folder in self._allowed)


class Canaries:
    """Has the kernel watch a folder (Linux's inotify): which of its files were opened by any process."""

    _OPENED, _IS_FOLDER, _NON_BLOCKING = 0x20, 0x40000000, 0o4000

    def __init__(self, folder: Path) -> None:
        self._folders: dict[int, Path] = {}
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(self._NON_BLOCKING)
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            watched = libc.inotify_add_watch(self._descriptor, os.fsencode(path), self._OPENED)
            if watched >= 0:
                self._folders[watched] = path

    def opened(self) -> set[str]:
        """Return the files that were opened since the start."""
        try:
            data = os.read(self._descriptor, 1 << 20)
        except OSError:  # nothing to read, or no inotify here
            return set()
        names = set()
        offset = 0
        while offset < len(data):
            watched, mask, _, size = struct.unpack_from("iIII", data, offset)
            name = data[offset + 16 : offset + 16 + size].rstrip(b"\0")
            offset += 16 + size
            if not mask & self._IS_FOLDER and watched in self._folders and name:
                names.add(str(self._folders[watched] / os.fsdecode(name)))
        return names
