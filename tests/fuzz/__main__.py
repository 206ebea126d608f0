"""`python -m tests.fuzz`: many bad inputs for each place where bytes come in, one JSON line a place.

Fails on whatever a target lets through, on an input that takes over a second of this process's time, and on memory
that grows. The input is kept in a temporary folder, and the command that repeats it is printed.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

import psutil

SLOW_SECONDS: Final = 1.0  # of processor time: other programs on the machine are no hang of ours
HANG_SECONDS: Final = 20.0  # of the wall clock, for what only waits
GROWTH_MB: Final = 20.0
TOLD_EVERY_SECONDS: Final = 30.0


class HangError(BaseException):
    """An input takes for ever. Not an Exception: whatever hangs must not be able to swallow it."""


def _on_alarm(signum: int, frame: FrameType | None) -> None:
    raise HangError(f"not done after {HANG_SECONDS:g} s")


def megabytes() -> float:
    """This process's memory, without what only waits to be collected."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


def seeded(seed: int, name: str, index: int) -> Random:
    """The dice of one input: it can be made again without those before it."""
    return Random(f"{seed}/{name}/{index}")


def keep(name: str, data: bytes) -> Path:
    """Writes the input down, for a look and for --repeat."""
    path = Path(tempfile.mkdtemp(prefix="fuzz-failure-")) / f"{name}.bin"
    path.write_bytes(data)
    return path


def tell_failure(name: str, data: bytes, why: str) -> None:
    path = keep(name, data)
    print(f"{why}\n{name}: {data[:60]!r}… ({len(data)} bytes) fails; repeat it with:", file=sys.stderr)
    print(f"  {sys.executable} -m tests.fuzz --target {name} --repeat {path}", file=sys.stderr, flush=True)


def attempt(check: Any, data: bytes) -> tuple[float, str]:
    """How long one input took, and what is wrong with that; empty if nothing is."""
    why = ""
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    began = time.process_time()
    try:
        check(data)
    except (Exception, HangError):  # noqa: BLE001  # whatever comes out is what is looked for
        why = traceback.format_exc()
    seconds = time.process_time() - began
    signal.setitimer(signal.ITIMER_REAL, 0)
    if not why and seconds > SLOW_SECONDS:
        why = f"took {seconds:.2f} s"
    return seconds, why


def run(name: str, inputs: int, seed: int, first: int, most_failures: int) -> bool:
    """Tries `inputs` inputs on the target; whether it kept all promises."""
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    count = max(1, round(inputs * target.share))
    make = target.maker()
    warm = first + min(5_000, count // 5)
    before = megabytes()
    slowest = 0.0
    failures = bytes_in = done = 0
    began = told = time.perf_counter()
    for index in range(first, first + count):
        if index == warm:
            before = megabytes()
        data = make(seeded(seed, name, index))
        seconds, why = attempt(target.check, data)
        slowest = max(slowest, seconds)
        done += 1
        bytes_in += len(data)
        if why:
            tell_failure(name, data, why)
            failures += 1
            if failures >= most_failures:
                break
        if time.perf_counter() - told > TOLD_EVERY_SECONDS:
            told = time.perf_counter()
            print(f"{name}: {done} of {count} after {told - began:.0f} s", file=sys.stderr, flush=True)
    elapsed = time.perf_counter() - began
    growth = megabytes() - before
    figure = {
        "name": f"fuzz_{name}",
        "value": round(done / elapsed),
        "unit": "inputs/s",
        "inputs": done,
        "seed": seed,
        "first": first,
        "failures": failures,
        "seconds": round(elapsed, 1),
        "mean_bytes": round(bytes_in / done),
        "max_seconds_one_input": round(slowest, 4),
        "memory_growth_mb": round(growth, 2),
    }
    print(json.dumps(figure), flush=True)
    if growth > GROWTH_MB:
        print(f"{name}: memory grew by {growth:.1f} MB, over {GROWTH_MB:g}", file=sys.stderr)
    return not failures and growth <= GROWTH_MB


def run_atheris(name: str, inputs: int, seed: int) -> None:
    """Lets coverage guide the inputs, by libFuzzer. Does not return: libFuzzer ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["dialer", "campaigns"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-atheris-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for index, data in enumerate(target.corpus()):
        (corpus / f"{index:04}").write_bytes(data)
    words = ("".join(f"\\x{byte:02x}" for byte in token) for token in target.tokens if 0 < len(token) < 64)
    (folder / "words").write_text("".join(f'"{word}"\n' for word in words))
    options = [f"-runs={inputs}", f"-seed={seed % 2**32}", f"-max_len={target.longest}", f"-dict={folder / 'words'}"]
    options += ["-timeout=20", "-rss_limit_mb=1024", f"-artifact_prefix={folder}/"]
    print(f"{name}: failures and corpus in {folder}", file=sys.stderr, flush=True)
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.check)
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each target; whole imports get a part")
    parser.add_argument("--seed", type=int, default=None, help="the same seed makes the same inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to go on from a run before")
    parser.add_argument("--target", action="append", default=[], help="one or more; all of them unless given")
    parser.add_argument("--failures", type=int, default=1, help="how many to find before a target is left")
    parser.add_argument("--repeat", type=Path, help="one file's bytes instead, for --target")
    parser.add_argument(
        "--atheris", action="store_true", help="guided by coverage, for one --target; pip install atheris"
    )
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else Random().randrange(2**32)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    if options.atheris:
        if len(options.target) != 1:
            parser.error("--atheris takes one --target")
        run_atheris(options.target[0], options.inputs, seed)
    from tests.fuzz.targets import TARGETS  # here, for atheris is to watch the imports

    unknown = set(options.target) - TARGETS.keys()
    if unknown or (options.repeat and len(options.target) != 1):
        parser.error(f"--target is one of {', '.join(TARGETS)}; --repeat takes one")
    before = signal.signal(signal.SIGALRM, _on_alarm)
    try:
        if options.repeat:
            seconds, why = attempt(TARGETS[options.target[0]].check, options.repeat.read_bytes())
            print(why or f"nothing wrong, {seconds:.3f} s")
            return 1 if why else 0
        names = options.target or list(TARGETS)
        kept = [run(name, options.inputs, seed, options.first, options.failures) for name in names]
        return 0 if all(kept) else 1
    finally:
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    sys.exit(main())
