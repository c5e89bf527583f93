"""Damaged bytes, for the tests of mutations and for the fuzz."""

from __future__ import annotations

from random import Random

PIECES = [
    b"\x00", b"\xff\xfe", b'"', b"\t", b",", b"\n", b"\r", b"{", b"}", b"[", b"]", b"\\", b"/../", b"'", b":", b"~/",
    b"null", b"NaN", b"-1", b"1e999", b"9" * 400, b'"\\ud83d"', b"\xf0\x9f", b"\x1b[2J", b"%s", b"=cmd()", b"[" * 5000,
    b" " * 50, b"true", b"{}", "\ufeff".encode(), "\u2028".encode(), "\u202e".encode(),
]  # fmt: skip


def damaged(data: bytes, rng: Random, *, most: int = 5) -> bytes:
    """Return `data` after a few edits: pieces inserted, spans removed, doubled or overwritten, digits changed, cut."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most)):
        start = rng.randrange(len(changed) + 1)
        stop = min(len(changed), start + rng.randint(0, 40))
        what = rng.randrange(7)
        if what == 0:
            changed[start:start] = rng.choice(PIECES)
        elif what == 1:
            del changed[start:stop]
        elif what == 2:
            changed[start:start] = changed[start:stop]
        elif what == 3:
            changed[start:stop] = rng.randbytes(stop - start)
        elif what == 4:
            digits = [index for index, byte in enumerate(changed[:20_000]) if chr(byte).isdigit()]
            for index in rng.sample(digits, min(2, len(digits))):
                changed[index] = ord(rng.choice("0123456789"))
        elif what == 5:
            header = min(len(changed), 64)  # sizes and rates of binary formats
            if header:
                changed[rng.randrange(header)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif rng.random() < 0.3:
            del changed[start:]
    return bytes(changed)
