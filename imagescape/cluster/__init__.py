"""Vectors to groups, and what the groups are like: methods that take arrays and return results."""
