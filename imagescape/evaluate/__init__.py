"""How good features and maps are: pure functions of arrays that return figures."""
