"""A fake Hugging Face endpoint on the loopback: data set repositories with commits, tags, LFS blobs and downloads.

Answers what huggingface_hub's HfApi asks for: create, refs, tree, preupload, the LFS batch, commit, tag, resolve. Files
over lfs_bytes and *.parquet go by LFS and are delivered by redirect from a second server, as the hub does from its CDN.
Writes want the token. `commits` keeps every tree there ever was on main.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from urllib.parse import unquote

from servers.base import Asked, Reply, Server, file_reply, reply_json

PAGE = 7  # entries of a tree's page


@dataclass
class Repository:
    """commits: (oid, tree) from the first; a tree is content by name. tags: name to oid."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def tree(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def at(self, revision: str) -> dict[str, bytes] | None:
        oid = self.commits[-1][0] if revision == "main" else self.tags.get(revision, revision)
        return next((tree for known, tree in self.commits if known == oid), None)

    def commit(self, tree: dict[str, bytes]) -> str:
        oid = hashlib.sha1(f"{len(self.commits)} {sorted(tree)}".encode(), usedforsecurity=False).hexdigest()
        self.commits.append((oid, tree))
        return oid


class HubServer:
    """`with HubServer(token=...) as hub:` serves at hub.url. on_request: called as (number, done) for every request,
    before it is worked on and after that, before the answer goes; tests kill publishers there."""

    def __init__(self, *, token, lfs_bytes=200):
        self.token = token
        self.lfs_bytes = lfs_bytes
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.authorised_cdn: list[str] = []
        self.spoil_upload = None  # (content) -> content, of blobs on their way in
        self.on_request = None
        self.cdn = Server({"/blob/*": self._deliver})
        self.server = Server({"/*": self._answer}, max_requests=100_000)

    def __enter__(self):
        self.cdn.__enter__()
        self.server.__enter__()
        return self

    def __exit__(self, *exc):
        self.server.__exit__(*exc)
        self.cdn.__exit__(*exc)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def environment(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "HF_TOKEN": self.token, "HF_HUB_DISABLE_XET": "1"}

    def _answer(self, asked: Asked) -> Reply:
        number = len(self.server.asked)
        if self.on_request:
            self.on_request(number, False)
        reply = self._route(asked)
        if self.on_request:
            self.on_request(number, True)
        return reply

    def _route(self, asked: Asked) -> Reply:  # noqa: PLR0911 - one return a route
        parts = [unquote(part) for part in asked.path.strip("/").split("/")]
        writing = asked.method in {"POST", "PUT"} and parts[0] != "lfs"
        if writing and asked.headers.get("authorization") != f"Bearer {self.token}":
            return reply_json({"error": "Invalid credentials"}, status=401)
        if asked.path == "/api/repos/create":
            return self._create(asked.json())
        if asked.path == "/api/validate-yaml":
            return reply_json({"errors": [], "warnings": []})
        if parts[0] == "lfs":
            return self._receive(parts[1], asked.body)
        if parts[:2] == ["api", "datasets"]:
            return self._api("/".join(parts[2:4]), "/".join(parts[4:5]), parts[5:], asked)
        if asked.path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(asked.json())
        if parts[3:4] == ["resolve"]:
            return self._resolve("/".join(parts[1:3]), parts[4], "/".join(parts[5:]), asked)
        return reply_json({"error": f"no route {asked.path}"}, status=400)

    def _create(self, wanted) -> Reply:
        name = "/".join(part for part in (wanted.get("organization"), wanted["name"]) if part)
        if name in self.repositories:
            return reply_json({"error": "exists", "url": f"{self.url}/datasets/{name}"}, status=409)
        repository = self.repositories[name] = Repository(private=wanted.get("private", False))
        repository.commit({".gitattributes": b"*.parquet filter=lfs\n"})
        return reply_json({"url": f"{self.url}/datasets/{name}"})

    def _api(self, name, verb, rest, asked) -> Reply:  # noqa: PLR0911 - one return a route
        repository = self.repositories.get(name)
        if repository is None:
            return Reply(status=404, body=b"{}", headers={"X-Error-Code": "RepoNotFound"})
        if verb == "refs":
            head = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.commits[-1][0]}
            tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": o} for t, o in repository.tags.items()]
            return reply_json({"branches": [head], "converts": [], "tags": tags})
        if verb == "tree":
            return self._tree(repository, rest[0], asked)
        if verb == "preupload":
            return reply_json({"files": [self._mode(repository, file) for file in asked.json()["files"]]})
        if verb == "commit":
            return self._commit(name, repository, asked)
        if verb == "tag":
            return self._tag(repository, rest[0], asked.json()["tag"])
        return reply_json({"error": f"no route {verb}"}, status=400)

    def _is_lfs(self, name, size) -> bool:
        return size > self.lfs_bytes or name.endswith(".parquet")

    def _mode(self, repository, file):
        known = repository.tree.get(file["path"])
        lfs = self._is_lfs(file["path"], file["size"])
        told = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        return told | ({} if known is None else {"oid": self._entry(file["path"], known)["oid"]})

    def _entry(self, name, content):
        if not self._is_lfs(name, len(content)):
            return {"type": "file", "path": name, "size": len(content), "oid": _git(content)}
        sha256 = hashlib.sha256(content).hexdigest()
        lfs = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return {"type": "file", "path": name, "size": len(content), "oid": _git(sha256.encode()), "lfs": lfs}

    def _tree(self, repository, revision, asked) -> Reply:
        tree = repository.at(revision)
        if tree is None:
            return Reply(status=404, body=b"{}", headers={"X-Error-Code": "RevisionNotFound"})
        first = int(asked.query.get("cursor", ["0"])[0])
        names = sorted(tree)
        more = {}
        if first + PAGE < len(names):
            more = {"Link": f'<{self.url}{asked.path}?recursive=True&cursor={first + PAGE}>; rel="next"'}
        return reply_json([self._entry(name, tree[name]) for name in names[first : first + PAGE]], **more)

    def _batch(self, wanted) -> Reply:
        objects = []
        for one in wanted["objects"]:
            upload = {"actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}}
            objects.append(one | ({} if one["oid"] in self.blobs else upload))
        return reply_json({"transfer": "basic", "objects": objects})

    def _receive(self, oid, content) -> Reply:
        if hashlib.sha256(content).hexdigest() != oid:
            return reply_json({"error": "sha256 differs"}, status=400)
        self.uploads.append(oid)
        self.blobs[oid] = self.spoil_upload(content) if self.spoil_upload else content
        return Reply()

    def _commit(self, name, repository, asked) -> Reply:
        lines = [json.loads(line) for line in asked.body.splitlines()]
        tree = dict(repository.tree)
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") not in {None, repository.commits[-1][0]}:
                return reply_json({"error": "a commit has happened since"}, status=412)
            if line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                tree[value["path"]] = self.blobs[value["oid"]]
            if line["key"] == "deletedFile":
                del tree[value["path"]]
        oid = repository.commit(tree)
        return reply_json({"commitUrl": f"{self.url}/datasets/{name}/commit/{oid}", "commitOid": oid})

    def _tag(self, repository, revision, tag) -> Reply:
        if tag in repository.tags:
            return reply_json({"error": "tag exists"}, status=409)
        repository.tags[tag] = repository.commits[-1][0] if revision == "main" else revision
        return Reply()

    def _resolve(self, name, revision, path, asked) -> Reply:
        repository = self.repositories.get(name)
        tree = None if repository is None else repository.at(revision)
        if tree is None or path not in tree:
            return Reply(status=404, body=b"Entry not found")
        content = tree[path]
        if self._is_lfs(path, len(content)):
            sha256 = hashlib.sha256(content).hexdigest()
            self.blobs[sha256] = content
            return Reply(status=302, headers={"Location": f"{self.cdn.url}/blob/{sha256}?X-Amz-Signature=canary-cdn"})
        return file_reply(asked, content)

    def _deliver(self, asked: Asked) -> Reply:
        if "authorization" in asked.headers:
            self.authorised_cdn.append(asked.path)
        return file_reply(asked, self.blobs[asked.path.rsplit("/", 1)[1]])


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
