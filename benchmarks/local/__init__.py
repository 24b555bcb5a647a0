"""Local work (CPU, memory, bytes stored) beside stock duplicity: ``python -m benchmarks.local --help``.

``trees`` makes the sources, ``programs`` knows how each program is called, ``cases`` what is measured, ``measure`` runs one process,
``session`` lets the programs take turns, ``compare`` looks at what was restored, ``report`` and ``machine`` say what came out where.
"""
