"""How requests wait, run together, are shed and are answered in time."""
