"""What the operator puts on objects and reads there, beside status."""

from __future__ import annotations

#: Holds a live Release until its model's traffic is with the champion.
FINALIZER = "windlass.dev/traffic"
#: On a Release: a person's command, and who it is from.
COMMAND = "windlass.dev/command"
BY = "windlass.dev/by"
#: On a model's route (or InferenceService): the version that has the champion's place.
CHAMPION = "windlass.dev/champion"
