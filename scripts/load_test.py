"""Load test of the service; see docs/service.md and ``--help``."""

import sys

from platehide.serve.loadtest import main

sys.exit(main())
