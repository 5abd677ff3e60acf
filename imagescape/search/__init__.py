"""Vectors in, neighbours out: search indexes, experiments with them, and alterations to test them by."""
