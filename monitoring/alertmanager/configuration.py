"""`alertmanager.yml` as it is shipped, and the same with the addresses of one machine.

The file is kept by hand, since people fill it in; a drill or a test that runs a real Alertmanager changes where the
retrain trigger is and how long anything waits, and nothing else.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

TRIGGER = "retrain-trigger"


def read() -> dict[str, Any]:
    """The configuration as it is shipped."""
    text = resources.files("monitoring.alertmanager").joinpath("alertmanager.yml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def configuration(webhook: str, token_file: Path, *, wait: str = "1s", repeat: str = "10s") -> dict[str, Any]:
    """The shipped configuration for a trigger at `webhook`, in a hurry.

    Args:
        webhook: address of the trigger's endpoint, `http://127.0.0.1:8080/alertmanager`.
        token_file: holds the bearer token that the trigger expects.
        wait: how long a group is collected, and when it may change.
        repeat: when what still fires is told again.
    """
    content = read()
    for route in (content["route"], *content["route"]["routes"]):
        route.update(group_wait=wait, group_interval=wait, repeat_interval=repeat)
    (trigger,) = (receiver for receiver in content["receivers"] if receiver["name"] == TRIGGER)
    (hook,) = trigger["webhook_configs"]
    hook["url"] = webhook
    hook["http_config"]["authorization"]["credentials_file"] = str(token_file)
    return content
