"""The table: one row an image, and one column for everything that is known or computed about it.

`store` keeps it, `ingest` fills it from `readers`, `cache` turns it into pixels to train on.
"""
