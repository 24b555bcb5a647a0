"""Source trees, the same for all programs and, on one version of Python, the same each time: seeds are fixed."""

from __future__ import annotations

import os
import random
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path

MIB = 1 << 20
CORPUS = 16 * MIB  # bytes of text that pieces are taken from; far more than any window of a compressor
PIECE = MIB
SMALLEST, LARGEST = 10, 24  # of the mixed tree's files: 1 KiB to 16 MiB, as powers of two
PER_FOLDER = 100


def make_mixed(root: Path, scale: float, *, size: int) -> None:
    """``size`` bytes, half text, half random; sizes spread evenly over the powers of two."""
    rng = random.Random("mixed")
    text = random_bytes = 0
    left = int(size * scale)
    number = 0
    while left > 0:
        length = min(left, int(2 ** rng.uniform(SMALLEST, LARGEST)))
        is_text = text <= random_bytes
        folder = root / f"{number // 20:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{number:05d}.{'txt' if is_text else 'bin'}", rng, length, is_text=is_text)
        text, random_bytes = text + is_text * length, random_bytes + (not is_text) * length
        left -= length
        number += 1


def make_small(root: Path, scale: float) -> None:
    """20,000 files of 0 to 16 KiB, every other one text."""
    rng = random.Random("small")
    for number in range(int(20_000 * scale)):
        folder = root / f"{number // PER_FOLDER:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"small-{number:05d}", rng, rng.randrange(16_385), is_text=bool(number % 2))


def make_tiny(root: Path, scale: float) -> None:
    """100,000 entries: folders of 99 files, every other one empty, the rest of 1 to 99 bytes."""
    rng = random.Random("tiny")
    for folder_number in range(max(1, int(100_000 * scale) // PER_FOLDER)):
        folder = root / f"{folder_number // 32:02d}" / f"folder-{folder_number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(PER_FOLDER - 1):
            (folder / f"entry-{number:02d}").write_bytes(b"" if number % 2 else rng.randbytes(rng.randrange(1, 100)))


def touch_tiny(root: Path) -> None:
    """One file in a hundred of that tree gets other content."""
    for folder in sorted(root.glob("*/*")):
        (folder / "entry-00").write_bytes(b"changed " * 4)


def make_big(root: Path, scale: float) -> None:
    """One file of 256 MiB, half text, half random in turns of a MiB."""
    rng = random.Random("big")
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "big", "wb") as file:
        file.writelines(_text(rng, PIECE) if number % 2 else rng.randbytes(PIECE) for number in range(max(1, int(256 * scale))))


def change_big(root: Path) -> None:
    """One per cent of that file is rewritten, in random places of 4 KiB."""
    rng = random.Random("change")
    path = root / "big"
    size = path.stat().st_size
    with open(path, "r+b") as file:
        for _ in range(max(1, size // 100 // 4096)):
            file.seek(rng.randrange(size // 4096) * 4096)
            file.write(rng.randbytes(4096))


MAKERS: dict[str, Callable[[Path, float], None]] = {
    "mixed": lambda root, scale: make_mixed(root, scale, size=512 * MIB),
    "mixed-256": lambda root, scale: make_mixed(root, scale, size=256 * MIB),
    "small": make_small,
    "tiny": make_tiny,
    "big": make_big,
}


def describe(root: Path) -> dict[str, int]:
    """Entries below ``root`` and the bytes in its files."""
    entries = size = 0
    for folder, folders, files in os.walk(root):
        entries += len(folders) + len(files)
        size += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
    return {"entries": entries, "bytes": size}


def _write(path: Path, rng: random.Random, size: int, *, is_text: bool) -> None:
    with open(path, "wb") as file:
        while size > 0:
            length = min(size, PIECE)
            file.write(_text(rng, length) if is_text else rng.randbytes(length))
            size -= length


def _text(rng: random.Random, size: int) -> bytes:
    corpus = _corpus()
    at = rng.randrange(max(1, len(corpus) - size))
    return corpus[at : at + size]


@cache
def _corpus() -> bytes:
    """Sources of the standard library: text that people wrote, and every machine that can run this has it."""
    parts, size = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" not in path.parts and size < CORPUS:
            parts.append(path.read_bytes())
            size += len(parts[-1])
    return b"".join(parts)[:CORPUS]
