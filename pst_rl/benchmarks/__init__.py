"""Benchmarks: what is asked, how an answer is read, and what peers make of it, alone and together."""
