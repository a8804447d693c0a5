#!/usr/bin/env python3
"""A second reader of exports, written from docs/protocol.md alone.

    verify_export.py FILE..

It checks every byte, signature and right from the genesis on, works out who is in, and prints one JSON object a
file: what is in it, or {"error": why it does not hold}; then it ends with 1. It needs python3-cryptography and nothing else.
"""

import heapq
import ipaddress
import json
import sys
from types import SimpleNamespace

from blake3 import DK, DK_stream
from formats import (
    CLOSE, GENESIS, GRANT, INVITE, KINDS, LABEL, MEMBERS, POLICY, POLICY_BASE, POLICY_CAP, REKEY,
    REVOKE, Bad, Reader, ascending, check_joiner, demands, need, parse_admit,
    parse_genesis, parse_op, parse_record, verify,
)

SYMBOLS = "0123456789abcdefghjkmnpqrstvwxyz"
STANDINGS = ["settled", "provisional", "pending", "quarantined"]
SETTLED, PROVISIONAL, PENDING, QUARANTINED = range(4)


def base32(raw):
    bits = "".join(f"{byte:08b}" for byte in raw)
    bits += "0" * (-len(bits) % 5)
    return "".join(SYMBOLS[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


# --- the file

def cut(data):
    """The three lists of a file."""
    need(data[:8] == b"mesh-set", "no export")
    need(len(data) <= 256 << 20, "too long")
    r = Reader(data)
    r.raw(8)
    number = lambda width: int.from_bytes(r.raw(width), "little")
    need(number(2) == 1, "an export of another version")
    counts = [number(4) for _ in range(3)]
    lists = []
    for count, most in zip(counts, (69632, 2048, 1024)):
        items = []
        for _ in range(count):
            length = number(4)
            need(1 <= length <= most, "an impossible length")
            items.append(r.raw(length))
        lists.append(items)
    need(r.raw(32) == DK("meshnode export 1", data[:-32]), "the hash does not fit")
    r.end()
    return lists


# --- section 3.7: the structural check

class Network:
    """The stored set, and what follows from it."""

    def __init__(self, data):
        ops, admits, records = cut(data)
        need(ops, "no genesis")
        self.genesis = parse_genesis(ops[0])
        self.ops = {}
        self.store(self.genesis)
        for raw in ops[1:]:
            op = parse_op(raw, self.genesis)
            need(op.id not in self.ops, "an op twice")
            need(all(parent in self.ops for parent in op.parents), "a parent is missing")
            self.store(op)
        self.order = self.op_order()
        need(list(self.ops) == self.order, "the ops are not in op order")
        self.take_admits(admits)
        self.take_records(records)

    def store(self, op):
        op.place = len(self.ops)
        parents = [self.ops[parent] for parent in op.parents]
        op.past = 0
        for parent in parents:
            op.past |= parent.past | 1 << parent.place
        op.epoch = max((parent.epoch for parent in parents), default=0)
        op.level = 0
        if op is not self.genesis:
            self.check(op)
        self.ops[op.id] = op

    def before(self, op, other):
        """The op of an id, which must lie in the past of `op`."""
        found = self.ops.get(other)
        need(found is not None and op.past >> found.place & 1, "what it cites is not in its past")
        return found

    def check(self, op):
        cited, body = self.before(op, op.authority), op.body
        may = self.conferred(cited, op)
        op.level = may.level
        if op.kind in (GRANT, INVITE, REVOKE, CLOSE, REKEY):
            need(may.caps & MEMBERS, "the author lacks the cap members")
        if op.kind in (POLICY, POLICY_BASE):
            need(may.caps & POLICY_CAP, "the author lacks the cap policy")
        if op.kind == GRANT:
            need(body.level > may.level, "a level that is not below the author's")
            need(body.caps & ~may.caps == 0, "caps that the author has not")
            self.labels(may, body.tags + body.may_tag, body.owner)
            self.not_outlived(may, body.expires)
            if body.claim:
                self.check_claim(op, body)
        elif op.kind == INVITE:
            self.labels(may, body.tags, body.owner)
            self.not_outlived(may, body.not_after)
            need(not op.root, "an invite of the root set")
            fields = (self.genesis.id, self.genesis.id, op.author, body.terms_hash)
            verify(body.key, "net", fields, body.net_signature)
        elif op.kind == REVOKE:
            need(body.device != op.author, "nobody revokes itself")
            for other in body.heads + body.spare:
                self.before(op, other)
        elif op.kind == CLOSE:
            invite = self.before(op, body.invite)
            need(invite.kind == INVITE and invite.level >= op.level, "not this author's to close")
        elif op.kind == REKEY:
            need(body.epoch == op.epoch + 1, "the epoch does not follow")
            op.epoch = body.epoch

    def conferred(self, cited, op):
        everything = lambda level: SimpleNamespace(
            level=level, caps=7, may_tag=[], owner=None, expires=None)
        if cited.kind == GENESIS and op.root:
            return everything(0)
        if cited.kind == GENESIS and cited.body.founder == op.author:
            return everything(1)
        grant = cited.body
        holds = cited.kind == GRANT and not op.root and grant.device == op.author
        need(holds and grant.level < 255, "the cited op confers nothing on the author")
        return grant

    def labels(self, may, tags, owner):
        own = owner == may.owner and set(tags) <= set(may.may_tag)
        need(may.caps & LABEL or own, "tags or an owner that are not the author's to give")

    def not_outlived(self, may, end):
        own = may.expires
        need(own is None or (end is not None and end <= own), "it ends after the author's own right")

    def check_claim(self, op, grant):
        claim = grant.claim
        need(claim.network == op.network and claim.device == grant.device, "another's claim")
        invite = self.before(op, claim.invite)
        need(invite.kind == INVITE, "a claim on no invite")
        verify(invite.body.key, "claim-i", (claim.digest,), claim.invite_signature)
        check_joiner(claim)

    def op_order(self):
        waits = {op.id: len(op.parents) for op in self.ops.values()}
        children = {}
        for op in self.ops.values():
            for parent in op.parents:
                children.setdefault(parent, []).append(op)
        ready, order = [(0, self.genesis.id)], []
        while ready:
            _, key = heapq.heappop(ready)
            order.append(key)
            for child in children.get(key, []):
                waits[child.id] -= 1
                if waits[child.id] == 0:
                    heapq.heappush(ready, (child.level, child.id))
        return order

    def take_admits(self, admits):
        self.admits, kept = [], {}
        grants = (op for op in self.ops.values() if op.kind == GRANT)
        self.titled = {self.genesis.body.founder} | {op.body.device for op in grants}
        for raw in admits:
            admit = parse_admit(raw, self.genesis.network)
            invite = self.ops.get(admit.claim.invite)
            need(invite is not None and invite.kind == INVITE, "an admit on no invite")
            claim = admit.claim
            need(claim.witness in self.titled, "an admit whose witness nothing lets in")
            verify(invite.body.key, "claim-i", (claim.digest,), claim.invite_signature)
            pairs = kept.setdefault(invite.id, set())
            pair = (claim.device, claim.witness)
            need(pair not in pairs and len(pairs) < 64, "an admit too many")
            pairs.add(pair)
            self.admits.append(admit)
        need(ascending([admit.id for admit in self.admits]), "admits out of order")

    def take_records(self, records):
        named = self.titled | {admit.claim.device for admit in self.admits}
        self.records = [parse_record(raw, self.genesis.network) for raw in records]
        need(ascending([record.slot for record in self.records]), "records out of order")
        foreign = {}
        for record in self.records:
            need(record.device in named, "a record of a stranger")
            if record.kind not in range(1, 6):
                foreign[record.device] = foreign.get(record.device, 0) + 1
                need(foreign[record.device] <= 64, "records of unknown kinds too many")
        left = (r for r in self.records if r.kind == 4 and r.understood)
        self.left = {record.device for record in left}


# --- section 3.8: the view

class View:
    """Who counts."""

    def __init__(self, network):
        self.net, self.ops = network, network.ops
        self.in_order = list(network.ops.values())  # the file is in op order
        self.judge()
        self.titles = [t for op in self.in_order for t in [self.title(op)] if t]
        self.settled = self.effective()
        self.invites()
        self.joiners()
        self.register()

    def understood(self, op):
        ext = op.body.ext if op.body else []
        return (op.kind in range(1, 10) or op.kind >= 0x8000) and not demands(op.ext + ext)

    def clears(self, grant, revoke):
        """3.8.11: given in knowledge of the revocation, by somebody at least as senior."""
        return grant.past >> revoke.place & 1 and grant.level <= revoke.level

    def judge(self):
        """3.8.3: what rests on something and is struck by nobody, from the most senior on."""
        self.IN, self.revocations = {self.net.genesis.id}, {}
        for op in sorted(self.in_order[1:], key=lambda op: (op.level, op.id)):
            cited = self.ops[op.authority]
            base = cited is self.net.genesis or (cited.id in self.IN and self.understood(cited))
            if base and not any(self.strikes(r, op) for r in self.revocations.get(op.author, [])):
                self.IN.add(op.id)
                if op.kind == REVOKE and self.understood(op):
                    self.revocations.setdefault(op.body.device, []).append(op)

    def strikes(self, revoke, op):
        if revoke.level >= op.level or self.clears(self.ops[op.authority], revoke):
            return False
        cut = (revoke.parents, revoke.body.heads, [])[revoke.body.cut]
        kept = any(op.id == head or self.ops[head].past >> op.place & 1 for head in cut)
        return not kept and op.id not in revoke.body.spare

    def counts(self, op):
        return op.id in self.IN and self.understood(op)

    def title(self, op):
        """3.8.4."""
        if op is self.net.genesis:
            g = op.body
            t = SimpleNamespace(
                device=g.founder, level=1, name=g.founder_name, ipv4=g.founder_ipv4, tags=[],
                owner=g.owner, expires=None, invite=None,
            )
        elif op.kind == GRANT and self.counts(op):
            g = op.body
            t = SimpleNamespace(
                device=g.device, level=g.level, name=g.name, ipv4=g.ipv4, tags=g.tags,
                owner=g.owner, expires=g.expires, invite=g.claim and g.claim.invite,
            )
        else:
            return None
        t.op, t.author = op, op.level
        keeping_out = (
            r for r in self.revocations.get(t.device, [])
            if r.level < t.level and not self.clears(op, r)
        )
        t.revoked = next(keeping_out, None)
        t.live = t.revoked is None and t.device not in self.net.left
        return t

    def effective(self):
        """3.8.5."""
        best = {}
        for rank, t in enumerate(self.titles):
            key = (t.level, t.author, -rank)
            if t.live and (t.device not in best or key < best[t.device][0]):
                best[t.device] = (key, t)
        return {device: t for device, (_, t) in best.items()}

    def invites(self):
        """3.8.7, the invites."""
        live = {t.op.id for t in self.titles if t.live}
        closed = {op.body.invite for op in self.in_order if op.kind == CLOSE and self.counts(op)}
        self.open, self.used = set(), {}
        for t in self.titles:
            if t.invite:
                self.used.setdefault(t.invite, set()).add(t.device)
        for op in self.in_order:
            burnt = any(d in self.revocations for d in self.used.get(op.id, ()))
            sound = op.kind == INVITE and self.counts(op) and op.authority in live
            if sound and op.id not in closed and not burnt:
                self.open.add(op.id)

    def joiners(self):
        """3.8.7, who waits, and how."""
        titled = {t.device for t in self.titles}
        waiting = {}
        for admit in self.net.admits:
            c = admit.claim
            out = c.device in titled | self.net.left or c.device in self.revocations
            clear = not demands(admit.ext) and not demands(c.ext)
            if not out and clear and c.witness in self.settled:
                # A device counts once, however many witnesses it had; admits come by id.
                waiting.setdefault(c.invite, {}).setdefault(c.device, admit)
        self.joining = {}
        for invite, admits in waiting.items():
            terms, used = self.ops[invite].body, len(self.used.get(invite, ()))
            if invite not in self.open or terms.approve or used >= terms.uses:
                standing = PENDING
            elif used + len(admits) > terms.uses:
                standing = QUARANTINED
            else:
                standing = PROVISIONAL
            for device, admit in admits.items():
                new = (standing, admit.id, admit)
                if device not in self.joining or new[:2] < self.joining[device][:2]:
                    self.joining[device] = new

    def register(self):
        """3.8.6: names and addresses, seniors' claims first."""
        self.names, self.ipv4s, self.members = {}, {}, {}
        met = {}
        for t in sorted(self.titles, key=lambda t: t.author):
            assignable = self.assignable(t.ipv4) or (t.author == 0 and self.in_range(t.ipv4))
            if not t.live:
                self.take(self.names, t.name, t)
                if assignable:
                    self.take(self.ipv4s, t.ipv4, t)
                continue
            got = met.setdefault(t.device, SimpleNamespace(wished=t.name, name=None, ipv4=None))
            if got.name is None and self.take(self.names, t.name, t):
                got.name = t.name
            if got.ipv4 is None and assignable and self.take(self.ipv4s, t.ipv4, t):
                got.ipv4 = t.ipv4
        for device, got in met.items():
            name = got.name or self.free_name(device, got.wished)
            ipv4 = self.free_ipv4(device) if got.ipv4 is None else got.ipv4
            t = self.settled[device]
            self.member(device, name, ipv4, t.level, SETTLED, t.tags, t.owner)
        for standing, _, admit in sorted(self.joining.values(), key=lambda j: j[:2]):
            device, terms = admit.claim.device, self.ops[admit.claim.invite].body
            name = self.free_name(device, terms.name or admit.claim.name)
            ipv4 = self.free_ipv4(device) if standing == PROVISIONAL else None
            self.member(device, name, ipv4, 255, standing, terms.tags, terms.owner)

    def take(self, book, entry, title):
        """Whether a title gets an entry; who holds it is (device, reserved)."""
        holder = book.get(entry)
        if holder and holder[0] != title.device:
            revokes = self.revocations.get(holder[0], [])
            knew = any(title.op.past >> r.place & 1 for r in revokes)
            if not (holder[1] and title.live and knew):
                return False
        used = holder is not None and holder[0] == title.device and not holder[1]
        book[entry] = (title.device, not title.live and not used)
        return True

    def free(self, book, entry, device):
        return entry not in book or book[entry][0] == device

    def free_name(self, device, wished):
        name, count = wished, 1
        while not self.free(self.names, name, device):
            suffix = base32(device)[:4] + (f"-{count}" if count > 1 else "")
            name = f"{wished[: 62 - len(suffix)].rstrip('-')}-{suffix}"
            count += 1
        self.names[name] = (device, False)
        return name

    def free_ipv4(self, device):
        for i in range(4096):
            address = self.candidate(device, i)
            if self.free(self.ipv4s, address, device):
                self.ipv4s[address] = (device, False)
                return address
        return None

    def candidate(self, device, i):
        g = self.net.genesis
        seed = g.network + device + i.to_bytes(4, "little")
        for block in DK_stream("meshnode ipv4 candidate 1", seed):
            for at in range(0, 64, 4):
                word = int.from_bytes(block[at : at + 4], "little")
                if self.assignable(g.body.base + word % g.body.size):
                    return g.body.base + word % g.body.size
        raise AssertionError("the stream has no end")

    def in_range(self, address):
        return 0 <= address - self.net.genesis.body.base < self.net.genesis.body.size

    def assignable(self, address):
        """6.5."""
        g = self.net.genesis.body
        foreign = False
        for text in ("100.100.100.0/24", "100.115.92.0/23"):
            block = ipaddress.ip_network(text)
            inside = ipaddress.ip_address(g.base) in block
            foreign |= ipaddress.ip_address(address) in block and not inside
        offset = address - g.base
        return (
            self.in_range(address) and offset >= min(256, g.size // 4)
            and address & 255 not in (0, 255) and not foreign
        )

    def member(self, device, name, ipv4, level, standing, tags, owner):
        raw = b"\xfd" + DK("meshnode ipv6 network 1", self.net.genesis.id)[:5]
        raw += DK("meshnode ipv6 device 1", device)[:10]
        self.members[device] = {
            "id": base32(device), "name": name, "level": level, "standing": STANDINGS[standing],
            "ipv4": None if ipv4 is None else str(ipaddress.ip_address(ipv4)),
            "ipv6": str(ipaddress.ip_address(raw)), "tags": tags, "owner": owner,
        }

    def out(self):
        """Devices that a revocation keeps out, each with the one that is told."""
        out = {t.device: t.revoked for t in self.titles if t.revoked}
        titled = {t.device for t in self.titles}
        for device in {admit.claim.device for admit in self.net.admits} - titled:
            if device in self.revocations:
                out[device] = self.revocations[device][0]
        return {device: r for device, r in sorted(out.items()) if device not in self.members}

    def epoch(self):
        """3.8.11: the highest number, then the lowest level, then the lowest id."""
        rekeys = [op for op in self.in_order if op.kind == REKEY and self.counts(op)]
        best = min(rekeys, key=lambda op: (-op.body.epoch, op.level, op.id), default=None)
        return (best.body.epoch, best.id) if best else (0, self.net.genesis.id)

    def policy(self):
        """Whether one exists, its base, its changes, and how many texts are missing."""
        lines, winner, changes, unread, fallen = {}, None, [], [], []
        for op in self.in_order:
            own = op.kind == POLICY_BASE
            lines[op.id] = max((lines[parent] for parent in op.parents), default=0) + own
            if op.kind not in (POLICY, POLICY_BASE):
                continue
            if op.id not in self.IN:
                fallen.append(op)
                continue
            read = self.understood(op) and not op.stub
            if not read:
                unread.append(op)
            if own and (not read or op.body):
                rank = (-lines[op.id], op.level, op.id)
                winner = min(winner or (rank, op), (rank, op), key=lambda item: item[0])
            elif read and op.body:
                changes.append(op)
        exists = self.net.genesis.body.closed or len(self.IN & self.policy_ids()) > 0
        exists |= any(r.past >> op.place & 1 for op in fallen for r in self.reaching(op))
        base = winner and winner[1]
        replaced = base.past if base else 0
        missing = [
            op for op in unread
            if not replaced >> op.place & 1 and (op.kind == POLICY or op is base)
        ]
        return {
            "exists": exists, "base": base and base32(base.id), "missing": len(missing),
            "changes": [base32(op.id) for op in changes if base and op.body.base == base.id],
        }

    def policy_ids(self):
        return {op.id for op in self.in_order if op.kind in (POLICY, POLICY_BASE)}

    def reaching(self, op):
        """The revocations that reach an op, or one that it rests on."""
        while op is not self.net.genesis:
            yield from (r for r in self.revocations.get(op.author, []) if r.level < op.level)
            op = self.ops[op.authority]

    def report(self):
        net, (epoch, epoch_op) = self.net, self.epoch()
        parents = {parent for op in self.in_order for parent in op.parents}
        kind = lambda op: KINDS[op.kind - 1] if op.kind in range(1, 10) else "unknown"
        return {
            "network": {
                "name": net.genesis.body.name, "id": base32(net.genesis.network),
                "genesis": base32(net.genesis.id),
            },
            "ops": len(net.ops), "admits": len(net.admits), "records": len(net.records),
            "heads": [base32(key) for key in sorted(set(net.ops) - parents)],
            "epoch": epoch, "epoch_op": base32(epoch_op), "policy": self.policy(),
            "members": [self.members[device] for device in sorted(self.members)],
            "revoked": [
                {"id": base32(device), "op": base32(r.id)} for device, r in self.out().items()
            ],
            "void": [
                {"id": base32(op.id), "kind": kind(op)}
                for op in self.in_order if not self.counts(op)
            ],
        }


def read(name):
    with open(name, "rb") as file:
        data = file.read()
    try:
        return View(Network(data)).report()
    except Bad as error:
        return {"error": str(error)}


def main():
    bad = False
    for name in sys.argv[1:]:
        report = read(name)
        bad |= "error" in report
        print(json.dumps(report))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
