"""A small Hub on localhost that speaks the calls `huggingface_hub` makes to create, fill and read model repositories.

with HubServer(tokens={"a-token"}) as hub:
    ...  # a process with HF_ENDPOINT=hub.url and HF_HUB_DISABLE_XET=1 (there is no xet storage here)
    hub.repos["user/name"].files["config.json"]
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

USER = "user"
LARGE = (".safetensors", ".bin", ".pt")  # stored by git-LFS, as in a new repository's .gitattributes


class Refusal(Exception):
    """An answer that is an error, with the code the client tells errors apart by."""

    def __init__(self, status: HTTPStatus, message: str, code: str = "", **body):
        super().__init__(message)
        self.status, self.code, self.body = status, code, {"error": message} | body


@dataclass(frozen=True)
class Commit:
    message: str
    files: dict[str, bytes]
    token: str

    @property
    def oid(self) -> str:
        listing = "".join(f"{path} {git_oid(content)}\n" for path, content in sorted(self.files.items()))
        return hashlib.sha1(f"{self.message}\n{listing}".encode()).hexdigest()


@dataclass
class Repo:
    private: bool
    commits: list[Commit] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1].files


class HubServer:
    """Repositories in memory behind an HTTP server on a free port; every request is noted in `calls`."""

    def __init__(self, tokens: set[str], read_only: set[str] | None = None):
        self.tokens = tokens
        self.read_only = read_only or set()  # repositories that refuse every commit
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}  # LFS content by SHA-256
        self.calls: list[str] = []
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, self))
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.http.shutdown()
        self.http.server_close()

    # ---- looking things up ----

    def repo(self, name: str, token: str) -> Repo:
        if name not in self.repos or (self.repos[name].private and token not in self.tokens):
            raise Refusal(HTTPStatus.NOT_FOUND, "Repository not found", "RepoNotFound")
        return self.repos[name]

    def commit(self, name: str, revision: str, token: str) -> Commit:
        commits = self.repo(name, token).commits
        for commit in reversed(commits):
            if revision in ("main", commit.oid):
                return commit
        raise Refusal(HTTPStatus.NOT_FOUND, f"Invalid rev id: {revision}", "RevisionNotFound")

    # ---- writing ----

    def create(self, body: dict, token: str) -> dict:
        name = f"{body['organization'] or USER}/{body['name']}"
        if name in self.repos:
            raise Refusal(HTTPStatus.CONFLICT, "You already created this model repo", url=f"{self.url}/{name}")
        first = Commit("initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"}, token)
        self.repos[name] = Repo(body.get("visibility") == "private", [first])
        return {"url": f"{self.url}/{name}", "name": name}

    def validate(self, body: dict, token: str) -> dict:
        if not body["content"].startswith("---\n"):
            raise Refusal(HTTPStatus.BAD_REQUEST, "Invalid metadata", errors=[{"message": "no front matter"}])
        return {"errors": [], "warnings": []}

    def preupload(self, body: dict, token: str, name: str, revision: str) -> dict:
        present = self.commit(name, revision, token).files
        files = []
        for file in body["files"]:
            large = file["path"].endswith(LARGE)
            oid = (sha256 if large else git_oid)(present[file["path"]]) if file["path"] in present else None
            mode = "lfs" if large else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}

    def lfs_batch(self, body: dict, token: str, name: str) -> dict:
        self.repo(name, token)
        objects = []
        for wanted in body["objects"]:
            action = {
                "upload": {"href": f"{self.url}/storage/{wanted['oid']}"},
                "verify": {"href": f"{self.url}/{name}.git/info/lfs/objects/verify"},
            }
            objects.append(wanted if wanted["oid"] in self.blobs else wanted | {"actions": action})
        return {"transfer": "basic", "objects": objects}

    def store(self, body: bytes, token: str, oid: str) -> dict:
        if sha256(body) != oid:
            raise Refusal(HTTPStatus.BAD_REQUEST, "The content does not have this SHA-256")
        self.blobs[oid] = body
        return {}

    def lfs_verify(self, body: dict, token: str, name: str) -> dict:
        if len(self.blobs.get(body["oid"], b"")) != body["size"]:
            raise Refusal(HTTPStatus.NOT_FOUND, f"No such object: {body['oid']}")
        return {}

    def add_commit(self, lines: list[dict], token: str, name: str, revision: str) -> dict:
        files = dict(self.commit(name, revision, token).files)
        if name in self.read_only:
            raise Refusal(HTTPStatus.FORBIDDEN, f"{name} is read-only")
        message = ""
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.blobs:
                    raise Refusal(HTTPStatus.BAD_REQUEST, f"{value['path']}: its content was never uploaded")
                files[value["path"]] = self.blobs[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = Commit(message, files, token)
        self.repos[name].commits.append(commit)
        return {"commitUrl": f"{self.url}/{name}/commit/{commit.oid}", "commitOid": commit.oid}

    # ---- reading ----

    def info(self, token: str, name: str, revision: str = "main") -> dict:
        commit = self.commit(name, revision, token)
        siblings = [{"rfilename": path} for path in commit.files]
        return {"id": name, "sha": commit.oid, "private": self.repos[name].private, "siblings": siblings, "tags": []}

    def tree(self, token: str, name: str, revision: str, folder: str | None = None) -> list[dict]:
        files = self.commit(name, revision, token).files
        inside = {path: content for path, content in files.items() if path.startswith(f"{folder}/" if folder else "")}
        if folder and not inside:
            raise Refusal(HTTPStatus.NOT_FOUND, f"{folder} does not exist", "EntryNotFound")
        entries = []
        for path, content in inside.items():
            lfs = {"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 134}}
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
            entries.append(entry | (lfs if path.endswith(LARGE) else {}))
        return entries

    def whoami(self, token: str) -> dict:
        return {"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}}


# Method, pattern of the path, name of the `HubServer` method that answers.
ID = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", rf"/api/models/{ID}/preupload/([^/]+)", "preupload"),
    ("POST", rf"/api/models/{ID}/commit/([^/]+)", "add_commit"),
    ("POST", rf"/{ID}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("POST", rf"/{ID}\.git/info/lfs/objects/verify", "lfs_verify"),
    ("PUT", r"/storage/(\w+)", "store"),
    ("GET", r"/api/whoami-v2", "whoami"),
    ("GET", rf"/api/models/{ID}", "info"),
    ("GET", rf"/api/models/{ID}/revision/([^/]+)", "info"),
    ("GET", rf"/api/models/{ID}/tree/([^/]+)(?:/([^/]+))?", "tree"),
]
RESOLVE = rf"/{ID}/resolve/([^/]+)/(.+)"


class Handler(BaseHTTPRequestHandler):
    """Parses a request, calls the server's method and writes its answer."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: HubServer, *args):
        self.hub = hub
        super().__init__(*args)

    def answer(self) -> None:
        path = urlsplit(self.path).path
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        content = self.read_body()
        with self.hub.lock:
            self.hub.calls.append(f"{self.command} {path}")
            try:
                if found := re.fullmatch(RESOLVE, path):
                    return self.resolve(token, *map(unquote, found.groups()))
                self.write_json(HTTPStatus.OK, self.call(path, token, content))
            except Refusal as refusal:
                self.write_json(refusal.status, refusal.body, {"X-Error-Code": refusal.code} if refusal.code else {})

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def call(self, path: str, token: str, content: bytes):
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, path)
            if not found or method != self.command:
                continue
            if method == "POST" and token not in self.hub.tokens:
                raise Refusal(HTTPStatus.UNAUTHORIZED, "Invalid username or password.")
            arguments = [token, *(unquote(part) for part in found.groups() if part is not None)]
            if method == "POST":
                lines = [json.loads(line) for line in content.splitlines()]
                arguments.insert(0, lines if name == "add_commit" else lines[0])
            elif method == "PUT":
                arguments.insert(0, content)
            return getattr(self.hub, name)(*arguments)
        raise Refusal(HTTPStatus.NOT_FOUND, f"This server does not know {self.command} {path}")

    def resolve(self, token: str, name: str, revision: str, path: str) -> None:
        commit = self.hub.commit(name, revision, token)
        if path not in commit.files:
            raise Refusal(HTTPStatus.NOT_FOUND, f"{path} does not exist", "EntryNotFound")
        content = commit.files[path]
        oid = sha256(content) if path.endswith(LARGE) else git_oid(content)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{oid}"', "Content-Type": "application/octet-stream"}
        self.write(HTTPStatus.OK, content, headers)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def write_json(self, status: HTTPStatus, body, headers: dict[str, str] | None = None) -> None:
        self.write(status, json.dumps(body).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def write(self, status: HTTPStatus, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass  # `calls` has it all


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
