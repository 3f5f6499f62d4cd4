"""Who hears of an alert: Alertmanager's configuration, for people to fill in and for drills to hurry."""

from monitoring.alertmanager.configuration import configuration, read

__all__ = ["configuration", "read"]
