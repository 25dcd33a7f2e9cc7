"""fio's job files: sections of options, and what they ask of Anvil.

An option that Anvil does not know, or knows and cannot do, is an error that names the line and
the way out; nothing is skipped silently.  As in fio, sections are separated by `stonewall`:
Anvil runs one after another, never two at the same time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

from anvil_engine.errors import InvalidWorkload
from anvil_engine.units import parse_size, parse_time
from anvil_engine.workload import Phase, Workload

Value = TypeVar("Value")
Reader = Callable[[str], str]
"""The text of the file of that name."""

MAX_INCLUDES = 16
_GLOBAL = "global"
_FALSE = ("0", "false")
_TRUE = ("", "1", "true")


@dataclass(frozen=True)
class Option:
    """The text of an option, and where it stands (`job.fio:7`)."""

    value: str
    place: str


@dataclass
class Section:
    """A job with all its options, those of [global] included; later ones win."""

    name: str
    place: str
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class JobFile:
    """What a job file asks for: its phases in order, on one target.

    `engine` is what `ioengine` names, None where it names none.
    """

    filename: str
    engine: str | None
    phases: tuple[Phase, ...]
    warnings: tuple[str, ...]


def load(
    name: str,
    read: Reader,
    variables: Mapping[str, str],
    keywords: Mapping[str, int],
) -> JobFile:
    """The job file `name`; `read` gives the text of a file, also of those it includes.

    `variables` are what `${NAME}` stands for, `keywords` the numbers of `$pagesize`,
    `$mb_memory` and `$ncpus`.  Raises `InvalidWorkload`, naming file and line.
    """
    sections = _Parser(read, variables, keywords).parse(name)
    if not sections:
        raise InvalidWorkload(f"{name} has no job; write one as [name] and options below it")
    return _job_file(sections)


def workload_of(options: Mapping[str, str], *, runtime: float) -> tuple[Workload, list[str]]:
    """The workload of a job that has run, from its options, and the options without a place.

    `runtime` is what it took, for a job that did not say.  Raises `InvalidWorkload`.
    """
    values: dict[str, object] = {**_FIO_DEFAULTS, "runtime": runtime}
    unknown = []
    for spelled, text in options.items():
        name = _ALIASES.get(spelled, spelled)
        if name in _FIELDS:
            target, read = _FIELDS[name]
            option = Option(text, spelled)
            values[target] = _at(spelled, lambda: read(option))  # noqa: B023  (called at once)
        elif name not in _KNOWN:
            unknown.append(spelled)
    return Workload(**values), unknown  # type: ignore[arg-type]


# The text ---------------------------------------------------------------------------------------


class _Parser:
    def __init__(
        self,
        read: Reader,
        variables: Mapping[str, str],
        keywords: Mapping[str, int],
    ) -> None:
        self._read, self._variables, self._keywords = read, variables, keywords
        self._globals = Section(_GLOBAL, "")
        self._sections: list[Section] = []
        self._current: Section | None = None

    def parse(self, name: str) -> list[Section]:
        self._take_file(name, depth=0)
        return self._sections

    def _take_file(self, name: str, depth: int) -> None:
        for number, raw in enumerate(self._read(name).splitlines(), start=1):
            line, place = raw.strip(), f"{name}:{number}"
            if not line or line[0] in ";#":
                continue
            if line[0] == "[":
                if depth:
                    raise InvalidWorkload(f"{place}: an included file has options only, no [job]")
                self._begin(line, place)
            elif match := re.fullmatch(r"include\s+(\S.*)", line):
                if depth == MAX_INCLUDES:
                    raise InvalidWorkload(f"{place}: includes are nested too deep")
                self._take_file(match.group(1), depth + 1)
            else:
                self._take_option(line, place)

    def _begin(self, line: str, place: str) -> None:
        match = re.fullmatch(r"\[(.+)\]", line)
        if match is None:
            raise InvalidWorkload(f"{place}: {line!r} is not a section; write [name]")
        name = match.group(1).strip()
        if name == _GLOBAL:
            self._current = self._globals
            return
        self._current = Section(name, place, dict(self._globals.options))
        self._sections.append(self._current)

    def _take_option(self, line: str, place: str) -> None:
        if self._current is None:
            raise InvalidWorkload(f"{place}: {line!r} stands before any [section]")
        name, _, value = line.partition("=")
        name = name.strip().lower()
        name = _ALIASES.get(name, name)
        if name not in _KNOWN:
            raise InvalidWorkload(
                f"{place}: Anvil does not know the option {name!r}; take the line out, or run this "
                "file with fio itself"
            )
        self._current.options[name] = Option(self._expand(value.strip(), place), place)

    def _expand(self, value: str, place: str) -> str:
        value = re.sub(
            r"\$\{(\w+)\}", lambda match: self._variables.get(match.group(1), ""), value
        )
        found = re.sub(
            r"\$(pagesize|mb_memory|ncpus)\b",
            lambda match: str(self._keywords[match.group(1)]),
            value,
        )
        return value if found == value else _calculated(found, place)


def _calculated(text: str, place: str) -> str:
    """The value of whole numbers joined by + - * /, from left to right, * and / first."""
    tokens = re.findall(r"\d+|[-+*/]", text)
    if "".join(tokens) != text.replace(" ", "") or not re.fullmatch(
        r"\s*\d+(\s*[-+*/]\s*\d+)*\s*", text
    ):
        raise InvalidWorkload(f"{place}: {text!r} is not a sum or product of whole numbers")
    terms, sign = [Fraction(tokens[0])], tokens[1:]
    for operator, number in zip(sign[::2], map(Fraction, sign[1::2]), strict=True):
        if operator == "/" and not number:
            raise InvalidWorkload(f"{place}: {text!r} divides by 0")
        match operator:
            case "*":
                terms[-1] *= number
            case "/":
                terms[-1] /= number
            case _:
                terms.append(number if operator == "+" else -number)
    return str(int(sum(terms)))


# What it means ----------------------------------------------------------------------------------


def _size(option: Option) -> int:
    if option.value.endswith("%"):
        raise InvalidWorkload("a part in percent is not known; give bytes, or a form like 4k, 1g")
    return parse_size(option.value)


def _block_size(option: Option) -> int:
    if "," in option.value:
        raise InvalidWorkload("one block size for all directions; give each a section of its own")
    return parse_size(option.value)


def _number(option: Option) -> int:
    try:
        return int(option.value, 0)
    except ValueError:
        raise InvalidWorkload(f"{option.value!r} is not a whole number") from None


def _flag(option: Option) -> bool:
    if option.value not in (*_TRUE, *_FALSE):
        raise InvalidWorkload(f"{option.value!r} is not 0 or 1")
    return option.value in _TRUE


def _rw(option: Option) -> str:
    if ":" in option.value:
        raise InvalidWorkload("Anvil has no sequence of offsets in rw; leave out the part after :")
    return option.value


def _errors(option: Option) -> bool:
    if option.value not in ("none", "io", "all", *_TRUE, *_FALSE):
        raise InvalidWorkload(f"{option.value!r} is not known; use none or io")
    return option.value not in ("none", *_FALSE)


def _rates(option: Option) -> list[int]:
    """Rates by direction, as fio has them: reads, writes; an empty one is none."""
    try:
        return [int(part or 0) for part in option.value.split(",")]
    except ValueError:
        raise InvalidWorkload(
            f"{option.value!r} is not a rate, or one for each direction"
        ) from None


_FIELDS: Mapping[str, tuple[str, Callable[[Option], object]]] = {
    "rw": ("rw", _rw),
    "bs": ("bs", _block_size),
    "iodepth": ("iodepth", _number),
    "numjobs": ("numjobs", _number),
    "runtime": ("runtime", lambda option: parse_time(option.value)),
    "ramp_time": ("ramp_time", lambda option: parse_time(option.value)),
    "rwmixread": ("rwmixread", _number),
    "rwmixwrite": ("rwmixread", lambda option: 100 - _number(option)),
    "offset": ("offset", _size),
    "size": ("size", _size),
    "randseed": ("randseed", _number),
    "direct": ("direct", _flag),
    "buffered": ("direct", lambda option: not _flag(option)),
    "continue_on_error": ("continue_on_error", _errors),
    "iodepth_batch_submit": ("iodepth_batch_submit", _number),
    "iodepth_batch_complete_min": ("iodepth_batch_complete_min", _number),
    "rate_iops": ("rate_iops", lambda option: sum(_rates(option))),
    "rate_process": ("rate_process", lambda option: option.value),
    "cpus_allowed": ("cpus_allowed", lambda option: option.value),
}
"""By fio's option, the field of `Workload` and how to read it."""

_FIO_DEFAULTS: Mapping[str, object] = {"rw": "read", "bs": 4096, "direct": False}
"""Where they are not Anvil's, or Anvil has none."""

_ALIASES = {
    "readwrite": "rw",
    "blocksize": "bs",
    "timeout": "runtime",
    "fileoffset": "offset",
    "iodepth_batch": "iodepth_batch_submit",
    "iodepth_batch_complete": "iodepth_batch_complete_min",
    "wait_for_previous": "stonewall",
}

_ENGINES = {
    "io_uring": "native",
    "psync": "sync", "sync": "sync", "pvsync": "sync", "pvsync2": "sync",
}  # fmt: skip

_MUST_BE: Mapping[str, tuple[tuple[str, ...], str]] = {
    "time_based": (_TRUE, "a job lasts its runtime; set it, and a runtime"),
    "norandommap": (_TRUE, "random offsets may repeat; set it"),
    "refill_buffers": (_TRUE, "written data is never the same twice; set it"),
    "invalidate": (_FALSE, "caches are not dropped; set invalidate=0, or direct=1"),
    "allow_file_create": (_FALSE, "the target has to exist; set it to 0"),
    "create_on_open": (_FALSE, "the target has to exist; take the line out"),
    "unlink": (_FALSE, "the target is kept; take the line out"),
    "overwrite": (_TRUE, "what exists is overwritten; set it"),
}
"""Options with one value that Anvil can do, and what it says to the others."""

_WITHOUT_EFFECT = (
    "group_reporting", "thread", "registerfiles", "fixedbufs", "nonvectored", "description",
    "lat_percentiles", "clat_percentiles", "percentile_list", "stonewall",
)  # fmt: skip
"""What is always so here (jobs are threads and reported together), or is only a word."""

_KNOWN = {*_FIELDS, *_MUST_BE, *_WITHOUT_EFFECT, "filename", "ioengine", "iodepth_batch_complete_max"}  # fmt: skip


def _job_file(sections: list[Section]) -> JobFile:
    _require_one_after_another(sections)
    phases = tuple(_phase(section) for section in sections)
    _require_distinct(sections)
    return JobFile(
        filename=_shared(sections, "filename", _filename),
        engine=_shared(sections, "ioengine", _engine),
        phases=phases,
        warnings=tuple(warning for section in sections for warning in _warnings(section)),
    )


def _require_one_after_another(sections: list[Section]) -> None:
    for before, section in pairwise(sections):
        waits = section.options.get("stonewall")
        if waits is None or waits.value in _FALSE:
            raise InvalidWorkload(
                f"{section.place}: [{section.name}] would run at the same time as "
                f"[{before.name}], which Anvil does not do; add stonewall to it"
            )


def _require_distinct(sections: list[Section]) -> None:
    seen: dict[str, str] = {}
    for section in sections:
        if section.name in seen:
            raise InvalidWorkload(
                f"{section.place}: [{section.name}] is at {seen[section.name]} already; give it "
                "another name"
            )
        seen[section.name] = section.place


def _phase(section: Section) -> Phase:
    values = dict(_FIO_DEFAULTS)
    for name, option in section.options.items():
        _check(name, option, section)
        if name in _FIELDS:
            target, read = _FIELDS[name]
            values[target] = _at(option.place, lambda: read(option))  # noqa: B023  (called at once)
    if "runtime" not in values or "time_based" not in section.options:
        raise InvalidWorkload(
            f"{section.place}: [{section.name}] would end with its size; Anvil measures for a "
            "time: give it runtime=… and time_based"
        )
    workload = _at(section.place, lambda: Workload(**values))  # type: ignore[arg-type]
    if rate := section.options.get("rate_iops"):
        _at(rate.place, lambda: _require_shares(_rates(rate), workload))
    return Phase(section.name, workload)


def _require_shares(rates: list[int], workload: Workload) -> None:
    """The pace here is that of both directions together, mixed by rwmixread."""
    assert workload.rate_iops is not None
    reads = round(workload.rate_iops * workload.read_pct / 100)
    wanted = {"read": reads, "write": workload.rate_iops - reads}
    if workload.reads and workload.writes and rates != [*wanted.values()]:
        raise InvalidWorkload(
            "the rates of reads and writes are not in the proportion of rwmixread; write "
            f"rate_iops={wanted['read']},{wanted['write']}, or change rwmixread"
        )


def _check(name: str, option: Option, section: Section) -> None:
    if name in _MUST_BE:
        allowed, advice = _MUST_BE[name]
        if option.value not in allowed:
            raise InvalidWorkload(f"{option.place}: {name}={option.value}: {advice}")
    if name == "iodepth_batch_complete_max":
        depth = section.options.get("iodepth")
        if _at(option.place, lambda: _number(option) < (_number(depth) if depth else 1)):
            raise InvalidWorkload(
                f"{option.place}: all that has completed is reaped; set {name} to iodepth"
            )


def _at(place: str, make: Callable[[], Value]) -> Value:
    try:
        return make()
    except InvalidWorkload as error:
        raise InvalidWorkload(f"{place}: {error}") from error


def _shared(sections: list[Section], name: str, read: Callable[[Section], Value]) -> Value:
    """What all sections have to have in common."""
    first = read(sections[0])
    for section in sections[1:]:
        if read(section) != first:
            option = section.options.get(name)
            raise InvalidWorkload(
                f"{option.place if option else section.place}: [{section.name}] has another {name} "
                f"than [{sections[0].name}]; give it a file of its own"
            )
    return first


def _filename(section: Section) -> str:
    option = section.options.get("filename")
    if option is None:
        raise InvalidWorkload(
            f"{section.place}: [{section.name}] names no target; add filename=… (a device, or a "
            "file that exists)"
        )
    parts = re.split(r"(?<!\\):", option.value)
    if len(parts) > 1:
        raise InvalidWorkload(
            f"{option.place}: one target in a run; give each a file of its own, and write a colon "
            "in a name as \\:"
        )
    return option.value.replace("\\:", ":").replace("\\\\", "\\")


def _engine(section: Section) -> str | None:
    option = section.options.get("ioengine")
    if option is None:
        return None
    if option.value not in _ENGINES:
        raise InvalidWorkload(
            f"{option.place}: Anvil has no ioengine {option.value!r}; write io_uring, "
            "or psync for one I/O at a time"
        )
    return _ENGINES[option.value]


def _warnings(section: Section) -> Iterator[str]:
    if section.options.get("rw", Option("read", "")).value.startswith("rand") and (
        "norandommap" not in section.options
    ):
        yield f"[{section.name}] has no norandommap, but offsets may repeat here"
