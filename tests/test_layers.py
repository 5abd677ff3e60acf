"""Imports only point down the layers, methods know nothing of the table, and the package is light to import."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "imagescape"

# Low to high. A module may import what is in its own entry's folder and in the rows below its own, never beside it.
LAYERS = [
    ["errors", "runtime"],
    ["fetch", "model_folder"],
    ["images"],
    ["evaluate"],
    ["cluster"],
    ["learn", "report", "search", "demo.openmoji", "collection"],
    ["features", "audit"],
    ["pipeline"],
    ["show"],
    ["explore"],
    ["demo.job"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
# Modules of the lowest layer that may know each other: runtime raises the errors.
ALLOWED = {("runtime", "errors")}
METHODS = ("evaluate", "cluster", "learn", "report", "search", "features", "audit")


def home(module):
    """The entry of LAYERS that a module "imagescape.a.b" belongs to, or None for the packages themselves."""
    parts = module.split(".")[1:]
    return next((".".join(parts[:n]) for n in (2, 1) if ".".join(parts[:n]) in LEVEL), None)


def imports(path):
    """Modules of imagescape that a file imports, wherever in it, as "imagescape.a.b"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide where they point"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module else []
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "imagescape")


def modules():
    """Every file but the roots that have no layer: those of imagescape and of the demo, which import nothing."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("imagescape", "imagescape.demo"):
            yield name, path


def test_every_module_has_a_layer():
    assert not [name for name, _ in modules() if home(name) is None]


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_point_down(name, path):
    here = home(name)
    for imported in imports(path):
        there = home(imported)
        if there in (None, here) or (here, there) in ALLOWED:
            continue  # None: `__version__` and the like, of the package itself
        assert LEVEL[there] < LEVEL[here], f"{name} must not import {imported}"
        assert here not in METHODS or there != "collection", f"{name} is a method and must not know the table"


def test_packages_themselves_import_nothing():
    """An `__init__` that imports its modules would make every import of one of them an import of all."""
    for path in (PACKAGE / "__init__.py", *sorted(PACKAGE.glob("*/__init__.py"))):
        tree = ast.parse(path.read_text())
        at_top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        at_top |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert at_top <= {"typing", "importlib", "os"}, path


HEAVY = ("torch", "lance", "matplotlib", "sklearn", "pyarrow", "numpy", "PIL")
LIGHT = """
import runpy, sys
sys.argv = ["imagescape", *sys.argv[1:]]
try:
    if len(sys.argv) > 1:
        runpy.run_module("imagescape", run_name="__main__")
    else:
        import imagescape
except SystemExit as end:
    assert not end.code, end.code
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, loaded
"""


@pytest.mark.parametrize("arguments", [(), ("--help",), ("map", "--help")], ids=" ".join)
def test_importing_and_help_load_nothing_heavy(arguments):
    code = LIGHT.format(heavy=HEAVY)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert bool(done.stdout) == bool(arguments)


def test_public_names_are_there_and_are_what_they_say():
    import imagescape

    for name in imagescape.__all__:
        assert getattr(imagescape, name).__name__ == name
        assert name in dir(imagescape)
    with pytest.raises(AttributeError, match="no attribute 'TSNE'"):
        _ = imagescape.TSNE
