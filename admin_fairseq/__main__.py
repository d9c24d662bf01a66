"""``python -m admin_fairseq``: the ``admin-fairseq`` command."""

import sys

from .cli import main

sys.exit(main())
