"""What the documents show is true of the program: commands parse, code compiles, files and settings exist."""

import ast
import doctest
import inspect
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml

import imagescape
from imagescape.cli import options
from imagescape.cli.app import app
from imagescape.cli.reference import reference

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
PROGRAM = typer.main.get_command(app)

_FENCE = re.compile(r"^ *```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_COMMAND = re.compile(
    r"(?:\w+=\S+ +)*(?:(?:[\w./-]*/)?imagescape|(?:\S*python\S*|\S*torchrun\b.*?) -m imagescape) +(?P<arguments>.*)"
)
_SHELLS = ("", "sh", "bash", "console", "shell", "text")
_FILE = re.compile(r"(?:imagescape|tests|benchmarks|docs)/[\w./-]+\.(?:py|csv|html|js)")
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#[^)\s]*)?\)")


@dataclass(frozen=True)
class Snippet:
    """A piece of a document and where it stands."""

    text: str
    where: str


def blocks(*languages):
    """Fenced blocks of these languages."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            if match["language"].lower() in languages:
                line = text.count("\n", 0, match.start()) + 1
                yield Snippet(inspect.cleandoc(match["code"]), f"{path.relative_to(ROOT)}:{line}")


def inline():
    """Pieces of code within the text."""
    for path in DOCUMENTS:
        text = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), path.read_text(encoding="utf-8"))
        for match in _INLINE.finditer(text):
            yield Snippet(match[1], f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}")


def python():
    """Python of the documents; of a session with prompts what was typed."""
    for block in blocks("python", "py", "pycon"):
        examples = doctest.DocTestParser().get_examples(block.text)
        yield Snippet("".join(one.source for one in examples), block.where) if examples else block


def commands():
    """Calls of `imagescape` in shell blocks, one a line, and in the text; what stands behind the program's name."""
    for block in blocks(*_SHELLS):
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;|\|", line.removeprefix("$ ")):
                if (match := _COMMAND.fullmatch(part.strip())) and not part.lstrip().startswith("#"):
                    yield Snippet(match["arguments"], block.where)
    for code in inline():
        if match := _COMMAND.fullmatch(code.text.replace("\\|", "|")):
            yield Snippet(match["arguments"], code.where)


def parse(arguments):
    """Parse a command line and run nothing.

    A command that is only named ("`imagescape map`"), shortened by an ellipsis, or written with COMMAND in place of
    a verb may lack what it needs; all that is there must exist.
    """
    words = shlex.split(arguments, comments=True)
    is_whole = len(words) > 1 and not {"…", "...", "COMMAND"} & set(words)
    words = [word for word in words if word not in ("…", "...", "COMMAND", "[OPTIONS]")]
    context = PROGRAM.make_context("imagescape", list(words), resilient_parsing=True)
    # The program's own options come before the verb.
    rest = words[next((i for i, word in enumerate(words) if not word.startswith("-")), len(words)) :]
    if not rest:
        return
    command = PROGRAM.get_command(context, rest[0])
    if command is None:
        raise ValueError(f"no command '{rest[0]}'")
    try:
        command.make_context(rest[0], rest[1:], parent=context)
    except typer.Exit:
        pass  # --help
    except Exception as error:
        if is_whole or type(error).__name__ != "MissingParameter":
            raise ValueError(str(error)) from error


def test_the_reference_is_that_of_the_program():
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_the_reference_tells_of_every_option():
    text = reference()
    for name, command in PROGRAM.commands.items():
        section = text.split(f"## imagescape {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert option in section, (name, option)


def test_documents_show_something():
    """So that a changed way of writing does not silently leave nothing to check."""
    verbs = {snippet.text.split()[0] for snippet in commands()}
    assert verbs >= set(PROGRAM.commands)
    assert len(list(commands())) > 30
    assert len(list(python())) >= 3
    assert len(list(blocks("yaml"))) >= 2
    readme = ROOT / "README.md"
    if readme.exists():
        shown = [snippet.where.partition(":")[0] for snippet in [*commands(), *python()]]
        assert shown.count("README.md") >= 2, "README.md shows neither commands nor Python"


@pytest.mark.parametrize("command", list(commands()), ids=lambda one: f"{one.where} {one.text}")
def test_commands_parse(command):
    parse(command.text)


@pytest.mark.parametrize(
    "command",
    [
        "map photos.scape --epoch 1,2,3",
        "map photos.scape --preset huge",
        "ingest photos/",
        "mapp photos.scape",
        "evaluate … --no-such-option",
        "plot photos.scape --map",
        "map photos.scape --batch-size many",
    ],
)
def test_wrong_commands_would_be_noticed(command):
    with pytest.raises(ValueError):  # noqa: PT011 - the words are those of another library
        parse(command)


@pytest.mark.parametrize("code", list(python()), ids=lambda one: one.where)
def test_python_compiles_and_uses_public_names(code):
    tree = ast.parse(code.text)
    aliases = {"imagescape"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {one.asname or one.name for one in node.names if one.name == "imagescape"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "imagescape":
            module = __import__(str(node.module), fromlist=["x"])
            for one in node.names:
                assert hasattr(module, one.name), f"{node.module} has no {one.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            assert node.attr in imagescape.__all__ or node.attr == "__version__", f"no public name {node.attr}"


@pytest.mark.parametrize("block", list(blocks("yaml", "yml")), ids=lambda one: one.where)
def test_yaml_is_what_the_program_reads(block, tmp_path):
    """A list is one of notes, anything else settings."""
    from imagescape.learn.tsimcne import TSimCNE
    from imagescape.report.callouts import read_notes

    file = tmp_path / "shown.yaml"
    file.write_text(block.text, encoding="utf-8")
    content = yaml.safe_load(block.text)
    if isinstance(content, list):
        ids = [str(entry["image_id"]) for entry in content if "image_id" in entry]
        coords = np.random.default_rng(0).normal(size=(100, 2))
        notes = read_notes(file, coords, ids + [f"{row:016x}" for row in range(100 - len(ids))])
        assert len(notes) == len(content)
    else:
        recipe = TSimCNE(**options.read_config(file)).recipe
        assert not content.get("stages") or len(recipe.stages) == len(content["stages"])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_links_are_there(path):
    text = path.read_text(encoding="utf-8")
    missing = [name for name in _FILE.findall(text) if not (ROOT / name).exists()]
    missing += [link for link in _LINK.findall(text) if link and not (path.parent / link).exists()]
    assert not missing


def test_examples_in_the_help_parse():
    for name, command in PROGRAM.commands.items():
        example = re.search(r"Example: `imagescape (.*)`", command.help)
        assert example, f"the help of '{name}' has no example"
        parse(example[1])
