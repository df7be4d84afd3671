"""The agent with a second process for small files from the first one on, however little there is to do.

python -m tests.whole.eager run --config …
"""

from __future__ import annotations

import functools

from tidegate.carry import direct
from tidegate.cli import main

if __name__ == "__main__":
    direct.Terms = functools.partial(direct.Terms, backlog=1, load=-1.0)  # type: ignore[assignment,misc]
    main()
