"""A name on the hub, from a server on this machine that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gpt149.errors import CheckpointError
from gpt149.model import checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/tiny"


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves a folder as the repository NAME; gives its address and the files that were fetched."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{NAME}/tree/"):
                tree = [
                    {
                        "type": "file",
                        "path": p.name,
                        "size": p.stat().st_size,
                        "oid": hashlib.sha1(p.read_bytes()).hexdigest(),
                    }
                    for p in sorted(folder.iterdir())
                ]
                return self.send(json.dumps(tree).encode(), "application/json", body=body)
            if path.startswith(f"/api/models/{NAME}"):
                files = [{"rfilename": p.name} for p in sorted(folder.iterdir())]
                info = {"id": NAME, "sha": COMMIT, "siblings": files, "private": False}
                return self.send(json.dumps(info).encode(), "application/json", body=body)
            name = path.rpartition("/")[2]
            if f"/{NAME}/resolve/" not in path or not (folder / name).is_file():
                return self.send(b"", "text/plain", status=404, body=body)
            if body:
                fetched.append(name)
            return self.send((folder / name).read_bytes(), "application/octet-stream", body=body)

        def send(self, data: bytes, kind: str, *, body: bool, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()


def generate(endpoint: str, home: Path) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    surroundings.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "gpt149", "generate", "Hello", "-m", NAME, "-n", "8", "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=surroundings)


@pytest.mark.parametrize("kind", ["safetensors", "float16", "pickled"])
def test_a_model_is_fetched_once(tiny_model_dir: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    for file in tiny_model_dir.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "README.md").write_text("not wanted")
    (folder / "tf_model.h5").write_text("not wanted")
    tensors = load_file(folder / "model.safetensors")
    if kind == "pickled":
        torch.save(tensors, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    elif kind == "float16":
        from safetensors.torch import save_file

        save_file({k: t.half() for k, t in tensors.items()}, folder / "model.safetensors")
    with hub(folder) as (endpoint, fetched):
        done = generate(endpoint, tmp_path / "home")
        assert done.returncode == 0, done.stderr
        want = {p.name for p in folder.iterdir()} - {"README.md", "tf_model.h5"}
        assert "HTTP Request" not in done.stderr
        assert set(fetched) == want
        ids = json.loads(done.stdout)["samples"][0]["token_ids"]
        assert len(ids) == 8
    again = generate("http://127.0.0.1:9", tmp_path / "home")  # nobody answers there
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["samples"][0]["token_ids"] == ids


def test_an_evil_pickle_is_not_executed(tiny_model_dir: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "config.json").write_bytes((tiny_model_dir / "config.json").read_bytes())
    torch.save({"wte.weight": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="Nothing in it was executed"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_float16_tensors_become_float32(tiny_model_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = load_file(tiny_model_dir / "model.safetensors")
    (tmp_path / "config.json").write_bytes((tiny_model_dir / "config.json").read_bytes())
    for dtype in (torch.float16, torch.bfloat16):
        save_file({k: t.to(dtype) for k, t in tensors.items()}, tmp_path / "model.safetensors")
        weights = checkpoint.load(tmp_path).weights
        want = tensors["wte.weight"].to(dtype).float().numpy()
        assert weights["wte.weight"].dtype == np.float32
        np.testing.assert_array_equal(weights["wte.weight"], want)
