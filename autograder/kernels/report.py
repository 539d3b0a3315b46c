"""The emulator's raw findings turned into a report: lines for addresses, sentences for faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autograder.kernels.compile import Build
from autograder.kernels.loops import endless_loop
from autograder.kernels.sentences import sentence
from autograder.kernels.sites import true_line
from autograder.kernels.turns import source_text, turn_ahead

# allocation number -> (parameter's name, shape, dtype)
Names = dict[int, Any]

_ACCESS = ("load", "store", "atomic")
_SPACE = ("global", "shared", "global")  # a __device__ variable lies in global memory
_SUMMED = ("requests", "sectors", "sectors_min", "wavefronts", "wavefronts_min", "bytes", "lanes",
           "partial")  # fmt: skip


def read_report(raw: Mapping[str, Any], builds: Mapping[int, Build], names: Names) -> dict[str, Any]:
    """The report of one call, from the library's JSON."""
    launches = [_launch(launch, builds) for launch in raw["launches"]]
    found = [_diagnostic(entry, raw["launches"], builds, names) for entry in raw["diagnostics"]]
    found = [_told(fields) for fields in _judged_together(found)]
    return {
        "launches": launches,
        "diagnostics": _merged(found),
        "output": raw["output"],
        "dropped": raw["dropped"],
    }


def _place(build: Build | None, offset: int) -> tuple[str, int]:
    """(file, line) of an address in a module, ("", 0) if unknown."""
    found = build.lines.lookup(offset) if build and offset else None
    return found or ("", 0)


def _launch(raw: Mapping[str, Any], builds: Mapping[int, Build]) -> dict[str, Any]:
    build = builds.get(raw["module"])
    scale = raw["blocks"] / raw["blocks_run"] if raw["blocks_run"] else 1.0
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in raw["lines"]:
        file, line = _place(build, entry["pc"])
        access = f"{_SPACE[entry['space']]}_{_ACCESS[entry['access']]}"
        key = (file, line, access)
        sample = [None if offset < 0 else offset for offset in entry["sample"]]
        if key not in lines:
            lines[key] = {
                "file": file, "line": line, "access": access, **dict.fromkeys(_SUMMED, 0),
                "worst_degree": 0.0, "sample": sample, "sample_size": entry["sample_size"],
            }  # fmt: skip
        row = lines[key]
        for name in _SUMMED:
            row[name] += round(entry[name] * scale)
        if entry["worst_degree"] > row["worst_degree"]:
            row["sample"], row["sample_size"] = sample, entry["sample_size"]
            row["worst_degree"] = entry["worst_degree"]
    ordered = [lines[key] for key in sorted(lines)]
    return {
        **{name: raw[name] for name in ("kernel", "line", "grid", "block", "shared_bytes",
                                        "blocks", "blocks_run")},
        "file": build.source.name if build else "",
        "counts": _counts(raw, ordered, scale),
        "lines": ordered,
    }  # fmt: skip


def _counts(raw: Mapping[str, Any], lines: list[dict[str, Any]], scale: float) -> dict[str, Any]:
    """Totals of a launch by kind of access."""
    counts: dict[str, Any] = {}
    for space, costs in (("global", ("sectors", "sectors_min")),
                         ("shared", ("wavefronts", "wavefronts_min"))):  # fmt: skip
        for access in _ACCESS:
            kind = f"{space}_{access}"
            own = [line for line in lines if line["access"] == kind]
            for name in ("requests", *costs, "bytes"):
                counts[f"{kind}_{name}"] = sum(line[name] for line in own)
    counts["worst_bank_degree"] = max((line["worst_degree"] for line in lines), default=0.0)
    counts["partial_requests"] = sum(line["partial"] for line in lines)
    for name in ("barriers", "warp_syncs", "shuffles"):
        counts[name] = round(raw[name] * scale)
    return counts


def _diagnostic(
    raw: dict[str, Any], launches: list[dict[str, Any]], builds: Mapping[int, Build], names: Names
) -> dict[str, Any]:
    build = builds.get(raw["module"])
    launch = launches[raw["launch"]] if 0 <= raw["launch"] < len(launches) else None
    file, line = _place(build, raw["pc"])
    _, other_line = _place(build, raw["other_pc"])
    line = true_line(raw["line"]) or line
    other_line = true_line(raw["other_line"]) or other_line
    source = build.source.name if build else ""
    if raw["kind"] in ("step limit", "time limit"):
        raw["text"], _, places = raw["text"].partition(";")
        line = _loop_line(build, file or source, places, launch) or line
    if raw["kind"] == "invalid launch":
        kernel = raw["variable"]
    else:
        kernel = launch["kernel"] if launch else ""
    fields = {
        **raw, "file": file or source, "line": line, "other_line": other_line, "kernel": kernel,
        "thread": _index(raw["thread"], launch["block"]) if launch else [],
        "block": _index(raw["block"], launch["grid"]) if launch else [],
        "other_thread": _index(raw["other_thread"], launch["block"]) if launch else [],
        "other_block": _index(raw["other_block"], launch["grid"]) if launch else [],
        "name": names.get(raw["allocation"]),
        "launch": launch, "launched": f"{source}:{launch['line']}" if launch else "",
        "barrier": true_line(raw["barrier_line"]),
    }  # fmt: skip
    pairs = [(line, other_line), _outer_lines(build, raw, launch)]
    return {**fields, "ahead": turn_ahead(build, fields["file"], pairs, fields["barrier"])}


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of the report."""
    return {
        "severity": "error" if fields["error"] else "warning", "message": sentence(fields),
        **{name: fields[name] for name in ("kind", "kernel", "file", "line", "other_line", "block",
                                           "thread", "count")},
    }  # fmt: skip


def _judged_together(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Marks the races of a line that several threads read and write the same place in, as by +=."""

    def key(fields: Mapping[str, Any]) -> tuple[str, str, int] | None:
        same = fields["kind"] == "race" and fields["line"] == fields["other_line"]
        return (fields["kernel"], fields["file"], fields["line"]) if same else None

    # A copy that nobody waited for is made late, whatever stands between: that is told already.
    late = {one["other_line"] for one in found if one["kind"] == "uninitialised" and one["text"]}
    stores = [one for one in found if _ACCESS[one["access"]] == "store"]
    written = {key(one) for one in stores if one["text"] == "write"} - {None}
    read = {key(one) for one in found if _ACCESS[one["access"]] == "load"}
    told = [{**one, "lost_update": key(one) in written & read} for one in found]
    return [one | {"ahead": 0} if {one["line"], one["other_line"]} & late else one for one in told]


def _outer_lines(
    build: Build | None, raw: Mapping[str, Any], launch: Mapping[str, Any] | None
) -> tuple[int, int]:
    """Of both accesses, the lines of the functions that they were inlined into; 0 if unknown."""
    if not build or not launch:
        return 0, 0
    first, other = (build.lines.outer_line(raw[name], launch["line"]) for name in ("pc", "other_pc"))
    return first, other


def _loop_line(
    build: Build | None, file: str, places: str, launch: Mapping[str, Any] | None
) -> int:
    """The line of the loop around the places that a thread came to again and again; 0 if unknown."""
    if not build or not places:
        return 0
    launched = launch["line"] if launch else 0
    lines = {build.lines.outer_line(int(place), launched) for place in places.split(";")}
    return endless_loop(source_text(build, file), sorted(lines - {0}))


def _index(linear: int, dimensions: list[int]) -> list[int]:
    x, y, _ = dimensions
    return [linear % x, linear // x % y, linear // (x * y)]


def _merged(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each kind and pair of lines: several instructions may belong to a line."""
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in found:
        pair = tuple(sorted((entry["line"], entry["other_line"])))
        key = (entry["kind"], entry["severity"], entry["kernel"], entry["file"], pair)
        if key in kept:
            kept[key]["count"] += entry["count"]
        else:
            kept[key] = entry
    return list(kept.values())
