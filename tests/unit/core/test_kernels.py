"""The compiled kernels: how they are built and found, and that a process without them says so and goes on."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.core.streams import joined, tanks, told
from tests.unit.core.toy import JOINT, TANK
from twin_actors.core import estimation, folding
from twin_actors.core.kernels import FOLDER, VARIABLE, WrongArray, dense_rows, kernels, load, pointer, rows

ROOT = Path(__file__).resolve().parents[3]


def build_hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the sources, compiled."""
    hook = build_hook()
    if not hook.machine_compiler():
        pytest.skip("this machine has no C compiler")
    folder = tmp_path_factory.mktemp("kernels")
    for path in [*FOLDER.glob("*.c"), *FOLDER.glob("*.h")]:
        shutil.copy(path, folder)
    hook.build(folder)
    return folder


@pytest.fixture
def copy(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "copy"))


def test_they_are_built_from_their_source_alone(built):
    found = load(built)
    assert found.loops is not None
    assert found.says.startswith("compiled")


def test_each_processor_gets_what_it_can_run(copy):
    faster = copy / "kernels_v3.so"
    if not faster.exists() or "AVX2" not in load(copy).says:
        pytest.skip("this processor has no AVX2")
    faster.unlink()
    assert load(copy).says == "compiled"


def test_none_is_said(tmp_path):
    assert load(tmp_path).loops is None
    assert "not built" in load(tmp_path).says


def test_another_source_is_not_served(copy):
    with (copy / "filter.c").open("a") as source:
        source.write("/* changed */\n")
    assert load(copy).loops is None
    assert "another version" in load(copy).says


def test_a_broken_library_is_not_served(copy):
    for path in copy.glob("*.so"):
        path.write_bytes(b"\x7fELF, cut off")
    assert load(copy).loops is None
    assert "cannot be loaded" in load(copy).says


def test_they_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(VARIABLE, "off")
    kernels.cache_clear()
    try:
        assert kernels().loops is None
        assert VARIABLE in kernels().says
    finally:
        monkeypatch.undo()
        kernels.cache_clear()


@pytest.mark.skipif(kernels().loops is None, reason=kernels().says)
def test_they_cost_a_process_next_to_nothing():
    """A twin actor of one twin loads them as well: there is no room for a compiler in it."""
    program = (
        "import numpy, psutil; from twin_actors.core.kernels import kernels; me = psutil.Process();"
        "before = me.memory_full_info().uss; assert kernels().loops; print(me.memory_full_info().uss - before)"
    )
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert int(result.stdout) < 1_000_000


def test_rows_are_made_dense_only_where_they_are_not():
    block = np.arange(24.0).reshape(4, 6)
    part = block[::2, 1:4]
    assert dense_rows(part, np.float64) is part
    assert rows(part)[1] == 12
    assert dense_rows(block.T, np.float64).flags.c_contiguous
    assert np.array_equal(dense_rows(block.T, np.float64), block.T)
    assert dense_rows(block[:, ::2], np.float64).strides[-1] == 8


def test_what_a_kernel_would_misread_is_refused():
    block = np.arange(24.0).reshape(4, 6)
    with pytest.raises(WrongArray, match="not dense"):
        rows(block[:, ::2])
    with pytest.raises(WrongArray, match="in one piece"):
        pointer(block[:, :3])


@pytest.mark.skipif(kernels().loops is None, reason=kernels().says)
@pytest.mark.parametrize("kind", [TANK, JOINT], ids=["diagonal", "joint"])
def test_a_wrong_array_is_no_failure_of_the_model(kind):
    table = tanks(3, kind)
    table.x = np.repeat(table.x, 2, axis=1)[:, ::2]  # the same numbers, with gaps between them: alone, none would show
    with pytest.raises(WrongArray, match="not dense"):
        table.apply(joined(*(told(1_780_000_000.0, level=3.0, twin=twin) for twin in range(3))))
    assert not table.model_errors.any()
    assert not table.failures


def test_without_a_compiler_a_package_of_one_is_required_unless_kernels_are_off(monkeypatch):
    """Pip has no optional requirements of a build: whose index lacks the package must find the way around it."""
    hook = build_hook().KernelHook(str(ROOT), {}, None, None, str(ROOT), "wheel")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("CC", "no-such-compiler")
    (required,) = hook.dependencies()
    monkeypatch.setenv(VARIABLE, "off")
    assert hook.dependencies() == []
    page = (ROOT / "docs/operations.md").read_text()
    assert f"No matching distribution found for {required}" in page  # as pip says it
    assert f"{VARIABLE}=off pip install" in page


@pytest.mark.skipif(kernels().loops is None, reason=kernels().says)
@pytest.mark.parametrize("twins", [1, 255, 700])
def test_the_factor_of_a_covariance_is_that_of_numpy_to_the_bit(twins):
    chance = np.random.default_rng(3)
    parts = chance.normal(size=(5, 3, 2, twins))  # three directions for five fields: pivots are lost
    whole = np.einsum("idmb,jdmb->ijmb", parts, parts)
    whole[:, :, 0, 0] = 0.0
    whole[2, 2, 1, twins // 2] = np.nan
    table = np.zeros((5, 5, 2, twins + 9))
    table[..., 4 : 4 + twins] = whole
    view = table[..., 4 : 4 + twins]
    expected = estimation.cholesky(whole)
    assert (expected[np.arange(5), np.arange(5)] == 0).any(), "some pivot must be lost"
    assert folding.cholesky(view).tobytes() == expected.tobytes()
