"""Random keys by counting: a stream of 32-bit words for every segment.

The key of an element is a hash of (seed, tensor name, element index) and of
nothing else: no permutation of all elements is built, and the choice does not
depend on files, workers or the order of work. Within a segment the element's
index is the counter that ``random_keys`` hashes; seed, name and segment number
are condensed to the two words that it is mixed with.
"""

from __future__ import annotations

import hashlib


def stream_words(seed: int, name: str, segment: int) -> tuple[int, int]:
    """Return the two 32-bit words of a segment's stream.

    Parameters
    ----------
    seed : int
        The user's seed.
    name : str
        The tensor's name.
    segment : int
        Number of the segment within the tensor: element index divided by
        ``Granularity.segment_elements``.

    Returns
    -------
    tuple of int
        From BLAKE2b, so that neighbouring seeds share nothing.
    """
    text = f"shardrestore random keys\0{seed}\0{segment}\0{name}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
