"""``python -m earsight``."""

from earsight.cli import main

main()
