"""What the documentation promises: links lead somewhere, commands exist, examples are what the code accepts."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from domains.power import DOMAIN as POWER
from domains.traffic import DOMAIN as TRAFFIC
from domains.venues import DOMAIN as VENUES
from twin_actors.core.kind import Domain
from twin_actors.core.view import Policy
from twin_actors.scenario import load_scenario
from twin_actors.scenario.document import FORMS, Document
from twin_actors.scenario.sections.base import Section
from twin_actors.testing import check_domain
from twin_actors.wire.access import access_list
from twin_actors.wire.decode import ReadingDecoder
from twin_actors.wire.gateway import GatewayDecoder
from twin_actors.wire.messages import decode_acknowledgement, decode_command, decode_dead_letter
from twin_actors.wire.reasons import Reason

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "domains").glob("*/README.md")],
    key=lambda page: page.as_posix(),
)
WIRE = (ROOT / "docs/wire.md").read_text()
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    return [body for what, body in _FENCED.findall(text) if what == language]


def prose(text: str) -> str:
    return _FENCED.sub("", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(prose(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_relative_to(ROOT), f"{target} leads out of the project"
        assert there.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(there), f"{target}: no such heading in {path or 'this page'}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    named = set(re.findall(r"`make ([a-z-]+)[^`]*`", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
    assert named <= targets


def test_the_two_commands_are_in_the_readme() -> None:
    assert re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE) == ["demo", "test"]


def test_every_page_is_listed() -> None:
    index, decisions = ROOT / "docs/index.md", ROOT / "docs/adr/README.md"
    listed = {
        (page.parent / target).resolve() for page in (index, decisions) for target in _LINK.findall(page.read_text())
    }
    missing = {page for page in (ROOT / "docs").rglob("*.md") if page != index} - listed
    assert not missing


def test_figures_are_those_that_were_measured() -> None:
    """The pages quote the run that is kept beside the benchmark."""
    kept = json.loads((ROOT / "benchmarks" / "results" / "ingest.json").read_text())
    readme, page = ((ROOT / name).read_text() for name in ("README.md", "docs/benchmarks.md"))
    assert f"**{kept['ratio_to_bare_paho']:.2f}** of a bare paho subscriber" in readme
    assert f"**{kept['ratio_to_one_call_per_message']:.0f} times** as many" in readme
    assert f"| {kept['ratio_to_bare_paho']:.2f} |" in page
    assert f"{kept['latency_p50_ms']:.1f}; {kept['latency_p99_ms']:.1f}" in page
    assert f"{kept['bytes_per_twin']:,.0f}" in page


def written_by_people() -> Iterator[tuple[Path, str]]:
    """Every text file of the project; what tools make lies in folders with a dot or is named here."""
    kinds = {
        ".py",
        ".md",
        ".yaml",
        ".yml",
        ".toml",
        ".txt",
        ".json",
        ".cfg",
        ".sh",
        ".html",
        ".js",
        ".css",
        ".tmpl",
        "",
    }
    made = {"__pycache__", "build", "dist", "node_modules"}
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        own = parts[0] in {".ci", ".github"} or not any(part.startswith(".") for part in parts[:-1])
        if own and not made.intersection(parts) and path.suffix in kinds and path.is_file():
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # not a text


def test_no_path_of_a_workplace_is_left_in_the_project() -> None:
    slash = "/"
    forbidden = [slash + "work" + slash, slash + "root" + slash]
    found = [
        f"{path.relative_to(ROOT)}: {word}" for path, text in written_by_people() for word in forbidden if word in text
    ]
    assert not found


def test_decisions_are_short_and_have_their_four_parts() -> None:
    for page in sorted((ROOT / "docs/adr").glob("0*.md")):
        text = page.read_text()
        parts = re.findall(r"^\*\*([A-Z][a-z ]+)\.\*\*", text, re.MULTILINE)
        assert parts == ["Context", "Decision", "What was tried", "Consequences"], page.name
        assert len(text.split()) <= 450, f"{page.name} is longer than a page"


def sections(section: type[Section] = Document) -> Iterator[type[Section]]:
    yield section
    for inner in Section.__subclasses__():
        if inner is not section:
            yield inner


def test_the_scenario_page_names_every_key() -> None:
    spans = " ".join(re.findall(r"`([^`]+)`", prose((ROOT / "docs/scenario.md").read_text())))
    words = set(re.findall(r"[a-z_]+", spans))
    for section in {*sections(), *FORMS.values()}:
        for name, field in section.model_fields.items():
            assert (field.alias or name) in words, f"{section.__name__}.{field.alias or name}"


def test_the_city_of_the_readme_is_valid(tmp_path: Path) -> None:
    (text,) = blocks((ROOT / "README.md").read_text(), "yaml")
    file = tmp_path / "quayside.yaml"
    file.write_text(text)
    assert load_scenario(file).kinds_used() == ("intersection", "substation", "venue")


def test_the_readme_uses_what_a_city_has() -> None:
    from twin_actors import City

    (text,) = blocks((ROOT / "README.md").read_text(), "python")
    compile(text, "README.md", "exec")
    used = set(re.findall(r"\b[Cc]ity\.([a-z_]+)\(", text))
    assert used
    assert all(hasattr(City, name) for name in used), used


def test_the_wire_page_lists_every_reason_that_becomes_a_dead_letter() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "twin_actors").rglob("*.py") if path.name != "reasons.py")
    used = {reason for reason in Reason if f"Reason.{reason.name}" in sources} | {Reason.OUT_OF_RANGE, Reason.RATE}
    listed = set(re.findall(r"`([a-z_]+)`", WIRE))
    assert {reason.value for reason in used} <= listed


def test_the_telemetry_of_the_wire_page_is_accepted() -> None:
    decoders = [ReadingDecoder(kind.reading) for domain in (TRAFFIC, POWER) for kind in domain.kinds]
    examples = blocks(WIRE.split("### Gateways")[0], "json")
    assert len(examples) == 4
    for example in examples:
        payload = example.strip().encode()
        accepted = [decoder.decode([payload], np.array([1.7812e9]), [0]) for decoder in decoders]
        assert any(len(decoded) and not decoded.rejected for decoded in accepted), example


def test_the_access_control_list_of_the_operations_page_is_what_is_rendered() -> None:
    (shown,) = [each for each in blocks((ROOT / "docs/operations.md").read_text(), "text") if "user city" in each]
    assert shown == access_list("harbour", ["footfall", "venue"], city="city", gateways=["cabinet-7"])


def test_the_gateways_messages_of_the_wire_page_are_accepted() -> None:
    kinds = {kind.name: ReadingDecoder(kind.reading) for kind in VENUES.kinds}
    names = ("footfall/n-1", "footfall/n-2", "footfall/n-3", "venue/arena")
    decoder = GatewayDecoder(kinds, {name: number for number, name in enumerate(names)})
    as_list, as_columns = blocks(WIRE.split("### Gateways")[1].split("## Commands")[0], "json")
    listed = decoder.decode(as_list.strip().encode(), 1.7812e9)
    assert not listed.strays
    assert sum(len(part.numbers) for part in listed.gathered) + len(listed.singles) == 2
    (part,) = decoder.decode(as_columns.strip().encode(), 1.7812e9).gathered
    assert part.numbers.tolist() == [0, 1, 2]
    assert part.values.tolist() == [[410, 388, 275]]


def test_the_other_messages_of_the_wire_page_are_read() -> None:
    command, acknowledgement = blocks(WIRE.split("## Commands")[1].split("## Dead letters")[0], "json")
    sent, answer = decode_command(command.encode()), decode_acknowledgement(acknowledgement.encode())
    assert sent.id == answer.id
    assert sent.expires_at_s - sent.issued_at_s == 120.0
    (letter,) = blocks(WIRE.split("## Dead letters")[1], "json")
    assert json.loads(decode_dead_letter(letter.encode()).payload) == {"load_mv": 23.4}


@pytest.fixture
def tutorial(tmp_path: Path) -> Iterator[tuple[ModuleType, ModuleType]]:
    """The kind and the policy of the tutorial as modules."""
    texts = blocks((ROOT / "docs/write-a-domain.md").read_text(), "python")
    modules = []
    for name, text in zip(("tutorial_water", "tutorial_drain"), texts, strict=False):
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        modules.append(module)
    yield modules[0], modules[1]
    for module in modules:
        del sys.modules[module.__name__]


def test_the_domain_of_the_tutorial_keeps_the_contract(tutorial: tuple[ModuleType, ModuleType]) -> None:
    water, drain = tutorial
    domain: Domain = water.DOMAIN
    policy: Policy = drain.DRAIN
    check_domain(Domain(name=domain.name, doc=domain.doc, kinds=domain.kinds, policies={policy.name: policy}))
