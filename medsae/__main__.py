import sys

from medsae.cli import main

if __name__ == "__main__":
    sys.exit(main())
