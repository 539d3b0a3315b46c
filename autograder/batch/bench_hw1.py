"""Benchmarks of homework 1."""
