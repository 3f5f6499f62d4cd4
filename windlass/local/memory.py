"""Peak memory of this process and all its descendants, sampled."""

from __future__ import annotations

import threading


class PeakMemory:
    """Samples the summed resident memory of the process tree.

    Shared pages count once for each process that maps them, so the figure errs on the high side.
    """

    def __init__(self, interval: float = 1.0) -> None:
        self.peak_bytes = 0
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="peak-memory")
        self._thread.start()

    def _run(self) -> None:
        import psutil

        me = psutil.Process()
        while not self._stop.wait(self._interval):
            total = me.memory_info().rss
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.Error:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)

    def stop(self) -> float:
        """End sampling; returns the peak in MB (10^6 bytes)."""
        self._stop.set()
        self._thread.join()
        return self.peak_bytes / 1e6
