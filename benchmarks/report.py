"""The benchmark report: runs the parts, keeps what each has measured, and writes report.md and report.json.

    python benchmarks/report.py                     # everything: about 30 minutes on two quiet cores
    python benchmarks/report.py --parts ingest      # one part anew, the report from it and what is kept of the others
    python benchmarks/report.py --resume            # only what this commit has not measured yet
    python benchmarks/report.py --from-results      # the report alone, from what is kept
    python benchmarks/report.py --quick             # small sizes, to see that everything works: figures mean nothing

Each part is a script of its own beside this one, run in a process of its own, one after another; what it prints is kept
as ``results/<part>.json`` with machine, versions and commit, so that a run that was cut short can go on.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from report_rows import Row, rows  # noqa: E402  # scripts beside each other

QUICK_FOLDER = HERE.parent / "build" / "bench-quick"
VERSIONS = ("ray", "paho-mqtt", "numpy", "msgspec", "aiomqtt", "pykka", "amqtt")


@dataclass(frozen=True, slots=True)
class Part:
    """A script with its options for the whole run and for a quick one, and the longest it may take."""

    name: str
    quick: tuple[str, ...]
    options: tuple[str, ...] = ()
    deadline_s: float = 1200.0


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("ingest", ("--count", "4000", "--pairs", "1", "--twins", "400")),
        Part("durable", ("--count", "3000", "--pairs", "1", "--twins", "400", "--engines", "sqlite")),
        Part("competition", ("--count", "3000", "--pairs", "1", "--twins", "400", "--broker-count", "0")),
        Part(
            "gateway",
            ("--messages", "200", "--pairs", "1", "--twins", "400", "--store", "memory,sqlite"),
            ("--store", "memory,sqlite"),
        ),
        Part("city_scale", ("--sizes", "400", "--idle-at", "400", "--idle-s", "2")),
        Part("city_nodes", ("--count", "4000", "--runs", "1", "--twins", "400", "--nodes", "1,2")),
    )
}

WHY = {
    "ingest, QoS 0": "paho's reading of packets, the broker and the router share the cores: processor time in its row",
    "ingest, QoS 1": "acknowledgements wait for the disk: the log's own microseconds are in its rows",
    "gateway batches": "router and twin actors share the cores with load and broker: see the part's own results",
    "latency": "the router groups what comes before it commits and delivers, and waits for its turn on a core",
    "memory per twin": "the columns in the remark, mostly a weekly profile; the rest is the working memory of an actor",
    "launch": "its longest phases are in the remark",
    "query": "its parts are in the remark",
    "idle city": "the processes that used most are in the remark; the peer is Ray's own share",
    "processor time per reading, 4 nodes": "the parts are in results/city_nodes.json",
}
"""Where a goal is missed: where its row or its part's results show what limits it, by the beginning of its name."""


def commit() -> str:
    """The commit that is measured, with a + when files differ from it; "unknown" outside a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""

    if shutil.which("git") is None or not (head := git("rev-parse", "--short=12", "HEAD")):
        return "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../twin_actors", "../domains", "*.py")
    return head + ("+" if changed else "")


def additions_per_us() -> float:
    """How fast this machine is just now: additions in a Python loop, the best of three."""

    def seconds() -> float:
        total, began = 0, time.perf_counter()
        for number in range(2_000_000):
            total += number
        return time.perf_counter() - began

    return round(2.0 / min(seconds() for _ in range(3)), 1)


def machine() -> dict[str, Any]:
    """What a reader must know of the machine to place the figures."""

    def version(*words: str) -> str:
        found = shutil.which(words[0]) or shutil.which(words[0], path="/usr/sbin:/usr/local/sbin")
        if found is None:
            return "not installed"
        done = subprocess.run([found, *words[1:]], capture_output=True, text=True, timeout=20)
        return (done.stdout or done.stderr).strip().splitlines()[0]

    versions = {}
    for package in VERSIONS:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": models[0] if models else platform.machine(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "additions_per_us": additions_per_us(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "mosquitto": version("mosquitto", "-h"),
        "node": version("node", "--version"),
        "versions": versions,
    }


def run_part(part: Part, quick: bool) -> dict[str, Any]:
    """What the part printed, or why it could not run under ``skipped``."""
    script = HERE / f"{part.name}.py"
    if not script.exists():
        return {"skipped": f"benchmarks/{script.name} is not there"}
    place = Path(tempfile.mkdtemp(prefix="ta-home-"))
    words = [sys.executable, str(script), "--json", *(part.quick if quick else part.options)]
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, text=True, timeout=part.deadline_s,
            env={**os.environ, "TWIN_ACTORS_HOME": str(place),
                 "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        end_cities(place)
        return {"skipped": f"not done within {part.deadline_s:.0f} s"}
    if done.returncode:
        end_cities(place)
        return {"skipped": f"ended with {done.returncode}: see its words above"}
    shutil.rmtree(place, ignore_errors=True)
    # Ray may have its say on stdout before or after: what the part says begins a line
    text = done.stdout[done.stdout.index("{\n") :]
    answer: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    return answer


def end_cities(place: Path) -> None:
    """End the cities that a part has left below its folder: exactly those, by their records."""
    from twin_actors.runtime.processes import Record
    from twin_actors.runtime.shutdown import end

    for folder in place.iterdir():
        record = Record.load(folder)
        if record is not None:
            end(record, folder)


def measure(names: Sequence[str], folder: Path, *, quick: bool, resume: bool) -> list[str]:
    """Run the parts in turn and keep what they say; returns those that could not run."""
    folder.mkdir(parents=True, exist_ok=True)
    now, failed = commit(), []
    for name in names:
        kept = folder / f"{name}.json"
        if resume and kept.exists():
            before = json.loads(kept.read_text())
            if "skipped" not in before and before.get("run", {}).get("commit") == now:
                print(f"{name}: kept from {before['run']['at']}", file=sys.stderr)
                continue
        print(f"{name}: measuring", file=sys.stderr)
        began = time.monotonic()
        found = run_part(PARTS[name], quick)
        found["run"] = {
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - began, 1),
            "commit": now, "quick": quick, "niceness": os.nice(0), "machine": machine(),
        }  # fmt: skip
        staging = kept.with_suffix(".new")
        staging.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        staging.replace(kept)
        if "skipped" in found:
            failed.append(name)
            print(f"{name}: {found['skipped']}", file=sys.stderr)
    return failed


def kept_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Everything that is kept, by part."""
    paths = {name: folder / f"{name}.json" for name in PARTS}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def limits(row: Row) -> str:
    """What limits a row that misses its goal."""
    begin = max((each for each in WHY if row.name.startswith(each)), key=len, default="")
    return WHY.get(begin, "not profiled yet")


def markdown(found: Sequence[Row], results: Mapping[str, Mapping[str, Any]]) -> str:
    """The report as a page."""
    lines = [
        "# Benchmark report",
        "",
        "Made by `make bench`; the same rows are in [report.json](report.json), what each part measured in "
        "[results/](results/). What the rows mean and how to run them: [docs/benchmarks.md](../docs/benchmarks.md).",
        "",
    ]
    if any(result.get("run", {}).get("quick") for result in results.values()):
        lines += ["**A quick run with small sizes: these figures mean nothing.**", ""]
    lines += [
        "Load generator, broker, city and peers share the machine at the same niceness; a peer runs in turn with the",
        "city, while the other is not subscribed. paho is as published, for the peers. The ratio is the median over",
        "pairs of runs. Several nodes are raylets on one machine: that proves the logic, not the network.",
        "",
        "| what | value | peer | peer's value | ratio | goal | met | remarks |",
        "|---|---:|---|---:|---:|---|---|---|",
    ]
    lines += [_line(row) for row in found]
    missed = [row for row in found if row.met is False]
    lines += ["", "## What limits the missed goals", ""]
    lines += [f"- {row.name} ({_number(row.value)} {row.unit}; {row.goal}): {limits(row)}." for row in missed]
    lines += ["None is missed."] if not missed else []
    lines += ["", "## How it was made", "", "| part | when (UTC) | commit | took | niceness | machine |"]
    lines += ["|---|---|---|---|---|---|", *(_made(name, result) for name, result in results.items())]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    met = {True: "yes", False: "**no**", None: ""}[row.met]
    cells = [
        row.name, f"{_number(row.value)} {row.unit}".strip(), row.peer, _number(row.peer_value), _number(row.ratio),
        row.goal, met, row.note.replace("|", "\\|"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _made(name: str, result: Mapping[str, Any]) -> str:
    """When, from which commit and on which machine a part was measured."""
    run = result.get("run")
    if run is None:
        return f"| {name} | before this report | | | | |"
    box = run["machine"]
    speed = [f"{box['additions_per_us']} Python additions/µs"] if "additions_per_us" in box else []
    words = [
        f"{box['cores']} × {box['processor']}", *speed, f"{box['memory_gb']} GB", box["system"],
        f"Python {box['python']}",
        box["mosquitto"], f"node {box['node']}", *(f"{package} {found}" for package, found in box["versions"].items()),
    ]  # fmt: skip
    when = f"{run['at'][:16]} | {run['commit']} | {run['seconds']:.0f} s | {run['niceness']}"
    return f"| {name} | {when} | {', '.join(words)} |"


def write(out: Path, results: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """report.json and report.md into ``out``."""
    found = rows(results)
    (out / "report.json").write_text(json.dumps([row.as_dict() for row in found], indent=2, ensure_ascii=False) + "\n")
    (out / "report.md").write_text(markdown(found, results))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"divided by commas: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes; kept apart, below build/bench-quick")
    parser.add_argument("--resume", action="store_true", help="leave out what this commit has measured already")
    parser.add_argument("--from-results", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, help="where the parts' results are kept (default: benchmarks/results)")
    parser.add_argument("--out", type=Path, help="where the report goes (default: benchmarks)")
    said = parser.parse_args()
    names = said.parts.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"no part called {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    folder = said.results or (QUICK_FOLDER if said.quick else HERE / "results")
    out = said.out or (QUICK_FOLDER if said.quick else HERE)
    failed = [] if said.from_results else measure(names, folder, quick=said.quick, resume=said.resume)
    results = kept_results(folder)
    if not results:
        parser.error(f"nothing is kept in {folder}: run without --from-results")
    found = write(out, results)
    goals = [row for row in found if row.met is not None]
    print(f"{out / 'report.md'}: {len(found)} rows, {sum(bool(row.met) for row in goals)} of {len(goals)} goals met")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
