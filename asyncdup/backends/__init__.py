"""Where bytes rest: one file a protocol, each against the interface in ``base``."""
