"""`python -m imagescape`, and `torchrun -m imagescape` for several devices."""

from imagescape.cli.app import main

main()
