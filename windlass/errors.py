"""The exception tree. Every message names the object, the value and the remedy.

The command line maps a `UsageError` to exit code 2 and any other `WindlassError` to exit code 1.
"""


class WindlassError(Exception):
    """Something failed although it was asked for correctly; exit code 1."""

    exit_code = 1


class UsageError(WindlassError):
    """What was asked for cannot be meant (unknown name, reversed dates, a broken file); exit code 2."""

    exit_code = 2


class DataError(UsageError):
    """The data given does not fulfil the workload's contract."""


class AlreadyRunningError(WindlassError):
    """A second instance was started where only one may run."""


class PortInUseError(WindlassError):
    """An address that we must listen on is taken."""
