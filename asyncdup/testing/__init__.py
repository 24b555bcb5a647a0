"""Public test doubles: a virtual clock, backends that fail and lag, and the conformance suite."""
