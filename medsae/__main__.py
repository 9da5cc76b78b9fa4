"""`python -m medsae`, and the command `medsae` of an installed package."""

import sys

from medsae.cli import main

if __name__ == "__main__":
    sys.exit(main())
