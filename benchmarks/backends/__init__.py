"""Backends beside other clients of the same servers, in one session: ``python -m benchmarks.backends --help``.

``servers`` starts what is spoken to, ``contenders`` knows how each client puts and gets, ``worker`` measures one of them in a process of its
own, ``report`` says what came out.
"""
