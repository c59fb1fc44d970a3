"""A peer: Node-RED, the flow ``mqtt in → function with context per entity``, as a process of its own.

Installed with npm into a folder (``NODE_RED_FOLDER`` keeps it from run to run, else a temporary one). The flow's HTTP
endpoints say how many readings came, when the last one did, and what the twins are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from equation import DEFAULT_PPH, DRIFT, SD, UNSURE_SD
from protocol import SILENCE_S, arguments, say_done, say_ready

VERSION = "4.1.8"
"""The last release line that runs on Node 18, which Debian 12 has."""
INSTALL_WITHIN_S = 300.0
UP_WITHIN_S = 60.0

STEP = f"""
const m = msg.payload, now = Date.now();
const parts = msg.topic.split("/"), entity = parts[1] + "/" + parts[2];
const twin = context.get(entity) || {{x: {DEFAULT_PPH}, p: {UNSURE_SD**2}, at: 0}};
const at = m.ts / 1000;
const prior = Math.min(twin.p + {DRIFT**2} * (at - twin.at) / 3600, {UNSURE_SD**2});
const gain = prior / (prior + {SD**2});
twin.x += gain * (m.values.flow_pph - twin.x);
twin.p = prior * (1 - gain);
twin.at = at;
context.set(entity, twin);
const seen = (context.get("#seen") || 0) + 1;
context.set("#seen", seen);
if (seen >= flow.get("wanted")) flow.set("ended", now / 1000);
flow.set("seen", seen);
return null;
"""
COUNT = 'msg.payload = {seen: flow.get("seen") || 0, ended: flow.get("ended") || 0}; return msg;'
WANTED = 'flow.set("wanted", Number(msg.req.query.count)); msg.payload = {}; return msg;'
STATE = """
const flows = {};
for (const key of context.keys()) if (!key.startsWith("#")) flows[key] = context.get(key).x;
flow.set("flows", flows);
return null;
"""


def install(folder: Path) -> str:
    """Why it cannot be had, or nothing; afterwards ``folder`` has node-red of our version."""
    if (folder / "node_modules/node-red/red.js").exists():
        return ""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        return "npm or node is not installed (Debian, Ubuntu: apt install nodejs npm)"
    folder.mkdir(parents=True, exist_ok=True)
    words = [npm, "install", "--no-audit", "--no-fund", "--omit=dev", "--prefix", str(folder), f"node-red@{VERSION}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=INSTALL_WITHIN_S)
    except subprocess.TimeoutExpired:
        return f"npm did not install node-red@{VERSION} within {INSTALL_WITHIN_S:.0f} s"
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        return f"npm could not install node-red@{VERSION} (no network?): {' '.join(last)}"
    return ""


def flow(host: str, port: int, topic: str, qos: int) -> list[dict[str, Any]]:
    """The flow file: the telemetry's way, and three endpoints for the harness."""
    tab = "tab"

    def node(name: str, kind: str, *wires: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "type": kind, "z": tab, "wires": [list(wires)] if wires else [[]], **more}

    def answering(name: str, function: str) -> list[dict[str, Any]]:
        return [
            node(f"{name}-in", "http in", f"{name}-do", url=f"/{name}", method="get"),
            node(f"{name}-do", "function", "answer", func=function, outputs=1),
        ]

    # the function's context has the twins; asked by a message without a topic it copies them where HTTP can see them
    step = "if (!msg.topic) {" + STATE + "}\n" + STEP
    return [
        {"id": tab, "type": "tab", "label": "twins"},
        {"id": "broker", "type": "mqtt-broker", "broker": host, "port": str(port),
         "clientid": "node-red-peer", "autoConnect": True, "usetls": False, "protocolVersion": "4", "keepalive": "60",
         "cleansession": True},
        node("telemetry", "mqtt in", "twins", topic=topic, qos=str(qos), datatype="json", broker="broker", inputs=0),
        node("twins", "function", func=step, outputs=1),
        *answering("count", COUNT),
        *answering("wanted", WANTED),
        *answering("flows", "msg.payload = flow.get('flows') || {}; return msg;"),
        node("gather-in", "http in", "gather-do", url="/gather", method="get"),
        {"id": "gather-do", "type": "function", "z": tab, "outputs": 2,
         "func": "return [{payload: {}}, Object.assign(msg, {payload: {}})];", "wires": [["twins"], ["answer"]]},
        node("answer", "http response"),
        {"id": "watch", "type": "status", "z": tab, "scope": ["telemetry"], "wires": [["up"]]},
        node("up", "function", func='if ((msg.status.text || "").includes("connected")) flow.set("up", 1);', outputs=0),
        *answering("up", 'msg.payload = {up: flow.get("up") || 0}; return msg;'),
    ]  # fmt: skip


class NodeRed:
    """A running Node-RED with our flow, on a free port of the loopback."""

    def __init__(self, installed: Path, nodes: list[dict[str, Any]]) -> None:
        from twin_actors.runtime.processes import free_ports

        (self.port,) = free_ports(1)
        self.folder = Path(tempfile.mkdtemp(prefix="node-red-"))
        (self.folder / "flows.json").write_text(json.dumps(nodes))
        settings = {
            "uiHost": "127.0.0.1", "uiPort": self.port, "httpAdminRoot": False, "flowFile": "flows.json",
            "userDir": str(self.folder), "logging": {"console": {"level": "warn", "metrics": False, "audit": False}},
        }  # fmt: skip
        (self.folder / "settings.js").write_text(f"module.exports = {json.dumps(settings)};\n")
        self._log = self.folder / "log.txt"
        node = shutil.which("node")
        assert node is not None, "install() has looked for it"
        red = installed / "node_modules/node-red/red.js"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [node, str(red), "--settings", str(self.folder / "settings.js"), "--userDir", str(self.folder)],
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def ask(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as answer:
            said: dict[str, Any] = json.loads(answer.read())
        return said

    def wait(self, holds: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Node-RED did not come up: {self._log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.1)  # the pace of asking; the loop has a deadline

    def up(self) -> bool:
        try:
            return bool(self.ask("up")["up"])
        except OSError:
            return False

    def cpu_s(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


def installed_folder() -> Path:
    return Path(os.environ.get("NODE_RED_FOLDER") or tempfile.mkdtemp(prefix="node-red-install-"))


def main() -> None:
    said = arguments(__doc__)
    folder = installed_folder()
    why = install(folder)
    if why:
        raise SystemExit(why)
    red = NodeRed(folder, flow(said.host, said.port, said.topic, said.qos))
    try:
        red.wait(red.up, UP_WITHIN_S)
        red.ask(f"wanted?count={said.count}")
        before_s = red.cpu_s()
        say_ready()
        seen, heard_at = 0, time.monotonic()
        while True:
            now = red.ask("count")
            if now["seen"] != seen:
                seen, heard_at = now["seen"], time.monotonic()
            if now["ended"] or (seen and time.monotonic() - heard_at > SILENCE_S):
                break
            time.sleep(0.2)  # the pace of asking: more often would take its time from the readings
        used_s = red.cpu_s() - before_s
        red.ask("gather")
        red.wait(lambda: bool(red.ask("flows")), 30.0)
        say_done(ended=now["ended"] or time.time(), seen=seen, cpu_s=used_s, flows=red.ask("flows"))
    finally:
        red.end()


if __name__ == "__main__":
    main()
