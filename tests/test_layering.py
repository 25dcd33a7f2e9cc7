"""Imports point one way.  The tables are the architecture; these tests keep them true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PURE = {
    "anvil_engine",
    "anvil_engine.consent",
    "anvil_engine.crosscheck_stats",
    "anvil_engine.errors",
    "anvil_engine.fio",
    "anvil_engine.fio_file",
    "anvil_engine.histogram",
    "anvil_engine.plan",
    "anvil_engine.profiles",
    "anvil_engine.results",
    "anvil_engine.steady_state",
    "anvil_engine.units",
    "anvil_engine.workload",
}
"""The engine's files that load with no extension, device or database."""

FORBIDDEN = {
    "anvil_engine": ("anvil_web", "flask", "peewee", "playhouse", "gevent", "gunicorn", "jwt"),
    "anvil_web/api": ("peewee", "playhouse", "anvil_web.models", "anvil_web.runner", "numpy"),
    "anvil_web/app.py": ("peewee", "playhouse", "anvil_web.models", "anvil_web.runner", "numpy"),
    "anvil_web/auth.py": ("peewee", "playhouse", "anvil_web.models", "anvil_web.runner"),
    "anvil_web/errors.py": ("peewee", "playhouse", "anvil_web.models", "anvil_web.runner"),
    "anvil_web/store": ("flask", "gevent", "anvil_web.api", "anvil_web.runner"),
    "anvil_web/models.py": ("flask", "gevent", "anvil_web.api", "anvil_web.runner"),
    "anvil_web/runner": (
        "flask",
        "gevent",
        "peewee",
        "playhouse",
        "anvil_web.api",
        "anvil_web.app",
        "anvil_web.models",
    ),
}
"""A file or folder, and what nothing in it may import."""

ONLY_IN = {
    "anvil_engine._ioloop": ("anvil_engine/native.py", "anvil_engine/checks.py"),
    "peewee": (
        "anvil_web/store",
        "anvil_web/models.py",
        "anvil_web/migrations",
        "anvil_web/db.py",
    ),
    "playhouse": (
        "anvil_web/store",
        "anvil_web/models.py",
        "anvil_web/migrations",
        "anvil_web/db.py",
    ),
    "psycopg": ("anvil_web/db.py",),
    "flask.request": (
        "anvil_web/api",
        "anvil_web/public.py",
        "anvil_web/pages",
        "anvil_web/auth.py",
        "anvil_web/errors.py",
        "anvil_web/app.py",
    ),
    "flask.g": (
        "anvil_web/api",
        "anvil_web/public.py",
        "anvil_web/pages",
        "anvil_web/auth.py",
        "anvil_web/errors.py",
        "anvil_web/app.py",
    ),
    "fcntl.ioctl": ("anvil_engine/target.py", "anvil_engine/loops.py"),
    # fio's job files may name variables of the environment.
    "os.environ": ("anvil_web/config.py", "anvil_engine/cli_jobfile.py"),
    "os.getenv": ("anvil_web/config.py",),
}
"""A name, and the only files or folders of the packages that may use it."""

KERNEL_READERS = ("anvil_engine/sysfs.py", "anvil_engine/procfs.py")
KERNEL_FILES = re.compile(r"/?(sys/(block|class|dev|fs|bus|devices)|proc)(/|$)")


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


ALL = [str(path.relative_to(ROOT)) for path in sources("anvil_engine", "anvil_web")]


def imported_names(path: Path) -> Iterator[str]:
    """Every module and member that `path` imports, relative imports resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def used_names(path: Path) -> Iterator[str]:
    """`imported_names`, and each `module.attribute` that the file reads."""
    yield from imported_names(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def strings(path: Path) -> Iterator[str]:
    """Every string literal of the file that is not a docstring."""
    tree = ast.parse(path.read_text())
    statements = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in statements:
            yield from [node.value] if isinstance(node.value, str) else []


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def is_in(source: str, places: tuple[str, ...]) -> bool:
    return any(source == place or source.startswith(f"{place}/") for place in places)


@pytest.mark.parametrize("source", ALL)
def test_imports_nothing_forbidden(source: str) -> None:
    """No file imports what its layer may not know."""
    found = [
        name
        for place, modules in FORBIDDEN.items()
        if is_in(source, (place,))
        for name in imported_names(ROOT / source)
        if any(is_within(name, module) for module in modules)
    ]
    assert not found


@pytest.mark.parametrize("source", ALL)
def test_touches_only_what_is_its_own(source: str) -> None:
    """The extension, SQL, the request and the environment are each used in one place only."""
    found = [
        name
        for name in used_names(ROOT / source)
        for owned, places in ONLY_IN.items()
        if is_within(name, owned) and not is_in(source, places)
    ]
    assert not found


def test_api_imports_only_pure_engine_files() -> None:
    """Nothing that a web process imports reaches a device or the extension."""
    pages = [*sources("anvil_web/api"), *(ROOT / "anvil_web").glob("*.py")]
    web = {"app.py", "auth.py", "errors.py", "schemas.py", "wsgi.py", "config.py", "wire.py"}
    for path in pages:
        if path.parent.name != "api" and path.name not in web:
            continue
        engine = {name for name in imported_names(path) if is_within(name, "anvil_engine")}
        impure = {
            name for name in engine if not any(is_within(name, p) for p in PURE - {"anvil_engine"})
        }
        assert impure <= {"anvil_engine"}, path


def test_pure_files_import_only_pure_files() -> None:
    """A pure file imports the standard library, numpy and other pure files, nothing else."""
    allowed = sys.stdlib_module_names | {"numpy", "anvil_engine", "__future__"}
    for module in sorted(PURE - {"anvil_engine"}):
        stem = ROOT / module.replace(".", "/")
        for path in [*stem.rglob("*.py"), *filter(Path.exists, [stem.with_suffix(".py")])]:
            for name in imported_names(path):
                assert name.partition(".")[0] in allowed, f"{path}: {name}"
                if is_within(name, "anvil_engine"):
                    assert any(is_within(name, pure) for pure in PURE), f"{path}: {name}"


@pytest.mark.parametrize("source", sorted({*ALL} - {*KERNEL_READERS}))
def test_only_sysfs_reads_kernel_files(source: str) -> None:
    """Paths below /sys appear in `sysfs.py`, those below /proc in `procfs.py`, nowhere else."""
    assert not [text for text in strings(ROOT / source) if KERNEL_FILES.match(text)]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("anvil_engine", ("numpy", "anvil_engine._ioloop", "click", "rich")),
        ("anvil_engine.cli", ("numpy", "rich", "anvil_engine._ioloop", "anvil_web")),
        ("anvil_engine.workload", ("numpy", "anvil_engine._ioloop")),
        ("anvil_engine.profiles", ("numpy", "anvil_engine._ioloop")),
        ("anvil_engine.histogram", ("anvil_engine._ioloop",)),
        ("anvil_web.cli", ("numpy", "flask", "peewee", "gevent", "gunicorn")),
        ("anvil_web.app", ("numpy", "matplotlib", "anvil_engine._ioloop", "anvil_web.runner")),
        ("anvil_web.runner.loop", ("flask", "gevent", "anvil_web.app", "anvil_engine._ioloop")),
        ("anvil_web.renderer", ("flask", "gevent", "anvil_web.app", "anvil_engine._ioloop")),
    ],
)
def test_importing_loads_no_more_than_it_needs(module: str, absent: tuple[str, ...]) -> None:
    """The table cannot see what a package's `__init__` pulls in; a fresh interpreter can."""
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not set(absent).intersection(loaded)
