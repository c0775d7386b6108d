"""One run at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from pathlib import Path

logger = logging.getLogger(__name__)

LOCK = ".run.lock"

# Per folder: this process's open file, and how often it is held. A process that closes any descriptor of a locked file
# loses the lock, so there is one.
_held: dict[Path, tuple[int, int]] = {}
os.register_at_fork(after_in_child=_held.clear)  # a forked child does not have the lock


class RunLock:
    """Holds a run's output folder for this process, as a context manager; the same process may hold it several times.

    A POSIX record lock: the system drops it when the process ends, however that happens, so it cannot be stale, and
    processes that were forked off do not keep it. It also holds between hosts that share the folder over NFS.

    Args:
        folder: The output folder; created if missing.
        active: `False` for a process that does not write there, which then takes no lock.

    Raises:
        ValueError: On entering: the folder cannot be written to, or another process holds it.
    """

    def __init__(self, folder: str | os.PathLike, active: bool = True):
        self.folder = Path(folder).absolute()
        self.active = active

    def __enter__(self) -> RunLock:
        if not self.active:
            return self
        if self.folder in _held:
            descriptor, times = _held[self.folder]
        else:
            descriptor, times = self._acquire(), 0
        _held[self.folder] = descriptor, times + 1
        return self

    def __exit__(self, *_) -> None:
        if not self.active:
            return
        descriptor, times = _held.pop(self.folder)
        if times > 1:
            _held[self.folder] = descriptor, times - 1
        else:
            os.close(descriptor)

    def hold(self) -> None:
        """Holds the folder until this process ends; raises as entering does."""
        self.__enter__()

    def _acquire(self) -> int:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ValueError(
                f"The output folder {str(self.folder)!r} cannot be written to ({error.strerror}). Choose another "
                "output_dir, or change its permissions."
            ) from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                holder = os.read(descriptor, 1000).decode(errors="replace")
                os.close(descriptor)
                raise ValueError(
                    f"Another run writes to {str(self.folder)!r}{_described(holder)}. Wait for it, stop it, or choose "
                    "another output_dir."
                ) from None
            logger.warning("%s does not support file locks: a second run there would not be noticed.", self.folder)
            return descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        except OSError as error:  # no space left: better said now than at the first checkpoint
            os.close(descriptor)
            raise ValueError(
                f"The output folder {str(self.folder)!r} cannot be written to ({error.strerror})."
            ) from error
        return descriptor


def _described(holder: str) -> str:
    try:
        known = json.loads(holder)
        return f": process {known['pid']} on {known['host']}"
    except (ValueError, KeyError, TypeError):
        return ""
