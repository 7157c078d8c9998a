"""``python -m wand.evaluation.benchmark``, the same as ``wand benchmark``, where only torch and transformers are."""

import sys

from wand.cli import main

sys.exit(main(["benchmark", *sys.argv[1:]]))
