"""Discrete events on SimPy.  Today: cores and tiles in time; memory comes with the caches."""
