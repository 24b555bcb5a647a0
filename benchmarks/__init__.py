"""Benchmarks: whole programs beside their competitors, in one session. Nothing in here is a test."""
