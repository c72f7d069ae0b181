"Random numbers keyed by what they are for."

# Images are drawn, and batches made, in parallel and in any order. A generator that is keyed by *what* is drawn, in the place of how many
# numbers were drawn before, makes each of them independent of all others.

import hashlib

import numpy as np

__all__ = ["named_rng"]


def named_rng(
    *key,  # what the numbers are for, e.g. `("market", "identity", 7)`; equal keys give equal streams
) -> np.random.Generator:
    "A random generator that depends on its key alone."
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    seed = int.from_bytes(digest, "little")
    return np.random.Generator(np.random.PCG64(seed))
