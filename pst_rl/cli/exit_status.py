"""What the exit status of a command says, the same for every subcommand and for the examples (docs/commands.md)."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Iterator

DONE = 0
REFUSED = 2
"""What was asked for cannot be parsed, found or used. Nothing was begun that has to be cleaned up."""
NUMERIC_FAULT = 70
"""Training was stopped because a peer's loss, gradient or reward was not finite, again and again (EX_SOFTWARE)."""
NOT_WRITTEN = 74
"""What was to be written could not be: the disk is full or broken (EX_IOERR)."""
INTERRUPTED = 130
"""Ctrl-C (128 + SIGINT)."""
OUTPUT_CLOSED = 141
"""Whoever read the output stopped reading, as `| head` does (128 + SIGPIPE)."""
TERMINATED = 143
"""SIGTERM (128 + SIGTERM)."""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


class Terminated(BaseException):
    """SIGTERM arrived. Like `KeyboardInterrupt` it is no `Exception`, so that nothing handles it by mistake."""


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated` in this process, so that a line can say how to go on.

    It ends the process as ever in forked children, outside the main thread, and in one of several processes of a run:
    there it may wait for the others inside a library, where Python runs no handler.
    """
    if threading.current_thread() is not threading.main_thread() or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield
        return
    process = os.getpid()

    def handle(signum, frame):
        if os.getpid() != process:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def status_of(error: OSError | ValueError) -> int:
    """`NOT_WRITTEN` for a full or broken disk, else `REFUSED`."""
    return NOT_WRITTEN if isinstance(error, OSError) and error.errno in _DISK else REFUSED
