"""The reference of the command line as Markdown, made from the command line itself.

python -m imagescape.cli.reference > docs/cli.md
"""

from typing import Any

import typer

from imagescape.cli.app import app

_HEAD = """\
# Command line

Results go to standard output, progress and errors to standard error. The exit code is 0 when all went well,
2 for a mistake in what was asked (one line says what was needed, what was got and what to do), 130 after Ctrl-C,
1 for anything else. `imagescape --debug COMMAND` shows the traceback of an error.

<!-- Written by `make docs` from the program; change the texts in imagescape/cli/. -->
"""


def reference() -> str:
    """Every command with its arguments and options, as one Markdown page."""
    program: Any = typer.main.get_command(app)  # typer brings its own copy of click, which it does not type
    commands = program.commands
    listed = [f"- [`imagescape {name}`](#imagescape-{name}): {_first_line(one)}" for name, one in commands.items()]
    parts = [_HEAD, "\n".join(listed) + "\n"]
    parts += [_section(program, name, command) for name, command in commands.items()]
    return "\n".join(parts)


def _section(program: Any, name: str, command: Any) -> str:
    context = program.make_context("imagescape", [name], resilient_parsing=True)
    own = command.make_context(name, [], parent=context, resilient_parsing=True)
    rows, needed = [], []
    for parameter in command.params:
        names, text = parameter.get_help_record(own)
        if parameter.param_type_name == "argument":
            names = parameter.metavar
            needed.append(names)
        elif parameter.required:
            needed.append(f"{parameter.opts[0]} {parameter.metavar or parameter.name.upper()}")
        rows.append(f"| `{_cell(names)}` | {_cell(_plain(text))} |")
    usage = " ".join([own.command_path, *needed, "[OPTIONS]"])
    lines = [f"## imagescape {name}", "", command.help.strip(), "", "```text", usage, "```", ""]
    return "\n".join([*lines, "| argument or option | meaning |", "|---|---|", *rows, ""])


def _first_line(command: Any) -> str:
    return str(command.help).strip().splitlines()[0]


def _cell(text: str) -> str:
    """Text in a table of Markdown, where a bar would begin the next cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text whose signs Markdown would take for tags or emphasis."""
    return text.replace("<", "\\<").replace("*", "\\*")


if __name__ == "__main__":
    print(reference(), end="")
