"""``python -m edgedf.cli`` is ``edgedf``."""

from edgedf.cli import main

raise SystemExit(main())
