# SPDX-License-Identifier: GPL-2.0
"""The cases of tests/tuf.

A case gets a good repository and makes it what it tests. At each `yield` the clients update, and must accept; then it
goes on, and its end is judged. With `forged` unset it makes the good one, which differs by one thing.
"""

import copy
import hashlib
import inspect
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from securesystemslib.formats import encode_canonical

from tuf_repository import ENDLESS, PAST, soon, wait_for

# A verdict: what python-tuf raises, and the words of kcare.
KINDS = {
    "signature": (["UnsignedMetadataError"], r"valid signatures of \d+ of \d+ keys"),
    "rollback": (["BadVersionNumberError"], r"older than the trusted"),
    "version": (["BadVersionNumberError"], r"has version \d+ in place of \d+"),
    "expired": (["ExpiredMetadataError"], r"has expired"),
    "hash": (["LengthOrHashMismatchError"], r"has sha(256|512) [0-9a-f]+ in place of"),
    "length": (["LengthOrHashMismatchError"], r"has \d+ bytes in place of"),
    "too long": (["DownloadLengthMismatchError"], r"is longer than \d+ bytes"),
    "vanished": (["RepositoryError"], r"snapshot does not name"),
    "malformed": (["DeserializationError", "SerializationError", "RepositoryError"], r"malformed"),
    "not found": (["DownloadHTTPError"], r"the repository does not have"),
    "not offered": (["LookupError"], r"the repository does not offer"),
    "unreachable": (["DownloadHTTPError"], r"the server says 500"),
    "name": ([], r"does not do as a path"),
}
BOTH = ("python-tuf", "kcare")
PYTHON = ("python-tuf",)
CASES = []


@dataclass
class Case:
    """A repository and the verdicts on it; `about` is part of what kcare says."""

    name: str
    function: object
    python: str
    kcare: str
    about: str
    why: str
    generators: tuple
    # Why the trusted files differ afterwards, if they do.
    disk: str
    # Whether there is a good one beside it.
    forged: bool

    def run(self, repository, forged):
        result = self.function(repository, forged)
        if inspect.isgenerator(result):
            yield from result


def case(name, verdict="accept", kcare=None, about=None, why=None, generators=BOTH, disk=None):
    """Adds a case; `kcare` is its verdict where it differs, and `why` the reason."""
    def add(function):
        forged = "forged" in inspect.signature(function).parameters
        called = function if forged else lambda repository, _: function(repository)
        CASES.append(Case(name, called, verdict, kcare or verdict, about, why, generators, disk, forged))
        return function
    return add


# Good ones.

@case("a plain repository")
def plain(repo):
    pass


@case("a refresh without a download")
def no_download(repo):
    repo.wanted = []


@case("the same again, nothing has changed")
def again(repo):
    yield


@case("a new release")
def release(repo):
    yield
    repo.files["10.kpatch"] = b"another payload"
    repo.release()


@case("a target with another content under the same name")
def new_content(repo):
    yield
    repo.files["9.kpatch"] = b"another payload"
    repo.release()


@case("only the timestamp is new")
def timestamp_only(repo):
    yield
    repo.release("timestamp")


@case("thresholds of 2 of 3, each role signed by 2")
def thresholds(repo):
    for role in ("root", "timestamp", "snapshot", "targets"):
        repo.threshold(role, 2, [f"{role}{i}" for i in (1, 2, 3)], [f"{role}1", f"{role}3"])


@case("all roots from 1 to 6 at once")
def root_chain(repo):
    for i in range(5):
        repo.rotate("root", f"root{i + 2}")


@case("root by root")
def root_by_root(repo):
    for i in range(3):
        yield
        repo.rotate("root", f"root{i + 2}")


@case("all keys rotated")
def all_rotated(repo):
    yield
    repo.rotate("root", "root2")
    for role in ("timestamp", "snapshot", "targets"):
        repo.threshold(role, 1, [f"{role}2"])
    repo.release()


@case("an expired root with a good one behind it")
def intermediate_expired(repo):
    repo.rotate()
    repo.root.expires = PAST
    repo.rotate()
    repo.root.expires = repo.targets.expires


@case("keys: RSA-PSS", generators=PYTHON)
def rsa(repo):
    for role in ("root", "timestamp", "snapshot", "targets"):
        repo.threshold(role, 1, [f"rsa-{role}"])


@case("keys: ECDSA P-256", generators=PYTHON)
def ecdsa(repo):
    for role in ("root", "timestamp", "snapshot", "targets"):
        repo.threshold(role, 1, [f"ecdsa-{role}"])


@case("keys: ECDSA with key type ecdsa-sha2-nistp256", generators=PYTHON)
def ecdsa_type(repo):
    repo.threshold("targets", 1, ["ecdsa-targets"])

    def change(signed):
        signed["keys"][repo.keys.id("ecdsa-targets")]["keytype"] = "ecdsa-sha2-nistp256"
    repo.tweak("root", change)


@case("keys: one of each kind, 3 of 3", generators=PYTHON)
def mixed(repo):
    repo.threshold("root", 3, ["root1", "rsa-root", "ecdsa-root"])
    repo.threshold("targets", 3, ["targets1", "rsa-targets", "ecdsa-targets"])


@case("hashes: SHA-512 alone", generators=PYTHON)
def sha512(repo):
    repo.hashes = ["sha512"]


@case("hashes: SHA-256 and SHA-512", generators=PYTHON)
def sha256_and_sha512(repo):
    repo.hashes = ["sha256", "sha512"]


@case("no consistent snapshot")
def inconsistent(repo):
    repo.root.consistent = False
    yield
    repo.files["9.kpatch"] = b"another payload"
    repo.release()


@case("consistent_snapshot is missing in root", generators=PYTHON)
def inconsistent_by_silence(repo):
    repo.root.consistent = False
    repo.tweak("root", lambda signed: signed.pop("consistent_snapshot") and None)


@case("neither lengths nor hashes in timestamp and snapshot", generators=PYTHON)
def tells_nothing(repo):
    repo.tells = False
    yield
    repo.release()


@case("fields that nobody knows", generators=PYTHON)
def unrecognised(repo):
    for role in ("root", "timestamp", "snapshot", "targets"):
        repo.tweak(role, lambda signed: signed.update(x={"ä": [None, True, -1, "\n\"\\", {}]}, _y="z"))


@case("levels that were withdrawn", generators=PYTHON)
def withdrawn(repo):
    repo.tweak("targets", lambda signed: signed.update(withdrawn={"2": "2026-11-30T12:00:00Z", "10": "2026-12-01T00:00:00Z"}))


@case("custom data of a target", generators=PYTHON)
def custom(repo):
    def change(signed):
        signed["targets"]["9.kpatch"]["custom"] = {"level": 9, "titles": ["für alle", "x\ty"], "none": None}
    repo.tweak("targets", change)


@case("spec_version 1.99", generators=PYTHON)
def spec_1_99(repo):
    repo.tweak("timestamp", lambda signed: signed.update(spec_version="1.99"))


@case("target names with odd characters")
def odd_names(repo):
    names = ["a b", "a+b", "ä/ö.kpatch", "a/b/c", "a&b=c;d", "it's", '"quoted"', "~x", "(x)", "a@b:c", "-x", "[x]",
             "a,b", "<x>", "{x}", "x^y", "x`y", "x|y", "...", "..x"]
    repo.files = {name: name.encode() for name in names}


@case("target names with percent-encoding", generators=PYTHON)
def percent_names(repo):
    repo.files = {"a%20b": b"blank"}
    # The server decodes the path.
    repo.extra = {f"files/{hashlib.sha256(b'blank').hexdigest()}.a b": b"blank"}


@case("an empty target file")
def empty_target(repo):
    repo.files["empty"] = b""


@case("targets with delegations", generators=PYTHON)
def delegations(repo):
    def change(signed):
        signed["delegations"] = {"keys": {}, "roles": [{"name": "x", "keyids": [], "threshold": 1, "terminating": False,
                                                       "paths": ["other/*"]}]}
    repo.tweak("targets", change)


@case("a target of a delegated role", "not found", "not offered", generators=PYTHON,
      why="kcare does not follow delegations; python-tuf asks for the role, which this repository does not have")
def delegated(repo, forged):
    delegations(repo)
    # Listed, so that it is the role's own file that is missing.
    repo.tweak("snapshot", lambda signed: signed["meta"].update({"x.json": {"version": 1}}))
    repo.wanted = ["other/x" if forged else "9.kpatch"]


@case("a signature of a key that root does not list")
def foreign_signature(repo):
    repo.timestamp.signers = ["timestamp1", "stranger"]


@case("a signature that is no hexadecimal number, beside a good one", generators=PYTHON)
def not_hex(repo):
    repo.threshold("timestamp", 1, ["timestamp1", "timestamp2"])

    def change(file):
        file["signatures"][1]["sig"] = "none"
    repo.edit_json("metadata/timestamp.json", change)


@case("a key id that root does not define", generators=PYTHON)
def undefined_key(repo):
    def change(signed):
        signed["roles"]["timestamp"]["keyids"].append("0" * 64)
    repo.tweak("root", change)


@case("metadata with spaces, and in another order")
def other_form(repo):
    for role in ("root", "timestamp"):
        repo.edit_json(repo.path(role), lambda file: file["signed"].update(expires=file["signed"].pop("expires")))


@case("403 for the next root")
def forbidden(repo):
    repo.edit("metadata/2.root.json", 403)


@case("recovery from a fast-forward attack on the timestamp")
def recover_timestamp(repo):
    repo.timestamp.version = 1 << 40
    yield
    repo.rotate("timestamp", "timestamp2")
    repo.timestamp.version = 1


@case("recovery from a fast-forward attack on the snapshot")
def recover_snapshot(repo):
    repo.snapshot.version = 1 << 40
    yield
    repo.rotate("snapshot", "snapshot2")
    repo.threshold("timestamp", 1, ["timestamp2"])
    repo.snapshot.version = 1
    repo.timestamp.version = 1


@case("recovery from a fast-forward attack on the targets")
def recover_targets(repo):
    repo.targets.version = 1 << 40
    yield
    repo.rotate("snapshot", "snapshot2")
    repo.targets.version = 1
    repo.release("timestamp", "snapshot")


@case("recovery with a new snapshot key alone", "rollback", "accept",
      why="the specification (5.3.11) forgets timestamp and snapshot when the keys of either changed; python-tuf keeps "
          "a timestamp that its keys still verify", disk="kcare went on")
def recover_by_snapshot_key(repo, forged):
    repo.snapshot.version = 5
    yield
    repo.rotate("snapshot", "snapshot2")
    repo.snapshot.version = 1 if forged else 6
    repo.release("timestamp")


@case("recovery when one of two timestamp keys stays", "rollback", "accept",
      why="the key that stays still verifies python-tuf's old timestamp; the specification forgets it", disk="as above")
def recover_partly(repo, forged):
    repo.threshold("timestamp", 1, ["timestamp1", "timestamp2"])
    repo.timestamp.version = 5
    yield
    repo.rotate("timestamp", "timestamp1", "timestamp3")
    repo.timestamp.version = 1 if forged else 6


@case("a key is added, and the version falls", "rollback", about="timestamp")
def key_added(repo, forged):
    repo.timestamp.version = 5
    yield
    repo.rotate("timestamp", "timestamp1", "timestamp2")
    repo.timestamp.version = 1 if forged else 6


@case("an update breaks off before the targets", "not found", about="targets")
def interrupted(repo, forged):
    yield
    repo.release()
    if forged:
        repo.edit(repo.path("targets"), 404)


@case("an update goes on that broke off before")
def goes_on(repo):
    yield
    repo.release()
    repo.edit(repo.path("targets"), 404)
    yield "not found"
    repo.edits.clear()


# Thresholds and signatures.

def one_of_two(role):
    def run(repo, forged):
        if role == "root":
            yield
            repo.rotate("root", "root1", "root2", threshold=2)
            repo.root.signers = ["root1"] if forged else ["root1", "root2"]
        else:
            repo.threshold(role, 2, [f"{role}1", f"{role}2"], [f"{role}1"] if forged else None)
    return run


def other_key(role):
    def run(repo, forged):
        yield
        if role == "root":
            repo.rotate("root", "root1")
        else:
            repo.release(*{role, "timestamp", "snapshot"})
        if forged:
            repo.document(role).signers = ["stranger"]
    return run


def changed_after(role):
    def run(repo, forged):
        # The hashes would tell before the signature does.
        repo.tells = False
        yield
        if role == "root":
            repo.rotate()
        else:
            repo.release(role, "timestamp", "snapshot") if role == "targets" else repo.release("timestamp", "snapshot")
        if forged:
            repo.edit_json(repo.path(role), lambda file: file["signed"].update(expires="2098-01-01T00:00:00Z"))
    return run


def stolen_id(role):
    def run(repo, forged):
        repo.tells = False
        if role == "root":
            yield
            repo.rotate()
        if forged:
            repo.document(role).signers = ["stranger"]

            def change(file):
                file["signatures"][0]["keyid"] = repo.keys.id(f"{role}1")
            repo.edit_json(repo.path(role), change)
    return run


def no_signature(role):
    def run(repo, forged):
        repo.tells = False
        if role == "root":
            yield
            repo.rotate()
        if forged:
            repo.document(role).signers = []
    return run


for role in ("root", "timestamp", "snapshot", "targets"):
    case(f"{role}: 1 of 2 signatures", "signature", about=role)(one_of_two(role))
    case(f"{role}: signed by a key of nobody", "signature", about=role)(other_key(role))
    case(f"{role}: changed after it was signed", "signature", about=role, generators=PYTHON)(changed_after(role))
    case(f"{role}: a stranger's signature under the right id", "signature", about=role, generators=PYTHON)(
        stolen_id(role))
    case(f"{role}: no signature", "signature", about=role, generators=PYTHON)(no_signature(role))


@case("timestamp: signed by the key of the snapshot", "signature", about="timestamp")
def other_role(repo, forged):
    repo.timestamp.signers = ["snapshot1" if forged else "timestamp1"]


# What python-tuf leaves on disk there, it does not trust any more.
FORGOTTEN = "kcare removes a timestamp with its key"


@case("timestamp: signed by a revoked key", "signature", about="timestamp", disk=FORGOTTEN)
def revoked(repo, forged):
    yield
    repo.rotate("timestamp", "timestamp2")
    repo.release("timestamp")
    if forged:
        repo.timestamp.signers = ["timestamp1"]


@case("targets: signed by a revoked key", "signature", about="targets")
def revoked_targets(repo, forged):
    yield
    repo.rotate("targets", "targets2")
    repo.release()
    if forged:
        repo.targets.signers = ["targets1"]


@case("the stored timestamp's key is revoked, and there is no new one", "signature", about="timestamp", disk=FORGOTTEN)
def revoked_and_silent(repo, forged):
    yield
    repo.rotate("timestamp", "timestamp2")
    if forged:
        repo.timestamp.signers = ["timestamp1"]


@case("root: signed by the old key only", "signature", about="root")
def old_only(repo, forged):
    repo.rotate("root", "root2")
    if forged:
        repo.root.signers = ["root1"]


@case("root: signed by the new key only", "signature", about="root")
def new_only(repo, forged):
    repo.rotate("root", "root2")
    if forged:
        repo.root.signers = ["root2"]


@case("root: the third is signed by the keys of the first", "signature", about="root")
def by_the_first(repo, forged):
    repo.rotate("root", "root2")
    repo.rotate("root", "root3")
    if forged:
        repo.root.signers = ["root1", "root3"]


@case("root: more keys are demanded than there are", "signature", about="timestamp")
def unreachable_threshold(repo, forged):
    repo.rotate("timestamp", "timestamp1", threshold=2 if forged else 1)


@case("one key under two ids reaches no threshold of 2", "accept", "signature", about="timestamp", generators=PYTHON,
      why="python-tuf counts key ids; the specification counts keys", disk="python-tuf went on")
def same_key_twice(repo, forged):
    repo.threshold("timestamp", 2, ["timestamp1", "timestamp2"])

    def double(signed):
        signed["keys"][repo.keys.id("timestamp2")] = copy.deepcopy(signed["keys"][repo.keys.id("timestamp1")])

    def sign_twice(file):
        first, second = file["signatures"]
        second["sig"] = first["sig"]
    if forged:
        repo.tweak("root", double)
        repo.edit_json("metadata/timestamp.json", sign_twice)


@case("one key in another form reaches no threshold of 2", "accept", "signature", about="timestamp", generators=PYTHON,
      why="as above; the public key is in upper case once", disk="python-tuf went on")
def same_key_upper_case(repo, forged):
    repo.threshold("timestamp", 2, ["timestamp1", "timestamp2"])

    def double(signed):
        key = copy.deepcopy(signed["keys"][repo.keys.id("timestamp1")])
        key["keyval"]["public"] = key["keyval"]["public"].upper()
        signed["keys"][repo.keys.id("timestamp2")] = key

    def sign_twice(file):
        first, second = file["signatures"]
        second["sig"] = first["sig"]
    if forged:
        repo.tweak("root", double)
        repo.edit_json("metadata/timestamp.json", sign_twice)


@case("a key id twice in a role", "malformed", about="root", generators=PYTHON)
def id_twice(repo, forged):
    repo.rotate()

    def change(signed):
        ids = signed["roles"]["timestamp"]["keyids"]
        ids += ids if forged else []
    repo.tweak("root", change)


@case("a signature twice", "malformed", about="timestamp", generators=PYTHON)
def signature_twice(repo, forged):
    def change(file):
        file["signatures"] *= 2 if forged else 1
    repo.edit_json("metadata/timestamp.json", change)


def strange_key(repo, change):
    repo.rotate("timestamp", "timestamp1", "timestamp2")
    repo.timestamp.signers = ["timestamp1"]
    repo.tweak("root", lambda signed: change(signed["keys"][repo.keys.id("timestamp2")]))


@case("a key of unknown type beside a good one", "malformed", "accept", generators=PYTHON, disk="kcare went on",
      why="python-tuf 5.1 refuses a root with such a key; it just does not count, so that new types can come")
def unknown_type(repo, forged):
    strange_key(repo, lambda key: key.update(keytype="mlkem", scheme="mlkem-1") if forged else None)


@case("a key of unknown type whose signature is needed", "malformed", "signature", about="timestamp", generators=PYTHON,
      why="as above", disk="kcare has the new root")
def unknown_type_needed(repo, forged):
    repo.rotate("timestamp", "timestamp1", "timestamp2", threshold=2)
    repo.tweak("root", lambda signed: signed["keys"][repo.keys.id("timestamp2")].update(
        keytype="mlkem" if forged else "ed25519"))


@case("an Ed25519 key that is none, whose signature is needed", "signature", about="timestamp", generators=PYTHON)
def bad_key(repo, forged):
    repo.rotate("timestamp", "timestamp1", "timestamp2", threshold=2)
    repo.tweak("root", lambda signed: signed["keys"][repo.keys.id("timestamp2")]["keyval"].update(
        public="00" if forged else signed["keys"][repo.keys.id("timestamp2")]["keyval"]["public"]))


@case("an RSA-PSS signature with a longer salt", "accept", "signature", about="timestamp", generators=PYTHON,
      why="kcare wants a salt as long as the hash, as python-tuf and all others write it", disk="python-tuf went on")
def long_salt(repo, forged):
    repo.threshold("timestamp", 1, ["rsa-timestamp"])

    def change(file):
        private = repo.keys.signer("rsa-timestamp")._private_key
        salt = padding.PSS.MAX_LENGTH if forged else padding.PSS.DIGEST_LENGTH
        message = encode_canonical(file["signed"]).encode()
        sig = private.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())
        file["signatures"][0]["sig"] = sig.hex()
    repo.edit_json("metadata/timestamp.json", change)


# Expiry.

def expired(role):
    def run(repo, forged):
        if role == "root":
            repo.rotate()
        if forged:
            repo.document(role).expires = PAST
    return run


for role in ("root", "timestamp", "snapshot", "targets"):
    case(f"{role}: expired", "expired", about=role)(expired(role))


@case("root: the initial one has expired, and there is no other", "expired", about="root")
def initial_expired(repo, forged):
    if forged:
        repo.root.expires = PAST


@case("a frozen timestamp: the same as before, and now over", "expired", about="timestamp")
def frozen(repo, forged):
    end = soon()
    if forged:
        repo.timestamp.expires = end
    yield
    wait_for(end)


@case("frozen targets: the same as before, and now over", "expired", about="targets")
def frozen_targets(repo, forged):
    end = soon()
    if forged:
        repo.targets.expires = end
    yield
    wait_for(end)
    repo.release("timestamp")


# Versions that fall, skip or do not fit.

@case("timestamp: version falls", "rollback", about="timestamp")
def timestamp_rollback(repo, forged):
    repo.timestamp.version = 5
    yield
    repo.timestamp.version = 4 if forged else 6


@case("timestamp: names an older snapshot", "rollback", about="timestamp")
def snapshot_rollback(repo, forged):
    repo.snapshot.version = 5
    yield
    repo.release("timestamp")
    repo.snapshot.version = 4 if forged else 6


@case("snapshot: names older targets", "rollback", about="snapshot")
def targets_rollback(repo, forged):
    repo.targets.version = 5
    yield
    repo.release("timestamp", "snapshot")
    repo.targets.version = 4 if forged else 6


@case("snapshot: names older targets, and hashes are not told", "rollback", about="snapshot", generators=PYTHON)
def targets_rollback_bare(repo, forged):
    repo.tells = False
    repo.targets.version = 5
    yield
    repo.release("timestamp", "snapshot")
    repo.targets.version = 4 if forged else 6


@case("snapshot: a targets file vanishes", "vanished", about="role1.json", generators=PYTHON)
def vanished(repo, forged):
    repo.tweak("snapshot", lambda signed: signed["meta"].update({"role1.json": {"version": 3}}))
    yield
    repo.release("timestamp", "snapshot")
    if forged:
        repo.tweak("snapshot", None)


@case("snapshot: another targets file is older", "rollback", about="role1.json", generators=PYTHON)
def other_rollback(repo, forged):
    repo.tweak("snapshot", lambda signed: signed["meta"].update({"role1.json": {"version": 3}}))
    yield
    repo.release("timestamp", "snapshot")
    repo.tweak("snapshot", lambda signed: signed["meta"].update({"role1.json": {"version": 2 if forged else 3}}))


@case("snapshot: does not name targets.json", "vanished", about="targets.json", generators=PYTHON)
def no_targets(repo, forged):
    if forged:
        repo.tweak("snapshot", lambda signed: signed.update(meta={"role1.json": {"version": 1}}))


def in_place_of(role):
    def run(repo, forged):
        # The file has its name, so that it is the content that is wrong.
        repo.tells = False
        if role == "root":
            repo.rotate()
        if forged:
            repo.tweak(role, lambda signed: signed.update(version=7))
    return run


for role in ("root", "snapshot", "targets"):
    case(f"{role}: another version than announced", "version", about=role, generators=PYTHON)(in_place_of(role))


@case("root: the next one has the same version", "version", about="root", generators=PYTHON)
def root_same(repo, forged):
    repo.rotate()
    if forged:
        repo.tweak("root", lambda signed: signed.update(version=1))


@case("root: 2 is left out, so that 3 is not found", "signature", about="timestamp")
def root_skipped(repo, forged):
    yield
    repo.rotate("timestamp", "timestamp2")
    repo.rotate("root", "root2")
    repo.release("timestamp")
    if forged:
        repo.edit("metadata/2.root.json", None)


@case("root: 3 under the name of 2", "version", about="root")
def root_renamed(repo, forged):
    repo.rotate()
    repo.rotate()
    if forged:
        tree = {}
        repo.edit("metadata/3.root.json", lambda data: tree.setdefault(3, data))
        repo.edits = {"metadata/3.root.json": repo.edits["metadata/3.root.json"],
                      "metadata/2.root.json": lambda data: tree[3]}


# Mix and match, hashes and lengths.

@case("mix and match: the old snapshot under the new name", "hash", about="snapshot")
def old_snapshot(repo, forged):
    kept = {}
    repo.edit(repo.path("snapshot"), lambda data: kept.setdefault("old", data))
    yield
    repo.edits.clear()
    repo.release("timestamp", "snapshot")
    if forged:
        repo.edit(repo.path("snapshot"), lambda data: kept["old"])


@case("mix and match: the old targets under the new name", "hash", about="targets")
def old_targets(repo, forged):
    kept = {}
    repo.edit(repo.path("targets"), lambda data: kept.setdefault("old", data))
    yield
    repo.edits.clear()
    repo.release()
    if forged:
        repo.edit(repo.path("targets"), lambda data: kept["old"])


@case("mix and match: the old snapshot, and hashes are not told", "version", about="snapshot", generators=PYTHON)
def old_snapshot_bare(repo, forged):
    repo.tells = False
    yield from old_snapshot(repo, forged)


@case("mix and match: the snapshot in place of the timestamp", "malformed", "signature", about="timestamp",
      why="python-tuf reads what is signed before it verifies, kcare afterwards")
def swapped(repo, forged):
    kept = {}
    if forged:
        repo.edit(repo.path("snapshot"), lambda data: kept.setdefault("snapshot", data))
        repo.edit(repo.path("timestamp"), lambda data: kept["snapshot"])


@case("mix and match: a timestamp and a snapshot that one key may sign", "malformed", about="timestamp")
def swapped_one_key(repo, forged):
    repo.threshold("snapshot", 1, ["timestamp1"])
    swapped(repo, forged)


def other_bytes(role):
    def run(repo, forged):
        if forged:
            repo.edit(repo.path(role), lambda data: data.replace(b"2099-01-01", b"2098-01-01"))
    return run


def longer(role):
    def run(repo, forged):
        if forged:
            repo.edit(repo.path(role), lambda data: data + b" ")
    return run


def shorter(role):
    def run(repo, forged):
        if forged:
            repo.edit(repo.path(role), lambda data: data[:-1])
    return run


for role in ("snapshot", "targets"):
    case(f"{role}: another content of the same length", "hash", about=role)(other_bytes(role))
    case(f"{role}: one byte longer than announced", "too long", about=role)(longer(role))
    case(f"{role}: one byte shorter than announced", "length", about=role)(shorter(role))


@case("snapshot: another content at the same version, signed", generators=PYTHON,
      disk="python-tuf keeps what it has; kcare gets what the timestamp names")
def resigned_snapshot(repo, forged):
    yield
    repo.release("timestamp")
    if forged:
        repo.tweak("snapshot", lambda signed: signed.update(expires="2098-01-01T00:00:00Z"))


@case("a target file with another content", "hash", about="9.kpatch")
def target_content(repo, forged):
    if forged:
        repo.edit(repo.target_path("9.kpatch"), lambda data: data[:-1] + b"X")


@case("a target file with another content, SHA-512 alone", "hash", about="9.kpatch", generators=PYTHON)
def target_content_sha512(repo, forged):
    repo.hashes = ["sha512"]
    target_content(repo, forged)


@case("a target file that is longer", "too long", about="9.kpatch")
def target_longer(repo, forged):
    if forged:
        repo.edit(repo.target_path("9.kpatch"), lambda data: data + b"X")


@case("a target file that is shorter", "length", about="9.kpatch")
def target_shorter(repo, forged):
    if forged:
        repo.edit(repo.target_path("9.kpatch"), lambda data: data[:-1])


@case("a target file without consistent snapshot, with another content", "hash", about="9.kpatch")
def target_content_inconsistent(repo, forged):
    repo.root.consistent = False
    target_content(repo, forged)


@case("a target file with the right SHA-256 and the wrong SHA-512", "hash", about="sha512", generators=PYTHON)
def one_hash_wrong(repo, forged):
    repo.hashes = ["sha256", "sha512"]
    if forged:
        repo.tweak("targets", lambda signed: signed["targets"]["9.kpatch"]["hashes"].update(sha512="0" * 128))


def endless(path):
    def run(repo, forged):
        if "root" in path:
            repo.rotate()
        if forged:
            repo.edit(repo.target_path("9.kpatch") if path.startswith("files") else path, ENDLESS)
    return run


for path in ("metadata/2.root.json", "metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json",
             "files/9.kpatch"):
    case(f"endless data: {path}", "too long", about=path.split("/")[1])(endless(path))


def endless_bare(role):
    def run(repo, forged):
        repo.tells = False
        if forged:
            repo.edit(repo.path(role), ENDLESS)
    return run


for role in ("snapshot", "targets"):
    case(f"endless data: {role}, whose length is not told", "too long", about=role, generators=PYTHON)(
        endless_bare(role))


# What is missing.

def missing(role):
    def run(repo, forged):
        if forged:
            repo.edit(repo.path(role), None)
    return run


for role in ("timestamp", "snapshot", "targets"):
    case(f"{role}: missing", "not found", about=role)(missing(role))


@case("a target file that is missing", "not found", about="9.kpatch")
def missing_target(repo, forged):
    if forged:
        repo.edit(repo.target_path("9.kpatch"), None)


@case("a target that is not offered", "not offered", about="8.kpatch")
def not_offered(repo, forged):
    repo.wanted = ["8.kpatch" if forged else "9.kpatch"]


@case("the server fails at the next root", "unreachable", about="2.root.json")
def broken_server(repo, forged):
    repo.edit("metadata/2.root.json", 500 if forged else 404)


# What is malformed, although signed. The good one has the field as it should be.

def field(role, change):
    def run(repo, forged):
        if role == "root":
            repo.rotate()
        if forged:
            repo.tweak(role, change)
    return run


def signed_file(name, role, change, verdict="malformed", **more):
    case(f"{role}: {name}", verdict, about=None if more else role, generators=PYTHON, **more)(field(role, change))


def update(**fields):
    return lambda signed: signed.update(fields)


for role in ("root", "timestamp", "snapshot", "targets"):
    signed_file("wrong _type", role, update(_type="mirrors"))
    signed_file("spec_version 2.0.0", role, update(spec_version="2.0.0"))
    signed_file("version 0", role, update(version=0))
    signed_file("no expiry", role, lambda signed: signed.pop("expires") and None)
signed_file("spec_version 1", "timestamp", update(spec_version="1"))
signed_file("version -1", "timestamp", update(version=-1))
signed_file("version is a text", "timestamp", update(version="1"))
signed_file("expires with a zone", "timestamp", update(expires="2099-01-01T00:00:00+00:00"))
signed_file("expires on a day that does not exist", "timestamp", update(expires="2099-02-30T00:00:00Z"))
signed_file("expires with a fraction", "timestamp", update(expires="2099-01-01T00:00:00.5Z"))
signed_file("no meta", "timestamp", lambda signed: signed.pop("meta") and None)
signed_file("no snapshot.json", "timestamp", update(meta={}))
signed_file("snapshot version 0", "timestamp", lambda signed: signed["meta"]["snapshot.json"].update(version=0))
signed_file("targets version 0", "snapshot", lambda signed: signed["meta"]["targets.json"].update(version=0))
signed_file("no hash at all", "snapshot", lambda signed: signed["meta"]["targets.json"].update(hashes={}))
signed_file("negative length", "targets", lambda signed: signed["targets"]["9.kpatch"].update(length=-1))
signed_file("no length", "targets", lambda signed: signed["targets"]["9.kpatch"].pop("length") and None)
signed_file("no hashes", "targets", lambda signed: signed["targets"]["9.kpatch"].pop("hashes") and None)
LATER = {"kcare": "malformed", "disk": "python-tuf has the targets",
         "why": "python-tuf looks at the hash when it asks for the file, and finds none of that name"}
signed_file("unknown hash alone", "targets", lambda signed: signed["targets"]["9.kpatch"].update(hashes={"crc32": "0"}),
            "not found", **LATER)
signed_file("hash in upper case", "targets", lambda signed: signed["targets"]["9.kpatch"]["hashes"].update(
    sha256="ABCDEF" + "0" * 58), "not found", **LATER)
signed_file("threshold 0", "root", lambda signed: signed["roles"]["timestamp"].update(threshold=0))
signed_file("threshold -1", "root", lambda signed: signed["roles"]["timestamp"].update(threshold=-1))
signed_file("a role too many", "root", lambda signed: signed["roles"].update(mirrors={"keyids": [], "threshold": 1}))
signed_file("a role is missing", "root", lambda signed: signed["roles"].pop("snapshot") and None)
signed_file("a key without scheme", "root", lambda signed: next(iter(signed["keys"].values())).pop("scheme") and None)
signed_file("a number that is not whole", "timestamp", update(version=1.0))


def written(name, change, verdict="malformed", **more):
    """A file that is spoilt where no signature tells, but for its own form."""
    def run(repo, forged):
        if forged:
            repo.edit("metadata/timestamp.json", change)
    case(f"timestamp: {name}", verdict, about="timestamp" if not more else None, generators=PYTHON, **more)(run)


written("not JSON", lambda data: data[:-2])
written("empty", lambda data: b"")
written("a list", lambda data: b"[" + data + b"]")
written("not UTF-8", lambda data: data[:-1] + b',"x":"\xff"}')
written("something behind it", lambda data: data + b"x")
written("no signatures", lambda data: data.replace(b'"signatures"', b'"signatur"'))
written("nested too deeply", lambda data: data[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}")
written("a name twice", lambda data: data[:-1] + b',"signatures":[]}', "signature", kcare="malformed",
        why="python-tuf takes the last of the two, which has no signature; kcare refuses what is ambiguous")
written("a name twice, the right one last", lambda data: b'{"signed":{},' + data[1:], "accept", kcare="malformed",
        why="python-tuf takes the last of the two; kcare refuses what is ambiguous", disk="python-tuf went on")


@case("a whole number beyond 64 bits", "accept", "malformed", generators=PYTHON, disk="python-tuf went on",
      why="kcare has numbers of 64 bits, and refuses what it cannot write again")
def big_number(repo, forged):
    repo.tweak("timestamp", lambda signed: signed.update(x=1 << 70 if forged else 1 << 60))


@case("a version of 2^63 and more", "accept", "malformed", generators=PYTHON, disk="python-tuf went on",
      why="kcare refuses versions above 2^63")
def big_version(repo, forged):
    repo.tweak("timestamp", lambda signed: signed.update(version=(1 << 63) + 1 if forged else 1 << 63))


@case("an unknown hash beside a known one", "hash", "accept", generators=PYTHON, disk="kcare has the file",
      why="python-tuf refuses it; kcare looks at the hashes that it knows, so that new ones can come")
def unknown_hash(repo, forged):
    repo.wanted = ["9.kpatch"]
    repo.tweak("targets", lambda signed: signed["targets"]["9.kpatch"]["hashes"].update(
        {"zz-new": "00"} if forged else {}))


@case("a month of one digit", "signature", "malformed", generators=PYTHON,
      why="python-tuf understands it, but writes two digits when it verifies")
def one_digit(repo, forged):
    repo.tweak("timestamp", lambda signed: signed.update(expires="2099-1-01T00:00:00Z" if forged else
                                                         "2099-01-01T00:00:00Z"))


@case("a target's name that leads out of the base", "accept", "name", generators=PYTHON, disk="python-tuf has the file",
      why="python-tuf asks for it, as its URL says, outside of the base; kcare does not")
def dots(repo, forged):
    name = "../x" if forged else "a/x"
    repo.files = {name: b"x"}
    if forged:
        digest = hashlib.sha256(b"x").hexdigest()
        repo.extra = {f"{digest}.x": b"x"}


@case("a target's name with a question mark", "not found", "accept", generators=PYTHON, disk="kcare has the file",
      why="python-tuf takes what follows for a query; kcare encodes it")
def question_mark(repo, forged):
    repo.files = {"a?b" if forged else "a.b": b"x"}

