"""`python -m fasttrace` is the `fasttrace` command."""

import sys

from fasttrace.cli import main

sys.exit(main())
