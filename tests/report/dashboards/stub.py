"""A stand-in for W&B's server on this machine: it answers W&B's clients, and keeps what they send."""

import gzip
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ENTITY = "me"
_KEY = "0123456789" * 4


@dataclass
class Received:
    """A run as the server knows it; rows of the history by their line."""

    about: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows in order, without W&B's own fields."""
        return [{k: v for k, v in self.lines[n].items() if not k.startswith("_")} for n in sorted(self.lines)]


class Stub(ThreadingHTTPServer):
    """The server.

    Attributes:
        runs: By their id.
        views: Workspaces ("project-view") and reports ("runs") as they were saved.
        asked: Names of the GraphQL operations, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, Received] = {}
        self.views: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self._resuming: set[str] = set()
        self._anew: set[str] = set()  # runs that are sent without resume

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """Environment of a client with a key for this server, on a machine whose user has no W&B files yet."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "XDG"))}
        return {**kept, "WANDB_BASE_URL": self.url, "WANDB_API_KEY": _KEY, "HOME": str(home)}

    def handle_error(self, request: object, client_address: object) -> None:
        """Says what went wrong, other than a client that leaves without a farewell."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def answer(self, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL operation."""
        self.asked.append(operation)
        project = {"id": "1", "internalId": "1", "name": given.get("project") or "distill", "entityName": ENTITY}
        project["entity"] = {"id": "1", "name": ENTITY}
        match operation:
            case "Viewer" | "GetDefaultEntity":
                user = {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
                return {"viewer": user}
            case "RunResumeStatus":
                self._resuming.add(given["name"])
                return {"model": {**project, "bucket": self._resumed(given["name"])}}
            case "UpsertBucket":
                return {"upsertBucket": {"bucket": {**self._upsert(given), "project": project}, "inserted": True}}
            case "CreateRunFiles":
                files = [{"name": name, "uploadUrl": f"{self.url}/{given['run']}/{name}"} for name in given["files"]]
                return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
            case "GetProjects":
                node = {**project, "createdAt": "2026-01-01T00:00:00", "isBenchmark": False, "user": None}
                pages = {"endCursor": None, "hasNextPage": False}
                return {"models": {"edges": [{"cursor": "", "node": node}], "pageInfo": pages}}
            case "ProjectInternalId":
                return {"project": project}
            case "upsertView" | "UpsertView2":
                self.views.append(dict(given))
                view = {**given, "id": str(len(self.views)), "project": project, "updatedAt": "2026-01-01T00:00:00"}
                return {"upsertView": {"view": view, "inserted": True}}
        return {}

    def stream(self, run: str, content: Mapping[str, Any]) -> None:
        """Takes lines of a run's history and its summary."""
        received = self.runs[run]
        history = content.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        if run in self._anew and history["content"] and history["offset"] == 0:
            received.lines = {}  # a start without resume replaces a run of the same id
        received.lines |= {history["offset"] + n: json.loads(row) for n, row in enumerate(history["content"])}
        for row in content.get("files", {}).get("wandb-summary.json", {}).get("content", []):
            received.summary = json.loads(row)
        if content.get("complete"):
            received.exit_code = content["exitcode"]

    def _upsert(self, given: Mapping[str, Any]) -> dict[str, Any]:
        name = given["name"]
        # Only its first rows replace what there is: a client that repeats a late request has sent some by then.
        if given["program"] is not None and name not in self._resuming:
            self._anew.add(name)
        self._resuming.discard(name)
        received = self.runs.setdefault(name, Received())
        received.about |= {key: value for key, value in given.items() if value is not None}
        config = json.loads(given["config"] or "{}")
        received.config |= {key: entry["value"] for key, entry in config.items()}
        return {"id": name, "name": name, "displayName": given["displayName"], "config": "{}", "historyLineCount": 0}

    def _resumed(self, name: str) -> dict[str, Any] | None:
        if name not in self.runs:
            return None
        run = self.runs[name]
        tail = json.dumps([json.dumps(run.lines[max(run.lines)])] if run.lines else [])
        return {
            "id": name,
            "name": name,
            "historyLineCount": len(run.lines),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(run.summary),
            "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
            "tags": [],
            "wandbConfig": json.dumps({"t": 1}),
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_GET(self) -> None:
        self._reply({})

    def do_PUT(self) -> None:
        run, _, name = unquote(self.path).lstrip("/").partition("/")
        self.server.runs[run].files[name] = self._body()
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/graphql":
            asked = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self._reply(
                {"data": self.server.answer(operation.group(1) if operation else "", asked.get("variables") or {})}
            )
            return
        if self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(body))
        self._reply({})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def serving() -> Iterator[Stub]:
    """The server, listening on a port that is free, until the block ends."""
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
