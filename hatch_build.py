"""Build hook: compiles the kernels of twin_actors/core/kernels beside their source, for wheels and editable installs.

With the C compiler of the machine (``$CC`` or ``cc``) where there is one, else with the one in the package ziglang,
which pip then takes as a build requirement. The kernels use no C library and no headers but the compiler's own.
``TWIN_ACTORS_KERNELS=off`` installs without them, as does a compiler that fails: everything works, and gives the same
numbers, by numpy; ``twin-actors doctor`` says which it is. Build requirements cannot be optional (PEP 517): where the
package index lacks ziglang, only that variable or a compiler helps, as docs/operations.md says.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("twin_actors/core/kernels")
FLAGS = (
    "-std=gnu11", "-O3", "-fPIC", "-shared", "-nostdlib", "-fvisibility=hidden",
    "-ffp-contract=off",  # a·b + c is rounded twice, as numpy does
    "-fno-math-errno", "-fno-trapping-math",  # neither changes a result
)  # fmt: skip
LEVELS = {"x86_64": {"": "-march=x86-64", "_v3": "-march=x86-64-v3"}}
"""Builds by machine, by the suffix of their name: the second is for processors with AVX2, see ``has_avx2``."""
ZIG_LEVELS = {"-march=x86-64": "-mcpu=x86_64", "-march=x86-64-v3": "-mcpu=x86_64_v3"}


def wanted() -> bool:
    return os.environ.get("TWIN_ACTORS_KERNELS", "on") != "off" and sys.platform == "linux"


def machine_compiler() -> list[str]:
    """The C compiler of this machine as the beginning of a command; empty: there is none."""
    command = shlex.split(os.environ.get("CC", "cc"))
    return command if shutil.which(command[0]) else []


def fingerprint(folder: Path) -> str:
    """What tells one version of the source from another: as ``twin_actors.core.kernels`` works it out."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.c"), *folder.glob("*.h")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(folder: Path) -> list[Path]:
    """Compile the kernels in ``folder``; returns the libraries. Raises CalledProcessError when the compiler fails."""
    compiler = machine_compiler()
    zig = not compiler
    compiler = compiler or [sys.executable, "-m", "ziglang", "cc"]
    sources = [str(path) for path in sorted(folder.glob("*.c"))]
    made = []
    for suffix, level in LEVELS.get(platform.machine(), {"": ""}).items():
        library = folder / f"kernels{suffix}.so"
        levels = [ZIG_LEVELS[level] if zig else level] if level else []
        with tempfile.TemporaryDirectory() as scratch:
            fresh = Path(scratch) / library.name
            subprocess.run(
                [*compiler, *FLAGS, *levels, f"-DFINGERPRINT=0x{fingerprint(folder)}u", *sources, "-o", str(fresh)],
                check=True,
                env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": scratch, "ZIG_LOCAL_CACHE_DIR": scratch},
            )
            # never written in place: a running city has the old one mapped
            beside = library.with_suffix(".new")
            shutil.copyfile(fresh, beside)
            beside.replace(library)
        made.append(library)
    return made


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    def dependencies(self) -> list[str]:
        return ["ziglang>=0.13"] if wanted() and not machine_compiler() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or not wanted():
            return
        try:
            made = build(Path(self.root) / FOLDER)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"installing without compiled kernels (numpy serves, slower): {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"] += [str(path.relative_to(self.root)) for path in made]
