"""Public test doubles: a virtual clock, backends that fail and lag, and the conformance suite."""

from asyncdup.testing.clock import VirtualLoop
from asyncdup.testing.conformance import CHECKS, Check, ConformanceError, Report, check_backend
from asyncdup.testing.faulty import FaultyBackend
from asyncdup.testing.slow import SlowBackend

__all__ = ["CHECKS", "Check", "ConformanceError", "FaultyBackend", "Report", "SlowBackend", "VirtualLoop", "check_backend"]
