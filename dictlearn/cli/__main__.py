"""`python -m dictlearn.cli`: the command line without its script."""

import sys

from dictlearn.cli import main

sys.exit(main())
