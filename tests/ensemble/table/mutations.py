"""Changes to bytes, as of a disk, a network or a stranger who knows what hurts."""

import random

NUMBERS = (0, 1, -1, 2, 255, 2**16, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**63 - 1, -(2**63))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change some numbers and bytes; seldom the length."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        size = rng.choice((1, 2, 4, 8))
        at = rng.randrange(max(1, len(changed) // size)) * size
        value = rng.choice(NUMBERS) if rng.random() < 0.7 else rng.getrandbits(64)
        changed[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    if rng.random() < 0.1:
        del changed[rng.randrange(len(changed) + 1) :]
    return bytes(changed)
