"""Benchmarks of the bridge; each module is one command."""
