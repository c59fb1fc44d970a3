"""The Python example of the README, run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(200)
def test_the_python_example_runs(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example is not None
    shown = re.sub(r"^(city\S*)  #", r"print(repr(\1))  #", example[1], flags=re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:twin_actors", "-c", shown],
        capture_output=True,
        text=True,
        timeout=190,
        cwd=ROOT,
        env={**os.environ, "TWIN_ACTORS_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "<City harbour: 24 twins in 6 kinds" in done.stdout
    assert "substation/quay" in done.stdout
    assert "received" in done.stdout
    assert "UNEXPLAINED" not in done.stdout
