"""``calibrate``: fit the parameters of twins to recorded data and write them as one more scenario file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import Files, Layered, all_files
from twin_actors.cli.faults import Failed
from twin_actors.cli.voice import AsJson, Voice, moment, table

if TYPE_CHECKING:
    from twin_actors.core.calibration import Calibration
    from twin_actors.core.kind import Kind
    from twin_actors.runtime.recording import Recording
    from twin_actors.scenario.model import Replay, Scenario


def calibrate(
    files: Files = None,
    layered: Layered = None,
    history: Annotated[
        Path | None, typer.Option(help="Recorded data, CSV or Parquet [default: the files of the scenario's replays].")
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="YAML with what a replay says beside 'file': kind, time, entity or wide, fields, missing."),
    ] = None,
    source: Annotated[int | None, typer.Option(min=1, help="Only this one of the replays, counted from 1.")] = None,
    fit: Annotated[
        str, typer.Option(help="Attributes to fit besides the noises, separated by commas; [all entities of the kind].")
    ] = "",
    noises: Annotated[bool, typer.Option(help="Fit sd and drift as well.")] = True,
    validation: Annotated[float, typer.Option(min=0.05, max=0.9, help="Share of the time kept for judging.")] = 0.3,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write [default: FILE.calibrated.yaml].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit attributes and noises of twins to history, judge them on unseen time, keep what is better.

    The file written holds a 'parameters' section: layer it on the scenario with -f.
    """
    paths = all_files(files, layered)
    voice = Voice(as_json)
    scenario = _scenario(paths, history, mapping)
    recordings = _recordings(voice, scenario, history if mapping is None else None, source)
    names = tuple(name.strip() for name in fit.split(",") if name.strip())
    _check_fit(names, [recording.kind for recording in recordings])
    results = [
        _calibrated(voice, scenario, recordings, kind, names, noises, validation)
        for kind in dict.fromkeys(recording.kind for recording in recordings)
    ]
    path = output if output is not None else paths[-1].with_suffix(".calibrated.yaml")
    said = {entity: entry for _, _, its in results for entity, entry in its.items()}
    if said:
        _write(path, said, [calibration for calibration, _, _ in results])
    evidence = [each for calibration, _, _ in results for each in calibration.evidence()]
    shown = [_line(each) for each in evidence]
    better = sum(bool(each["better"]) for each in evidence)
    words = f"{better:,} of {len(evidence):,} entities have better parameters on unseen time"
    files_said = " ".join(f"-f {each}" for each in [*paths, path])
    tail = f"{path} written; use it with: twin-actors up {files_said}" if said else "nothing written: all keep theirs"
    voice.result(
        {"file": str(path) if said else None, "better": better, "entities": evidence, "parameters": said},
        table(shown),
        words,
        tail,
    )


def _scenario(paths: Sequence[Path], history: Path | None, mapping: Path | None) -> Scenario:
    from twin_actors.scenario import load_scenario

    if mapping is None:
        return load_scenario(list(paths))
    if history is None:
        raise typer.BadParameter("--mapping says how to read a --history file: give both")
    import yaml

    try:
        section = yaml.safe_load(mapping.read_text())
    except yaml.YAMLError as error:
        raise Failed(f"{mapping} is no YAML: {error}") from None
    if not isinstance(section, dict):
        raise Failed(f"{mapping} must hold the keys of a replay: kind, time, entity or wide, fields")
    section = {**section.get("replay", section), "file": str(history.resolve())}
    with tempfile.TemporaryDirectory(prefix="twin-actors-") as folder:
        layer = Path(folder) / f"{mapping.stem}.yaml"
        body = yaml.safe_dump([{"replay": section}], sort_keys=False, allow_unicode=True)
        layer.write_text("sources: !replace\n" + body)
        return load_scenario([*paths, layer])


def _recordings(voice: Voice, scenario: Scenario, history: Path | None, source: int | None) -> list[Recording]:
    from twin_actors.runtime.recording import load_replay

    replays = list(scenario.replays)
    if not replays:
        raise Failed(f"{scenario.city} has no replay that says how to read a history: add one, or give --mapping")
    if source is not None:
        if source > len(replays):
            raise Failed(f"there is no replay {source}; there are {len(replays)}")
        replays = [replays[source - 1]]
    if history is not None:
        if len(replays) > 1:
            there = "; ".join(f"{number}: {each.kind}" for number, each in enumerate(replays, start=1))
            raise Failed(f"which replay's mapping reads {history}? Say --source ({there})")
        replays = [_of_file(replays[0], history)]
    ids = frozenset(entity.id for entity in scenario.entities)
    recordings = []
    for each in replays:
        recording = load_replay(each, ids)
        recordings.append(recording)
        if recording.bad_rows:
            first = "; ".join(f"line {row.line}: {row.reason}" for row in recording.bad[:3])
            voice.warn(f"{recording.file}: {recording.bad_rows:,} bad rows left out ({first})")
        if not len(recording):
            raise Failed(f"{recording.file}: no reading of any entity of the scenario")
    return recordings


def _of_file(replay: Replay, history: Path) -> Replay:
    import msgspec

    return msgspec.structs.replace(replay, file=str(history), start_s=None, end_s=None)


def _check_fit(names: Sequence[str], kinds: Sequence[str]) -> None:
    """Each name must be an attribute of at least one of the kinds. Raises Failed."""
    from twin_actors.scenario import load_catalogue

    layouts = {kind: load_catalogue().kinds[kind].attributes.layout for kind in kinds}
    known = {name for layout in layouts.values() for name in (*layout.fields, *layout.labels)}
    for name in names:
        if name not in known:
            there = "; ".join(f"{kind}: {', '.join(layout.fields) or 'none'}" for kind, layout in layouts.items())
            raise Failed(f"--fit: there is no attribute {name!r} ({there})")


def _calibrated(
    voice: Voice,
    scenario: Scenario,
    recordings: list[Recording],
    name: str,
    fit: tuple[str, ...],
    noises: bool,
    validation: float,
) -> tuple[Calibration, Kind, dict[str, Any]]:
    from twin_actors.core.calibration import changes
    from twin_actors.runtime.training import calibrate_entities, history_of
    from twin_actors.scenario import load_catalogue

    kind = load_catalogue().kinds[name]
    layout = kind.attributes.layout
    fit = tuple(each for each in fit if each in layout.fields or each in layout.labels)
    said = {entity for recording in recordings if recording.kind == name for entity in recording.entity}
    entities = [entity for entity in scenario.entities if entity.kind == name and entity.id in said]
    batch = history_of(recordings, kind, [entity.id for entity in entities])
    voice.warn(f"{name}: fitting {len(entities):,} entities to {len(batch):,} readings")
    calibration = calibrate_entities(kind, entities, batch, fit=fit, noises=noises, validation=validation)
    return calibration, kind, {entity: dict(entry) for entity, entry in changes(calibration, kind).items()}


def _write(path: Path, said: dict[str, Any], calibrations: list[Calibration]) -> None:
    import yaml

    lines = ["# Parameters fitted by twin-actors calibrate; layer this file on the scenario with -f."]
    lines += [
        f"# {each.kind}: fitted {moment(each.train_s[0])} to {moment(each.train_s[1])}, "
        f"judged until {moment(each.validation_s[1])} (UTC)"
        for each in calibrations
    ]
    body = yaml.safe_dump({"parameters": said}, sort_keys=False, default_flow_style=None, width=110)
    path.write_text("\n".join(lines) + "\n" + body)


def _line(evidence: dict[str, Any]) -> dict[str, Any]:
    """One entity's evidence for people: the fields that were compared, before → after."""

    def change(values: dict[str, list[float | None]], form: str) -> str:
        known = {name: pair for name, pair in values.items() if pair[0] is not None and pair[1] is not None}
        return ", ".join(f"{name} {pair[0]:{form}} → {pair[1]:{form}}" for name, pair in known.items())

    return {
        "entity": evidence["entity"],
        "better": evidence["better"],
        "likelihood": f"{evidence['likelihood_before']:.3f} → {evidence['likelihood_after']:.3f}",
        "rmse": change(evidence["rmse"], ".4g"),
        "coverage_90": change(evidence["coverage_90"], ".2f"),
    }
