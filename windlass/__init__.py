"""Windlass: contracts, errors and settings at the bottom; the command line and the local platform on top.

Importing this package imports nothing else: `windlass --help` must stay instant, and a model server must not
pay for a trainer's dependencies.
"""

__version__ = "0.1.0"
