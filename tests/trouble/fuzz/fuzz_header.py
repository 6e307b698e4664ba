"""A coverage-guided fuzz target: the header parser against safetensors itself.

    make fuzz ARGS="-max_total_time=240 CORPUS"     # libFuzzer's options and folders
    python tests/trouble/fuzz/fuzz_header.py --without-atheris -max_total_time=60 -seed=1

Any input is a whole file. Both parsers must give the same verdict and, where they accept
it, the same tensors and metadata; where ours refuses it, it must say why in one short
printable line, and raise nothing but ``CheckpointError``. The one deliberate difference, a
tensor name given twice, is allowed.

Where atheris is not installed the same target is driven by random mutations. That finds
less, as nothing leads it to new code, but needs nothing beyond what the tests need. Whatever
either finds belongs into the tables of ``tests/unit/checkpoint/test_header.py``.
"""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # run as a script: tests is no package yet

WITHOUT = "--without-atheris"
GUIDED = importlib.util.find_spec("atheris") is not None and WITHOUT not in sys.argv
if GUIDED:
    import atheris

# Whatever imports the parser comes with it, so that it is instrumented when it is loaded.
with atheris.instrument_imports(include=["shardrestore.checkpoint"]) if GUIDED else nullcontext():
    from safetensors import SafetensorError, safe_open

    from shardrestore.checkpoint.header import header_length, parse_header
    from shardrestore.errors import CheckpointError
    from tests.support.headers import (
        ACCEPTED,
        KEYS,
        ODD_TOKENS,
        REFUSED,
        REPEATED_NAMES,
        Verdict,
        contents,
        framed,
        repeats_a_name,
    )

MAX_MESSAGE = 500
MAX_FILE_BYTES = 4096
DEFAULT_SECONDS = 60
# A file in memory: every execution writes one for safe_open.
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Comparison:
    """Holds our verdict on a file against that of safetensors."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "f.safetensors"

    def __call__(self, file: bytes) -> None:
        """Raise AssertionError unless the verdicts agree."""
        mine, reference = ours(file), self._theirs(file)
        if isinstance(mine, str):
            if not (mine.startswith("f: ") and mine.isprintable() and len(mine) <= MAX_MESSAGE):
                raise AssertionError(f"no message for people: {mine[:2000]!r}")
            if not isinstance(reference, str) and not repeats_a_name(file):
                raise AssertionError(f"refused by us alone: {mine}")
        elif mine != reference:
            raise AssertionError(f"we read {mine}, safetensors {reference}")

    def _theirs(self, file: bytes) -> Verdict:
        self._path.write_bytes(file)
        try:
            with safe_open(self._path, "np") as opened:
                slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
                tensors = {n: (s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()}
                return tensors, opened.metadata()
        except (SafetensorError, OSError) as error:
            return str(error)


def ours(file: bytes) -> Verdict:
    """Read a file as a caller does: eight bytes, the header, and the size."""
    try:
        length = header_length(file[:8], len(file), "f")
        return contents(parse_header(file[8 : 8 + length], len(file), "f"))
    except CheckpointError as error:
        return str(error)


def seeds() -> list[bytes]:
    """Return the hand-made files of the differential test: at least one for every rule."""
    refused = [file for file, _ in REFUSED.values()]
    files = [*ACCEPTED.values(), *REPEATED_NAMES.values(), *refused]
    return [file for file in files if len(file) <= MAX_FILE_BYTES]


def tokens() -> list[bytes]:
    """Return pieces of headers that random bytes would rarely form."""
    texts = [*ODD_TOKENS, *(f'"{key}":' for key in KEYS)]
    return sorted({text.encode() for text in texts if 1 < len(text) < 64})


def fuzz_by_coverage(arguments: Sequence[str], folder: Path) -> None:
    """Hand over to libFuzzer, which never returns."""
    compare = Comparison(folder)

    def target(data: bytes) -> None:
        compare(data)
        compare(framed(data))  # a header by itself, whose length mutations cannot spoil

    known = folder / "seeds"
    known.mkdir()
    for number, file in enumerate(seeds()):
        (known / f"{number:03}").write_bytes(file)
    dictionary = folder / "tokens"
    quoted = ("".join(f"\\x{byte:02x}" for byte in token) for token in tokens())
    dictionary.write_text("".join(f'"{token}"\n' for token in quoted))
    options = [f"-dict={dictionary}", f"-max_len={MAX_FILE_BYTES}"]
    if not any(argument.startswith("-max_total_time") for argument in arguments):
        options.append(f"-max_total_time={DEFAULT_SECONDS}")
    atheris.Setup([sys.argv[0], *options, *arguments, str(known)], target)
    atheris.Fuzz()


def fuzz_by_mutation(seconds: float, seed: int, folder: Path) -> int:
    """Change known files at random until the time is up; return how many were tried."""
    compare, chance, known, pieces = Comparison(folder), random.Random(seed), seeds(), tokens()
    until, tried = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        file = mutate(chance.choice(known), known, pieces, chance)
        tried += 1
        try:
            compare(file)
        except Exception:
            print(f"after {tried:,} files, seed {seed}: {file!r}", file=sys.stderr)
            raise
    return tried


def mutate(
    file: bytes, known: Sequence[bytes], pieces: Sequence[bytes], chance: random.Random
) -> bytes:
    """Return a file after a few changes of its header; its length mostly fits it."""
    end = 8 + min(int.from_bytes(file[:8], "little"), len(file))
    raw, data = bytearray(file[8:end]), file[end:]
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(raw) + 1)
        width = chance.choice((0, 1, 1, 2, 8, 40))
        other = chance.choice(known)
        cut = chance.randrange(len(other) + 1)
        raw[at : at + width] = chance.choice(
            (
                b"",
                bytes([chance.randrange(256)]),
                chance.choice(pieces),
                raw[at : at + width] * 2,
                other[cut : cut + 40],
            )
        )
    if chance.random() < 0.1:
        data = data[: chance.randrange(len(data) + 1)] + bytes(chance.randrange(3))
    if chance.random() < 0.05:
        return chance.randrange(len(raw) + 16).to_bytes(8, "little") + raw + data
    return framed(bytes(raw)) + data


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="shardrestore-fuzz-", dir=_MEMORY) as name:
        if GUIDED:
            child = os.fork()  # libFuzzer ends its process without cleaning up
            if not child:
                fuzz_by_coverage(sys.argv[1:], Path(name))
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
        seconds = float(options.get("-max_total_time", DEFAULT_SECONDS))
        seed = int(options.get("-seed", time.time_ns()))
        print(f"atheris is not in use: random mutations for {seconds:g} s, seed {seed}")
        tried = fuzz_by_mutation(seconds, seed, Path(name))
        print(f"{tried:,} files, no difference")


if __name__ == "__main__":
    main()
