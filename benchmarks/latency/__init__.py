"""Far away, at the speed of the link: who needs how many times the physical limit? ``python -m benchmarks.latency --help``.

``cells`` says what is measured and what the limit of a link is, ``contenders`` how each program is called, ``copiers`` are the small programs around
libraries, ``store`` the servers at the far end, ``runner`` starts one program and counts what it used, ``session`` takes the contenders in turns and
looks at what has arrived, ``goals`` is what asyncdup is built to, ``report`` the table and the JSON, ``plot`` the pictures.
"""
