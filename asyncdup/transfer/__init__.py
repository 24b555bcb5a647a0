"""The engine: when bytes move. Knows backends by their interface and nothing of backups or formats."""
