"""A stand-in for the hub: one process, one folder, the part of its interface with which libraries make a
repository, commit files, list them and download them. Names of users, tokens and branches are not looked at.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _etag(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _revision(folder: Path) -> str:
    told = "".join(f"{file.relative_to(folder)}{_etag(file)}" for file in _files(folder))
    return hashlib.sha1(told.encode()).hexdigest()


class _Hub(BaseHTTPRequestHandler):
    root: Path
    asked: list[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        self.asked.append(f"{self.command} {self.path}")

    def _answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, tree, status: int = 200, **headers: str) -> None:
        self._answer(json.dumps(tree).encode(), status, Content_Type="application/json", **headers)

    def _lacking(self, kind: str) -> None:
        self._json({"error": f"{kind} not found"}, 404, X_Error_Code=kind)

    def _folder(self, repo: str) -> Path | None:
        folder = self.root / repo
        return folder if folder.is_dir() else None

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            told = json.loads(body)
            repo = f"{told.get('organization') or 'me'}/{told['name']}"
            (self.root / repo).mkdir(parents=True, exist_ok=True)
            return self._json({"url": f"http://{self.headers['Host']}/{repo}", "id": repo})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        found = re.fullmatch(f"/api/models/{REPO}/(?P<verb>preupload|commit)/main", path)
        folder = found and self._folder(found["repo"])
        if not found or not folder:
            return self._lacking("RepoNotFound")
        if found["verb"] == "preupload":
            names = [each["path"] for each in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            return self._json({"files": modes})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                file = folder / line["value"]["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(base64.b64decode(line["value"]["content"]))
        at = f"http://{self.headers['Host']}/{found['repo']}/commit/{_revision(folder)}"
        return self._json({"commitUrl": at, "commitOid": _revision(folder), "success": True})

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(f"/{REPO}/resolve/[^/]+/(?P<file>.+)", path):
            return self._file(found["repo"], found["file"])
        found = re.fullmatch(f"/api/models/{REPO}(/revision/[^/]+|(?P<tree>/tree/[^/]+.*))?", path)
        folder = found and self._folder(found["repo"])
        if not found or not folder:
            return self._lacking("RepoNotFound")
        names = [(str(file.relative_to(folder)), file) for file in _files(folder)]
        if found["tree"]:
            told = lambda name, file: {
                **{"type": "file", "path": name, "oid": _etag(file)},
                "size": file.stat().st_size,
            }
            return self._json([told(*each) for each in names])
        siblings = [{"rfilename": name} for name, _ in names]
        about = {"id": found["repo"], "modelId": found["repo"], "private": False, "tags": []}
        return self._json({**about, "sha": _revision(folder), "siblings": siblings})

    def _file(self, repo: str, name: str) -> None:
        folder = self._folder(repo)
        if folder is None:
            return self._lacking("RepoNotFound")
        file = folder / name
        if not file.is_file():
            return self._lacking("EntryNotFound")
        self._answer(file.read_bytes(), ETag=f'"{_etag(file)}"', X_Repo_Commit=_revision(folder))


@contextlib.contextmanager
def hub(root: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub whose repositories are root/OWNER/NAME: its address, and what it was asked, as "GET /path"."""
    asked: list[str] = []
    handler = type("Hub", (_Hub,), {"root": root, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
