"""The command line: parse, call the pipeline, print. Results to stdout, progress and errors to stderr.

Nothing heavy is imported before a verb runs, so that `--help` answers at once.
"""

import errno
import io
import os
import sys
import warnings
from typing import Annotated, Any

import typer

from imagescape import __version__
from imagescape.cli.auditing import audit
from imagescape.cli.clusters import cluster
from imagescape.cli.exploring import explore
from imagescape.cli.finetuning import finetune
from imagescape.cli.learning import demo, map_command, run, train
from imagescape.cli.looking import evaluate, plot
from imagescape.cli.naming import export_names, import_names, name_command
from imagescape.cli.reporting import report
from imagescape.cli.similar import attack, convert, embed, experiment, neighbors, search
from imagescape.cli.table import export, info, ingest
from imagescape.errors import ImagescapeError, Interrupted
from imagescape.runtime import is_main_process

app = typer.Typer(
    name="imagescape",
    help="Point it at images nobody labelled: it learns an encoder, lays them out on a map, and lets you look.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


_UsageError: Any = typer.BadParameter.__base__  # typer has its own copy of click, and names only some of it


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def main_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if debug:
        os.environ["IMAGESCAPE_DEBUG"] = "1"


# In the order of work, which is the order of `--help`.
for verb in (
    demo, run, ingest, info, train, map_command, embed, neighbors, cluster, name_command, export_names, import_names,
    audit, search, attack, experiment, finetune, convert, evaluate, report, plot, explore, export,
):  # fmt: skip
    app.command(verb.__name__.removesuffix("_command").replace("_", "-"))(verb)


def main() -> None:
    """The program `imagescape`: 0 when all went well, 2 for a mistake in what was asked, 1 for one of ours."""
    warnings.filterwarnings("ignore", module="PIL")  # what is wrong with an image is said in its row
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - several processes print as one
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be beyond the terminal's alphabet
    try:
        # Not in typer's own mode, which draws a box around what is one line, and says nothing on Ctrl-C.
        if app(sys.argv[1:] or ["--help"], standalone_mode=False) == 130:
            raise KeyboardInterrupt
        sys.stdout.flush()  # here, where it can be told that its reader has gone
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "imagescape"
        _fail(error, 2, f"{error.format_message()} See: {command} --help")
    except Interrupted as stop:
        _fail(stop, 130)
    except ImagescapeError as error:
        _fail(error, 2)
    except KeyboardInterrupt as stop:
        _fail(stop, 130, "stopped; the same command goes on with what is done")
    except BrokenPipeError:
        # The reader of our output (head, say) has gone; not worth a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            _fail(error, 1, f"{error} (see --debug)")
        _fail(error, 2, f"the disk is full: {error.filename or 'free some space'}; then run the same command again")
    except Exception as error:
        _fail(error, 1, f"{type(error).__name__}: {error} (this is a bug; `imagescape --debug …` shows where)")


def _fail(error: BaseException, code: int, message: str = "") -> None:
    if os.environ.get("IMAGESCAPE_DEBUG"):
        raise error
    print("imagescape: " + " ".join((message or str(error)).split()), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
