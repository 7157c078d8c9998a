"""``python -m wand.cli``, the same as ``wand``."""

import sys

from wand.cli import main

sys.exit(main())
