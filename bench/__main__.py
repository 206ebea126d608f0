"""Every measurement, each in a process of its own, so that none inherits another's memory or threads."""

from __future__ import annotations

import subprocess
import sys

# The whole of `bench.pacing` takes hours; here it is one floor for a part of a day.
_PACING = (
    "--scenario stat --agents 50 --hours 2 --seeds 1 --policy progressive ratio2 ratio3 predictive predictive+cancel"
)
BENCHES = (
    ("parse",),
    ("bridge_latency",),
    ("originate_load",),
    ("adoption",),
    ("list_import", "--beside-campaign"),
    ("answer_model",),
    ("hopper",),
    ("list_import",),
    ("pacing", *_PACING.split()),
    ("pacing_optimum",),
    ("pacing_cost",),
)


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
