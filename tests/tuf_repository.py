# SPDX-License-Identifier: GPL-2.0
"""A TUF repository as tests describe it, written by python-tuf or by kcare's own code, and a server for it."""

import copy
import datetime
import hashlib
import http.server
import json
import subprocess
import threading
import time
import urllib.parse
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp

ROLES = ("root", "timestamp", "snapshot", "targets")
FAR = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


def soon():
    """A time that is over after `wait_for` it."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(seconds=3)


def wait_for(moment):
    """Returns when that second has begun."""
    while datetime.datetime.now(datetime.timezone.utc) <= moment:
        time.sleep(0.05)


class Keys:
    """Private keys by name, made when they are first asked for; the name's beginning tells the type."""

    def __init__(self, folder):
        self.folder, self.signers = folder, {}

    def signer(self, name):
        """For python-tuf."""
        if name not in self.signers:
            if name.startswith("rsa"):
                private = rsa.generate_private_key(65537, 2048)
            elif name.startswith("ecdsa"):
                private = ec.generate_private_key(ec.SECP256R1())
            else:
                private = ed25519.Ed25519PrivateKey.generate()
            pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                        serialization.NoEncryption())
            self.path(name).write_bytes(pem)
            self.signers[name] = CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
        return self.signers[name]

    def id(self, name):
        return self.signer(name).public_key.keyid

    def path(self, name):
        return self.folder / f"{name}.pem"


@dataclass
class Document:
    """One document: its version, when it expires, and who signs it."""

    version: int = 1
    expires: datetime.datetime = FAR
    signers: list = field(default_factory=list)
    # Changes what is signed; python-tuf's side only.
    tweak: object = None


@dataclass
class RootDocument(Document):
    """A root: for each role the threshold and the names of the keys."""

    roles: dict = field(default_factory=dict)
    consistent: bool = True


class Repository:
    """A description; `render` makes files of it. All that a test does not change is good."""

    def __init__(self, keys, generator):
        self.keys, self.generator = keys, generator
        roles = {role: (1, [f"{role}1"]) for role in ROLES}
        self.roots = [RootDocument(signers=["root1"], roles=roles)]
        self.timestamp = Document(signers=["timestamp1"])
        self.snapshot = Document(signers=["snapshot1"])
        self.targets = Document(signers=["targets1"])
        self.files = {"9.kpatch": b"a payload" * 100, "9.fixes.json": b"{}"}
        self.hashes = ["sha256"]
        # Whether timestamp and snapshot tell lengths and hashes.
        self.tells = True
        # What is done to finished files, by path; None removes one, a number is the server's answer.
        self.edits = {}
        # Files that the server has besides.
        self.extra = {}
        # What the clients download; None is all.
        self.wanted = None

    @property
    def root(self):
        return self.roots[-1]

    def document(self, role):
        return getattr(self, role)

    def threshold(self, role, threshold, names, signers=None):
        """Gives a role these keys in the newest root, and signs its document with them."""
        self.root.roles = {**self.root.roles, role: (threshold, list(names))}
        self.document(role).signers = list(names if signers is None else signers)

    def rotate(self, role=None, *names, threshold=1):
        """A new root; `role` has these keys from now on. Old and new root keys sign it."""
        old = self.root
        self.roots.append(replace(copy.copy(old), version=old.version + 1, roles=dict(old.roles), tweak=None))
        if role:
            self.threshold(role, threshold, names)
        self.root.signers = sorted({*old.roles["root"][1], *self.root.roles["root"][1]})

    def release(self, *roles):
        """New versions of these roles, or of all but the root."""
        for role in roles or ROLES[1:]:
            self.document(role).version += 1

    def edit(self, path, change):
        """Changes a finished file: its bytes, or its parsed JSON, without a new signature."""
        self.edits[path] = change

    def edit_json(self, path, change):
        def edited(data):
            value = json.loads(data)
            change(value)
            return json.dumps(value).encode()
        self.edits[path] = edited

    def tweak(self, role, change):
        """Changes what a role signs."""
        self.document(role).tweak = change

    def path(self, role):
        """Path of the newest file of a role."""
        if role == "timestamp" or (role != "root" and not self.root.consistent):
            return f"metadata/{role}.json"
        return f"metadata/{self.document(role).version}.{role}.json"

    def target_path(self, name):
        """Path of a target file."""
        if not self.root.consistent:
            return f"files/{name}"
        digest = hashlib.new(self.hashes[0], self.files[name]).hexdigest()
        folder, slash, last = name.rpartition("/")
        return f"files/{folder}{slash}{digest}.{last}"

    def render(self, folder):
        """All files by their paths, and which paths the server treats in another way."""
        tree = {self.target_path(name): data for name, data in self.files.items()}
        tree |= self.by_kcare(folder) if self.generator == "kcare" else self.by_python()
        tree |= self.extra
        answers = {}
        for path, change in self.edits.items():
            if change is None:
                tree.pop(path, None)
            elif callable(change):
                tree[path] = change(tree[path])
            else:
                answers[path] = change
        return tree, answers

    def by_python(self):
        tree = {}
        for root in self.roots:
            keys, roles = {}, {}
            for role, (threshold, names) in root.roles.items():
                for name in names:
                    key = self.keys.signer(name).public_key
                    keys[key.keyid] = copy.deepcopy(key)
                roles[role] = Role([self.keys.id(name) for name in names], threshold)
            signed = Root(root.version, None, root.expires, keys, roles, root.consistent)
            tree[f"metadata/{root.version}.root.json"] = self.sign(root, signed)

        def meta(version, data):
            return MetaFile.from_data(version, data, self.hashes) if self.tells else MetaFile(version)

        targets = {name: TargetFile.from_data(name, data, self.hashes) for name, data in self.files.items()}
        signed = Targets(self.targets.version, None, self.targets.expires, targets)
        tree[self.path("targets")] = data = self.sign(self.targets, signed)
        named = {"targets.json": meta(self.targets.version, data)}
        signed = Snapshot(self.snapshot.version, None, self.snapshot.expires, named)
        tree[self.path("snapshot")] = data = self.sign(self.snapshot, signed)
        signed = Timestamp(self.timestamp.version, None, self.timestamp.expires, meta(self.snapshot.version, data))
        tree[self.path("timestamp")] = self.sign(self.timestamp, signed)
        return tree

    def sign(self, document, signed):
        """The file's bytes; the canonical form is made by securesystemslib."""
        value = signed.to_dict()
        if document.tweak:
            value = document.tweak(value) or value
        try:
            message = encode_canonical(value).encode()
        except Exception:  # It has no canonical form: no signature can be right.
            message = b""
        signatures = [self.keys.signer(name).sign(message).to_dict() for name in document.signers]
        return json.dumps({"signatures": signatures, "signed": value}, sort_keys=True).encode()

    def by_kcare(self, folder):
        """By userland/tuf/examples/tuf_sign.rs."""
        metadata, files = folder / "metadata", folder / "files"
        for path in (metadata, files):
            path.mkdir(parents=True)
        names = {}
        for i, (name, data) in enumerate(self.files.items()):
            (folder / str(i)).write_bytes(data)
            names[name] = str(folder / str(i))
        lines = []
        for root in self.roots:
            roles = {role: [threshold, self.paths(holders)] for role, (threshold, holders) in root.roles.items()}
            lines.append(self.line("root", root, roles=roles, consistent=root.consistent))
        lines.append(self.line("targets", self.targets, targets=names))
        lines.append(self.line("snapshot", self.snapshot, targets=self.targets.version))
        lines.append(self.line("timestamp", self.timestamp, snapshot=self.snapshot.version))
        done = subprocess.run([self.keys.tuf_sign, metadata, files], input="\n".join(lines), text=True,
                              stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise RuntimeError(f"tuf_sign: {done.stderr}")
        return {str(path.relative_to(folder)): path.read_bytes()
                for top in (metadata, files) for path in top.rglob("*") if path.is_file()}

    def line(self, role, document, **more):
        if document.tweak:
            raise RuntimeError("only python-tuf's side can be tweaked")
        expires = document.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        return json.dumps({"role": role, "version": document.version, "expires": expires,
                           "signers": self.paths(document.signers), **more})

    def paths(self, names):
        for name in names:
            self.keys.signer(name)
        return [str(self.keys.path(name)) for name in names]


ENDLESS = "endless"


class Server:
    """Serves one repository on loopback, and counts what an endless file has sent."""

    def __init__(self):
        self.tree, self.answers, self.sent = {}, {}, 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request):
        path = urllib.parse.unquote(request.path.split("?")[0]).lstrip("/")
        answer = self.answers.get(path)
        try:
            if answer == ENDLESS:
                request.send_response(200)
                request.end_headers()
                while True:
                    request.wfile.write(b" " * 65536)
                    self.sent += 65536
            if isinstance(answer, int) or path not in self.tree:
                request.send_error(answer if isinstance(answer, int) else 404)
                return
            request.send_response(200)
            request.send_header("Content-Length", str(len(self.tree[path])))
            request.end_headers()
            request.wfile.write(self.tree[path])
        except (BrokenPipeError, ConnectionResetError):
            pass


__all__ = ["ENDLESS", "FAR", "Keys", "PAST", "ROLES", "Repository", "Server", "soon", "wait_for"]
