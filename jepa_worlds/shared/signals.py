"""Stopping when asked to, at a point where the state can be saved."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any


class Stop:
    """While entered, Ctrl-C and SIGTERM only set ``requested``; the loop inside saves and then leaves.

    A second Ctrl-C interrupts at once. What is ignored stays ignored. Outside the main thread, where Python handles no
    signals, this does nothing.
    """

    def __init__(self) -> None:
        self.requested: int = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def leave_if_requested(self, message: str) -> None:
        """End the program the way the signal would have, with a message.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with the usual status of 143.
        """
        if self.requested == signal.SIGINT:
            raise KeyboardInterrupt(message)
        if self.requested:
            sys.stderr.write(f"\n{message}\n")
            raise SystemExit(128 + self.requested)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = number
