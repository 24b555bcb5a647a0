"""Ten thousand volumes at any distance, on virtual time: ``python -m benchmarks.simulated --help``.

The engine beside the simplest model of its work: how much longer it takes than the model (virtual seconds, exact), what it costs for each volume (real
processor time), and how much memory (which must not grow with their number). No network, no disk; ``far`` is the model and one run of it.
"""
