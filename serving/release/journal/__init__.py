"""What releases leave behind and find again: journals, their evidence, replays, and letters to a platform."""
