"""The unplug test: the network goes away in the middle of a backup and comes back; who goes on? ``python -m benchmarks.unplug --help``.

``server`` is OpenSSH's sshd at the far end of the lab's link, ``programs`` knows how each contender is called, ``outage`` makes one run with or without
a cut and watches the link, ``report`` is the table.
"""
