"""Vectors to groups, and groups to names."""
