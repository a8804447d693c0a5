"""The bytes of docs/protocol.md sections 1 to 5: what is signed, read strictly."""

import re
from types import SimpleNamespace

from blake3 import DK, H
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Bad(Exception):
    """Bytes that do not hold."""


def need(condition, why):
    if not condition:
        raise Bad(why)


# --- section 1: canonical bytes

class Reader:
    """Postcard, one encoding per value."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, count):
        need(self.at + count <= len(self.data), "cut off")
        self.at += count
        return self.data[self.at - count : self.at]

    def end(self):
        need(self.at == len(self.data), "bytes behind the end")

    def u8(self):
        return self.raw(1)[0]

    def bool(self):
        value = self.u8()
        need(value < 2, "a bool is 0 or 1")
        return value == 1

    def varint(self, bits):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                need(byte != 0 or shift == 7, "a longer varint than needed")
                need(value < 1 << bits, "a varint out of range")
                return value
            need(shift < bits, "a varint without end")

    def u16(self):
        return self.varint(16)

    def u32(self):
        return self.varint(32)

    def u64(self):
        return self.varint(64)

    def bytes(self):
        return self.raw(self.u32())

    def text(self, most=None):
        raw = self.bytes()
        need(most is None or len(raw) <= most, "a text is too long")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise Bad("a text is not UTF-8") from error

    def option(self, read):
        return read() if self.bool() else None

    def list(self, read, most=1 << 20):
        count = self.u32()
        need(count <= most, "a list is too long")
        return [read() for _ in range(count)]

    def id(self):
        return self.raw(32)

    def ids(self, least, most):
        ids = self.list(self.id, most)
        need(len(ids) >= least and ascending(ids), "ids out of order")
        return ids

    def key(self):
        return checked_key(self.raw(32))

    def sig(self):
        return self.raw(64)

    def binding(self):
        return self.key(), self.sig()

    def ext(self):
        return checked_ext(self.list(lambda: (self.u16(), self.bytes()), 8))

    def socket(self):
        family = self.u32()
        need(family < 2, "an address family")
        return family, self.raw(4 if family == 0 else 16), self.u16()

    def tags(self):
        tags = self.list(lambda: label(self.text(), 63, ()), 16)
        need(ascending(tags, str.encode), "tags out of order")
        return tags


def ascending(items, key=lambda item: item):
    return all(key(a) < key(b) for a, b in zip(items, items[1:]))


def checked_ext(entries):
    need(ascending([kind for kind, _ in entries]), "extensions out of order")
    need(len(entries) <= 8 and sum(len(value) for _, value in entries) <= 256, "extensions too many")
    return entries


def demands(ext):
    return any(kind >= 0x8000 for kind, _ in ext)


# --- section 6.5: names

RESERVED_NODES = (
    "all any cancel dns gateway isatap list local localhost meshnode none relay router self show "
    "status wpad"
).split()
RESERVED_NETWORKS = "c compute containers docker ec2 google local localhost main user".split()


def label(text, most, reserved):
    need(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text, re.ASCII) is not None, "a name")
    need(len(text) <= most and not text.isdigit() and text not in reserved, "a name")
    return text


def node_name(text):
    return label(text, 63, RESERVED_NODES)


def owner_name(text):
    need(re.fullmatch(r"[a-z0-9._@+-]{1,64}", text, re.ASCII) is not None, "an owner")
    return text


# --- section 2: keys and signatures

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
KEYS = set()


def point(raw):
    """The point of a canonical encoding; None if it is none."""
    number = int.from_bytes(raw, "little")
    y, sign = number & (2**255 - 1), number >> 255
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P != 0:
        x = x * SQRT_M1 % P
    if (v * x * x - u) % P != 0 or (x == 0 and sign == 1):
        return None
    return (P - x if x & 1 != sign else x), y


def of_small_order(where):
    """Whether eight times the point is the neutral one."""
    x, y = where
    for _ in range(3):
        t = D * x * x * y * y % P
        x, y = 2 * x * y * pow(1 + t, -1, P) % P, (y * y + x * x) * pow(1 - t, -1, P) % P
    return (x, y) == (0, 1)


def checked_key(raw):
    if raw not in KEYS:
        where = point(raw)
        need(where is not None, "a key is no canonical point")
        need(not of_small_order(where), "a key is of small order")
        KEYS.add(raw)
    return raw


def verify(key, context, fields, signature):
    """Strict Ed25519: s below L, R a point of large order, no cofactor."""
    where = point(signature[:32])
    need(where is not None and not of_small_order(where), "a signature: R")
    need(int.from_bytes(signature[32:], "little") < L, "a signature: s")
    message = b"meshnode/" + context.encode() + b"/1\0" + b"".join(fields)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature as error:
        raise Bad(f"the signature {context} is wrong") from error


def verify_bindings(network, device, transport, tunnels):
    verify(transport[0], "bind-t", (network, device), transport[1])
    for key, signature in tunnels:
        verify(key, "bind-w", (network, device), signature)


# --- section 3: ops

GENESIS, GRANT, REVOKE, INVITE, CLOSE, POLICY, POLICY_BASE, REKEY, NOOP = range(1, 10)
KINDS = "genesis grant revoke invite invite-close policy policy-base rekey noop".split()
MEMBERS, POLICY_CAP, LABEL = 1, 2, 4
ZERO16, ZERO32 = bytes(16), bytes(32)


def op_header(raw):
    """Section 3.1: fixed width, little-endian."""
    r = Reader(raw)
    number = lambda width: int.from_bytes(r.raw(width), "little")
    need(number(1) == 1, "an op version")
    op = SimpleNamespace(kind=number(2), network=r.raw(16), author=r.raw(32), authority=r.raw(32))
    op.time, count = number(8), number(1)
    need(count <= 16, "too many parents")
    op.parents = [r.raw(32) for _ in range(count)]
    need(ascending(op.parents), "parents out of order")
    op.body_len, op.body_hash = number(4), r.raw(32)
    op.ext = checked_ext([(number(2), r.raw(number(2))) for _ in range(number(1))])
    op.root = op.author == ZERO32
    if not op.root:
        checked_key(op.author)
    op.id, op.rest = DK("meshnode op id 1", raw[: r.at]), raw[r.at :]
    return op


def root_signatures(op, raw, keys, threshold):
    r = Reader(raw)
    signed = [(r.u8(), r.raw(64)) for _ in range(r.u8())]
    need(threshold <= len(signed) <= 16, "root signatures: how many")
    need(ascending([index for index, _ in signed]), "root signatures: their order")
    for index, signature in signed:
        need(index < len(keys), "root signatures: an index")
        verify(keys[index], "op", (op.id,), signature)
    return r.at


def parse_genesis(raw):
    """Section 3.2."""
    op = op_header(raw)
    need(op.kind == GENESIS and op.root and not op.parents, "no genesis")
    need(op.network == ZERO16 and op.authority == ZERO32, "no genesis")
    need(op.body_len <= len(op.rest), "cut off")
    at = len(op.rest) - op.body_len
    sigs, body = op.rest[:at], op.rest[at:]
    op.body = read_body(op, body)
    used = root_signatures(op, sigs, op.body.roots, op.body.threshold)
    need(len(sigs) == used + 64, "signatures of the genesis")
    verify(op.body.founder, "op", (op.id,), sigs[used:])
    op.stub, op.network = False, op.id[:16]
    return op


def parse_op(raw, genesis):
    op = op_header(raw)
    need(op.kind != GENESIS and op.parents, "a second genesis")
    need(op.network == genesis.network, "another network")
    need(len(raw) <= {POLICY: 16384, POLICY_BASE: 69632}.get(op.kind, 4096), "too long")
    if op.root:
        used = root_signatures(op, op.rest, genesis.body.roots, genesis.body.threshold)
    else:
        used = 64
        verify(op.author, "op", (op.id,), Reader(op.rest).raw(64))
    body = op.rest[used:]
    op.stub = not body and op.body_len > 0
    if op.stub:
        need(op.kind in (POLICY, POLICY_BASE, NOOP), "a stub of this kind")
        op.body = None
    else:
        op.body = read_body(op, body)
    return op


def read_body(op, raw):
    need(len(raw) == op.body_len and H(raw) == op.body_hash, "the body is another")
    read = BODIES.get(op.kind)
    if read is None:
        return None
    try:
        r = Reader(raw)
        body = read(r)
        r.end()
        return body
    except Bad:
        if op.kind in (POLICY, POLICY_BASE):
            return None  # section 3.9: an op without effect
        raise


def genesis_body(r):
    b = SimpleNamespace(random=r.raw(32), roots=r.list(r.key, 16), threshold=r.u8())
    need(b.roots and ascending(b.roots) and 1 <= b.threshold <= len(b.roots), "the root set")
    b.name = label(r.text(), 32, RESERVED_NETWORKS)
    b.base, b.prefix = int.from_bytes(r.raw(4), "big"), r.u8()
    need(8 <= b.prefix <= 24, "the range")
    b.size = 1 << (32 - b.prefix)
    need(b.base % b.size == 0, "the range")
    b.founder, b.founder_name = r.key(), node_name(r.text())
    b.founder_ipv4 = int.from_bytes(r.raw(4), "big")
    need(b.founder_ipv4 // b.size * b.size == b.base, "the founder's address")
    b.owner, b.commitment = r.option(lambda: owner_name(r.text())), r.raw(32)
    b.closed, b.ext = r.bool(), r.ext()
    return b


def grant_body(r):
    b = SimpleNamespace(device=r.key(), level=r.u8(), caps=r.u8(), may_tag=r.tags())
    b.owner, b.tags = r.option(lambda: owner_name(r.text())), r.tags()
    b.name, b.ipv4 = node_name(r.text()), int.from_bytes(r.raw(4), "big")
    b.expires, b.claim = r.option(r.u64), r.option(lambda: claim(r))
    b.ext = r.ext()
    need(b.level > 0 and b.caps <= 7, "a grant")
    need(b.level < 255 or (b.caps == 0 and not b.may_tag), "a member with powers")
    return b


def invite_body(r):
    b = SimpleNamespace(key=r.key(), rendezvous=r.raw(32), psk=r.raw(32), uses=r.u16())
    b.not_after, b.approve, b.ephemeral = r.u64(), r.bool(), r.bool()
    b.owner, b.tags = r.option(lambda: owner_name(r.text())), r.tags()
    b.name, b.replaces = r.option(lambda: node_name(r.text())), r.option(r.key)
    b.member_for, b.ext = r.option(r.u64), r.ext()
    b.terms_hash = H(r.data[: r.at])
    b.net_signature = r.sig()
    need(1 <= b.uses <= 1000, "uses")
    return b


def revoke_body(r):
    b = SimpleNamespace(device=r.key(), cut=r.u32())
    need(b.cut < 3, "a cut")
    b.heads = r.ids(1, 16) if b.cut == 1 else []
    b.spare, b.reason, b.ext = r.ids(0, 64), r.text(128), r.ext()
    return b


def close_body(r):
    return SimpleNamespace(invite=r.id(), ext=r.ext())


def policy_body(r):
    b = SimpleNamespace(base=r.id(), change=r.bytes(), ext=r.ext())
    need(1 <= len(b.change) <= 15360, "a policy change")
    return b


def base_body(r):
    return SimpleNamespace(previous=r.option(r.id), change=r.bytes(), ext=r.ext())


def rekey_body(r):
    return SimpleNamespace(epoch=r.u32(), commitment=r.raw(32), ext=r.ext())


BODIES = {
    GENESIS: genesis_body, GRANT: grant_body, REVOKE: revoke_body, INVITE: invite_body,
    CLOSE: close_body, POLICY: policy_body, POLICY_BASE: base_body, REKEY: rekey_body,
}


# --- section 4: claim and admit

def claim(r):
    start = r.at
    c = SimpleNamespace(version=r.u8(), network=r.raw(16), invite=r.id(), device=r.key())
    c.transport, c.tunnel, c.name = r.binding(), r.binding(), node_name(r.text())
    c.time, c.witness, c.transcript, c.ext = r.u64(), r.key(), r.raw(32), r.ext()
    c.digest = H(r.data[start : r.at])
    c.invite_signature, c.device_signature = r.sig(), r.sig()
    return c


def check_joiner(c):
    need(c.version == 1, "a claim's version")
    verify(c.device, "claim-d", (c.digest,), c.device_signature)
    verify_bindings(c.network, c.device, c.transport, [c.tunnel])


def parse_admit(raw, network):
    need(len(raw) <= 2048, "too long")
    r = Reader(raw)
    a = SimpleNamespace(id=DK("meshnode admit id 1", raw), version=r.u8(), network=r.raw(16))
    a.claim, a.heads, a.ext = claim(r), r.ids(0, 16), r.ext()
    digest = H(raw[: r.at])
    signature = r.sig()
    r.end()
    need(a.version == 1 and a.network == a.claim.network == network, "an admit of elsewhere")
    verify(a.claim.witness, "admit", (a.network, digest), signature)
    check_joiner(a.claim)
    return a


# --- section 5: device records

def parse_record(raw, network):
    need(len(raw) <= 1024, "too long")
    r = Reader(raw)
    version, said = r.u8(), r.raw(16)
    rec = SimpleNamespace(device=r.key(), kind=r.u16(), sub=r.raw(32), seq=r.u64())
    body, ext = r.bytes(), r.ext()
    digest = H(raw[: r.at])
    signature = r.sig()
    r.end()
    need(version == 1 and said == network and rec.seq <= 1 << 62, "a record of elsewhere")
    verify(rec.device, "rec", (network, digest), signature)
    inner = record_body(rec, body, network)
    rec.understood = not demands(ext) and not demands(inner)
    need(rec.kind not in range(1, 6) or rec.sub == ZERO32, "a sub")
    rec.slot = (rec.device, rec.kind, rec.sub)
    return rec


def record_body(rec, raw, network):
    """Reads a body of a known kind; its extensions."""
    r = Reader(raw)
    ext = []
    if rec.kind == 1:
        transport, tunnels = r.binding(), [r.binding()]
        tunnels += [t for t in [r.option(r.binding)] if t]
        r.text(32), r.text(32)
        ext = r.ext()
        verify_bindings(network, rec.device, transport, tunnels)
    elif rec.kind == 2:
        for kinds in (4, 2):
            found = r.list(lambda: (r.u32(), r.socket()), 10)
            need(ascending(found) and all(kind < kinds for kind, _ in found), "candidates")
        need(r.u32() <= 4, "an unknown kind of router")
        homes = r.list(r.key, 2)
        need(len(set(homes)) == len(homes), "two equal homes")
        r.bool()
        r.u32()
        ext = r.ext()
    elif rec.kind == 7:
        key = r.key()
        label(r.text(), 63, RESERVED_NODES)
        need(ascending(r.list(r.socket, 4)), "addresses of a relay")
        r.bool()
        ext = r.ext()
        need(rec.sub == H(key), "the sub of another relay")
    elif rec.kind == 3:
        r.ids(0, 16), r.u32(), r.id(), r.option(r.id), r.u32(), r.u64()
        ext = r.ext()
    elif rec.kind == 5:
        r.ids(0, 16), r.u32(), r.u32(), r.option(r.id)
        ext = r.ext()
    elif rec.kind != 4:
        return ext
    r.end()
    return ext
