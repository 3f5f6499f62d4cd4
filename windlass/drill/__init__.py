"""Drills: a fault is injected into real processes, and the documented alert, end state and runbook are checked."""
