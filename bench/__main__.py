"""Every measurement, each in a process of its own, so that none inherits another's memory or threads."""

from __future__ import annotations

import subprocess
import sys

BENCHES = ("parse", "bridge_latency", "originate_load", "adoption", "answer_model", "pacing_optimum", "pacing_cost")


def main() -> int:
    broken = [
        name
        for name, *options in BENCHES
        if subprocess.run([sys.executable, "-m", f"bench.{name}", *options]).returncode
    ]
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
