"""A local HTTP server that answers as the hub's endpoints do, for uploads and for names in the stand-in cache.

What `huggingface_hub` 2.4 asks for when it creates a repository, uploads a folder and resolves a model, found by
running it against this server. Uploads follow the older LFS protocol: give the client HF_HUB_DISABLE_XET=1. Downloads
are answered from the stand-in cache that the client itself uses, so only headers cross: it finds the commit it has.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_dummy"
USER = "tester"
LARGE_SUFFIXES = (".safetensors", ".bin", ".pt", ".mp3", ".flac", ".wav", ".arrow", ".parquet")


@dataclass
class Repository:
    """What was pushed to one repository."""

    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)  # messages, oldest first
    private: bool = False

    @property
    def head(self) -> str:
        return hashlib.sha1(f"{len(self.commits)}{sorted(self.files)}".encode()).hexdigest()


class HubServer:
    """`with HubServer(home) as hub:` serves the models of `home`/hub and takes pushes into `hub.repositories`."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home
        self.repositories: dict[str, Repository] = {}
        self.large_objects: dict[str, bytes] = {}
        self.requests: list[str] = []  # "METHOD /path", in order
        self.unknown: list[str] = []  # requests that no route answers
        self.refuse_uploads = False  # answer 403 to every commit, as for a read-only token
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self, *, token: str = TOKEN) -> dict[str, str]:
        """Variables under which a fresh process takes this server for the hub."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": token,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            # Online, transformers asks a public service to convert each pytorch_model.bin that it loads.
            "DISABLE_SAFETENSORS_CONVERSION": "1",
        }

    def cached_snapshot(self, name: str) -> Path | None:
        """Folder of a model of the stand-in cache, or None."""
        if self.home is None:
            return None
        repo = self.home / "hub" / f"models--{name.replace('/', '--')}"
        head = repo / "refs" / "main"
        return repo / "snapshots" / head.read_text() if head.exists() else None

    def files(self, name: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a pushed or a cached repository."""
        if name in self.repositories:
            repository = self.repositories[name]
            return repository.head, repository.files
        snapshot = self.cached_snapshot(name)
        if snapshot is None:
            return None
        return snapshot.name, {file.name: file.read_bytes() for file in snapshot.iterdir()}


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Requests are recorded, not printed."""

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def _route(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self._read_body()
        with self.hub.lock:
            self.hub.requests.append(f"{method} {path}")
            for methods, pattern, needs_token, answer in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and method in methods:
                    if needs_token and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                        return self.send_error_as_hub(401, "Invalid credentials in Authorization header")
                    return answer(self, *match.groups())
            self.hub.unknown.append(f"{method} {path}")
        return self.send_error_as_hub(404, "Sorry, we can't find the page you are looking for.")

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def send_json(self, content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_bytes(
            json.dumps(content).encode(), status=status, headers={"Content-Type": "application/json", **(headers or {})}
        )

    def send_bytes(self, content: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error_as_hub(self, status: int, message: str, code: str | None = None) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.send_json({"error": message}, status=status, headers=headers)


def _whoami(request: _Handler) -> None:
    token = {"displayName": "test", "role": "write", "createdAt": "2026-01-01T00:00:00.000Z"}
    auth = {"type": "access_token", "accessToken": token}
    request.send_json({"type": "user", "id": "0", "name": USER, "fullname": "A Tester", "orgs": [], "auth": auth})


def _create(request: _Handler) -> None:
    asked = json.loads(request.body)
    name = f"{asked.get('organization') or USER}/{asked['name']}"
    url = f"{request.hub.endpoint}/{name}"
    if name in request.hub.repositories:
        return request.send_json({"error": "You already created this model repo", "url": url}, status=409)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    request.hub.repositories[name] = Repository(private=private)
    return request.send_json({"url": url, "name": name, "id": "0"})


def _validate_yaml(request: _Handler) -> None:
    content = json.loads(request.body)["content"]
    if re.match(r"^---\n.*?\n---\n", content, re.DOTALL):
        return request.send_json({"errors": [], "warnings": []})
    warning = {"message": "empty or missing yaml metadata in repo card"}
    return request.send_json({"errors": [], "warnings": [warning]})


def _preupload(request: _Handler, name: str) -> None:
    repository = request.hub.repositories.get(name)
    if repository is None:
        return request.send_error_as_hub(404, "Repository not found", "RepoNotFound")
    files = []
    for file in json.loads(request.body)["files"]:
        large = file["path"].endswith(LARGE_SUFFIXES) or file["size"] > 10_000_000
        files.append({"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False})
    return request.send_json({"files": files})


def _lfs_batch(request: _Handler, name: str) -> None:
    objects = []
    for wanted in json.loads(request.body)["objects"]:
        answer = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in request.hub.large_objects:
            answer["actions"] = {
                "upload": {"href": f"{request.hub.endpoint}/storage/{wanted['oid']}"},
                "verify": {"href": f"{request.hub.endpoint}/{name}.git/info/lfs/objects/verify"},
            }
        objects.append(answer)
    request.send_json({"transfer": "basic", "objects": objects})


def _store(request: _Handler, oid: str) -> None:
    if hashlib.sha256(request.body).hexdigest() != oid:
        return request.send_error_as_hub(400, "the content doesn't have that hash")
    request.hub.large_objects[oid] = request.body
    return request.send_bytes(b"")


def _verify(request: _Handler, name: str) -> None:
    if json.loads(request.body)["oid"] not in request.hub.large_objects:
        return request.send_error_as_hub(404, f"{name}: no such object")
    return request.send_json({"message": "ok"})


def _commit(request: _Handler, name: str) -> None:
    repository = request.hub.repositories.get(name)
    if repository is None:
        return request.send_error_as_hub(404, "Repository not found", "RepoNotFound")
    if request.hub.refuse_uploads:
        return request.send_error_as_hub(403, "Forbidden: this token has no write access to the repository")
    for line in request.body.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "header":
            repository.commits.append(value["summary"])
        elif entry["key"] == "file":
            repository.files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            repository.files[value["path"]] = request.hub.large_objects[value["oid"]]
        elif entry["key"] == "deletedFile":
            repository.files.pop(value["path"], None)
    url = f"{request.hub.endpoint}/{name}/commit/{repository.head}"
    return request.send_json({"success": True, "commitOid": repository.head, "commitUrl": url, "hookOutput": ""})


def _info(request: _Handler, name: str) -> None:
    found = request.hub.files(name)
    if found is None:
        return request.send_error_as_hub(404, "Repository not found", "RepoNotFound")
    commit, files = found
    private = name in request.hub.repositories and request.hub.repositories[name].private
    siblings = [{"rfilename": path} for path in files]
    return request.send_json(
        {
            "id": name,
            "modelId": name,
            "sha": commit,
            "private": private,
            "tags": [],
            "downloads": 0,
            "siblings": siblings,
        }
    )


def _tree(request: _Handler, name: str, folder: str | None) -> None:
    found = request.hub.files(name)
    if found is None:
        return request.send_error_as_hub(404, "Repository not found", "RepoNotFound")
    prefix = f"{folder.strip('/')}/" if folder else ""
    entries = [
        {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}
        for path, content in found[1].items()
        if path.startswith(prefix)
    ]
    if not entries:
        return request.send_error_as_hub(404, f"{folder} does not exist on 'main'", "EntryNotFound")
    return request.send_json(entries)


def _resolve(request: _Handler, name: str, file_name: str) -> None:
    found = request.hub.files(name)
    if found is None:
        return request.send_error_as_hub(404, "Repository not found", "RepoNotFound")
    commit, files = found
    if file_name not in files:
        headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": commit}
        return request.send_json({"error": "Entry not found"}, status=404, headers=headers)
    content = files[file_name]
    headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
    return request.send_bytes(content, headers=headers)


def _branch(request: _Handler, _name: str) -> None:
    request.send_json({})


def _auth_check(request: _Handler, name: str) -> None:
    if request.hub.files(name) is None:
        return request.send_error_as_hub(404, "Repository not found", "RepoNotFound")
    return request.send_json({})


def _commits(request: _Handler, name: str) -> None:
    found = request.hub.files(name)
    if found is None:
        return request.send_error_as_hub(404, "Repository not found", "RepoNotFound")
    messages = request.hub.repositories[name].commits if name in request.hub.repositories else ["initial commit"]
    commit = {"id": found[0], "authors": [], "date": "2026-01-01T00:00:00.000Z", "message": ""}
    return request.send_json([{**commit, "title": title} for title in reversed(messages)])


def _discussions(request: _Handler, _name: str) -> None:
    request.send_json({"discussions": [], "count": 0, "start": 0})


def _agent_harnesses(request: _Handler) -> None:
    request.send_error_as_hub(404, "not served here")


def _no_such_dataset(request: _Handler) -> None:
    request.send_error_as_hub(404, "Repository not found", "RepoNotFound")


_NAME = r"([^/]+/[^/]+|[^/]+)"
ROUTES: list[tuple[tuple[str, ...], str, bool, Callable[..., None]]] = [
    # methods, pattern of the path, whether a token is needed, answer
    (("GET",), r"/api/whoami-v2", True, _whoami),
    (("GET",), r"/api/agent-harnesses", False, _agent_harnesses),
    (("POST",), r"/api/repos/create", True, _create),
    (("POST",), r"/api/validate-yaml", False, _validate_yaml),
    (("POST",), rf"/api/models/{_NAME}/preupload/[^/]+", True, _preupload),
    (("POST",), rf"/api/models/{_NAME}/commit/[^/]+", True, _commit),
    (("POST",), rf"/api/models/{_NAME}/branch/[^/]+", True, _branch),
    (("POST",), rf"/{_NAME}\.git/info/lfs/objects/batch", True, _lfs_batch),
    (("POST",), rf"/{_NAME}\.git/info/lfs/objects/verify", True, _verify),
    (("PUT",), r"/storage/([0-9a-f]{64})", False, _store),
    (("GET", "HEAD"), rf"/api/models/{_NAME}/auth-check(?:/write)?", True, _auth_check),
    (("GET",), rf"/api/models/{_NAME}/commits/[^/]+", False, _commits),
    (("GET",), rf"/api/models/{_NAME}/discussions", False, _discussions),
    (("GET", "HEAD"), rf"/api/models/{_NAME}/tree/[^/]+(/.*)?", False, _tree),
    (("GET", "HEAD"), rf"/api/models/{_NAME}(?:/revision/[^/]+)?", False, _info),
    (("GET", "HEAD"), r"/(?:api/)?datasets/.*", False, _no_such_dataset),
    (("GET", "HEAD"), rf"/{_NAME}/resolve/[^/]+/(.*)", False, _resolve),
]
