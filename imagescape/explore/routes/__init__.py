"""The addresses of the explorer, by what they are for."""
