"""Backups in duplicity's own format, with all transfers in the background."""

__version__ = "0.1.0"
