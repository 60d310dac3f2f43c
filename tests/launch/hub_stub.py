"""As much of the Hugging Face Hub as pushing and pulling a model asks for, on the loopback address."""

import base64
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest


class Hub:
    """Repositories by name, each with its files; `requests` has the paths that were asked for."""

    def __init__(self) -> None:
        self.address = ""
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.hidden: set[str] = set()  # repositories that answer as private ones do
        self.read_only = False
        self.broken = ""  # a file of which half is sent
        self.made: list[dict[str, Any]] = []  # bodies of the requests that made repositories
        self.requests: list[str] = []

    def commit(self, name: str) -> str:
        """The commit of a repository: a digest of its files."""
        files = sorted((path, oid(content)) for path, content in self.repositories[name].items())
        return sha1(repr(files).encode()).hexdigest()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content."""
        self.requests.append(f"{method} {path}")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        parts = path.strip("/").split("/")
        api = parts[0] == "api"
        parts = parts[2:] if api else parts
        name = "/".join(parts[:2])
        if name not in self.repositories or name in self.hidden:
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository Not Found"}, b""
        files, (action, revision, *rest) = self.repositories[name], parts[2:]
        if revision not in ("main", self.commit(name)):
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b""
        if api and method == "POST" and self.read_only:
            return 403, {"X-Error-Message": "You don't have the right permissions"}, b""
        if action == "preupload":
            asked = json.loads(body)["files"]
            return _json(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
            )
        if action == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
            commit = self.commit(name)
            return _json({"commitUrl": f"{self.address}/{name}/commit/{commit}", "commitOid": commit})
        if action == "revision":
            siblings = [{"rfilename": path} for path in files]
            return _json({"id": name, "sha": self.commit(name), "siblings": siblings, "private": False})
        if action == "tree":
            tree = [{"type": "file", "path": p, "size": len(x), "oid": oid(x)} for p, x in files.items()]
            return _json(tree)
        assert action == "resolve"
        content = files["/".join(rest)]
        headers = {"ETag": f'"{oid(content)}"', "X-Repo-Commit": self.commit(name)}
        return 200, headers, content

    def _create(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        name = f"{asked['organization']}/{asked['name']}"
        self.made.append(asked)
        if name in self.repositories:
            return 409, {}, json.dumps({"url": f"{self.address}/{name}"}).encode()
        self.repositories[name] = {}
        return _json({"url": f"{self.address}/{name}"})


def oid(content: bytes) -> str:
    """The identity of a file's content."""
    return f"{zlib.crc32(content):040x}"


def _json(content: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


@contextmanager
def serving(cache: Path) -> Iterator[Hub]:
    """The hub, to which `huggingface_hub` is led; its cache is a folder of the test."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            status, headers, content = hub.answer(self.command, path, body)
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if hub.broken and path.endswith(hub.broken) else content)
            if hub.broken:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = handle_any

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with pytest.MonkeyPatch.context() as patch:
            lead_to(patch, hub.address, cache)
            yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def lead_to(patch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """What `HF_ENDPOINT`, `HF_HUB_CACHE` and the like set where they are there before the first import."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", address)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_URL_HOSTS", frozenset({"127.0.0.1"}), raising=False)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setenv("HF_TOKEN", "hf_of_the_test")
    patch.setenv("NO_PROXY", "127.0.0.1")
