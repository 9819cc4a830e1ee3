"""A worker process: reads jobs as JSON lines and answers each with one line. Started by ``workers.py``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Plugins are the arguments. What a plugin prints goes to standard error, never among the answers."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)
    from if_factory.constraints.base import load_plugin
    from if_factory.errors import UserError
    from if_factory.rewards.checks import Job, checked

    try:
        for plugin in sys.argv[1:]:
            load_plugin(Path(plugin))
    except UserError as e:
        out.write(json.dumps({"error": str(e)}) + "\n")
        return
    out.write(json.dumps({"ready": os.getpid()}) + "\n")
    for line in sys.stdin:
        given = json.loads(line)
        job = Job(given["truth"], given["prompt"], tuple(given["history"]), tuple(given["texts"]),
                  given["usefulness"], given["how"], given["judge"])
        out.write(json.dumps([checked(job, text) for text in job.texts]) + "\n")


if __name__ == "__main__":
    main()
