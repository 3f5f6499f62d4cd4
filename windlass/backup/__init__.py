"""Backup and restore of a home: registry, bundles, keys, journals, features, events, in one file that checks itself."""
