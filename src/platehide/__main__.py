"""``python -m platehide``."""

import sys

from platehide.cli import main

if __name__ == "__main__":
    sys.exit(main())
