"""TensorBoard: event files below the run's folder, no account and no server.

Written with TensorBoard's own writer, as PyTorch's SummaryWriter does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from adem_bench.loggers.base import LoggedRun

FOLDER = "tensorboard"


class TensorBoard:
    """Scalars as events."""

    def __init__(self, run: LoggedRun) -> None:
        """Start another event file; what earlier ones hold of steps to come is not shown."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(run.folder / FOLDER))
        if run.steps_done:
            start = SessionLog(status=SessionLog.START)
            again = Event(wall_time=time.time(), step=run.steps_done + 1, session_log=start)
            self._writer.add_event(again)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add an event."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._writer.add_event(event)

    def close(self) -> None:
        """Write what is held."""
        self._writer.close()
