"""BLAKE3 in the modes that docs/protocol.md names: H(x) and DK(context, x), written from the BLAKE3 paper."""

import struct

IV = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
    0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS_THEN_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
DERIVE_KEY_CONTEXT, DERIVE_KEY_MATERIAL = 32, 64
MASK = 0xFFFFFFFF
CHUNK, BLOCK = 1024, 64


def compress(chaining, block, counter, length, flags):
    """The compression function: sixteen words out."""
    v = [*chaining, *IV[:4], counter & MASK, counter >> 32, length, flags]
    m = list(block)
    for turn in range(7):
        for place, (a, b, c, d) in enumerate(COLUMNS_THEN_DIAGONALS):
            for word, first, second in ((m[2 * place], 16, 12), (m[2 * place + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & MASK
                x = v[d] ^ v[a]
                v[d] = (x >> first) | (x << (32 - first)) & MASK
                v[c] = (v[c] + v[d]) & MASK
                x = v[b] ^ v[c]
                v[b] = (x >> second) | (x << (32 - second)) & MASK
        if turn < 6:
            m = [m[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)] + [v[i + 8] ^ chaining[i] for i in range(8)]


def chunk(data, key, counter, flags):
    """The last compression of one chunk, not yet done."""
    chaining = key
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)] or [b""]
    for place, block in enumerate(blocks):
        words = struct.unpack("<16I", block.ljust(BLOCK, b"\0"))
        own = flags | (CHUNK_START if place == 0 else 0)
        if place == len(blocks) - 1:
            return chaining, words, counter, len(block), own | CHUNK_END
        chaining = compress(chaining, words, counter, BLOCK, own)[:8]


def tree(data, key, counter, flags):
    """The last compression of a subtree, not yet done."""
    if len(data) <= CHUNK:
        return chunk(data, key, counter, flags)
    chunks = 1 << (((len(data) - 1) // CHUNK).bit_length() - 1)
    left = compress(*tree(data[: chunks * CHUNK], key, counter, flags))[:8]
    right = compress(*tree(data[chunks * CHUNK :], key, counter + chunks, flags))[:8]
    return key, (*left, *right), 0, BLOCK, flags | PARENT


def output(data, key, flags):
    """The bytes of the root without end, by blocks."""
    chaining, words, _, length, flags = tree(data, key, 0, flags)
    counter = 0
    while True:
        yield struct.pack("<16I", *compress(chaining, words, counter, length, flags | ROOT))
        counter += 1


def H(data):
    """BLAKE3 of data, 32 bytes."""
    return next(output(data, IV, 0))[:32]


def DK_stream(context, data):
    """BLAKE3's derive_key, its output in blocks of 64 bytes without end."""
    key = struct.unpack("<8I", next(output(context.encode(), IV, DERIVE_KEY_CONTEXT))[:32])
    return output(data, key, DERIVE_KEY_MATERIAL)


def DK(context, data):
    """BLAKE3's derive_key, 32 bytes."""
    return next(DK_stream(context, data))[:32]
