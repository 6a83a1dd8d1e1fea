"""Discrete events on SimPy: cores and their tiles, shared caches, memory and barriers in time."""
