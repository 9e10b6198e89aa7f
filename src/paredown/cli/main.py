"""The program `paredown`: parses, calls a verb, prints errors in one screen, answers with 0, 1, 2 or 130."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any, NoReturn

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError  # typer carries its own copy of click

from paredown.cli import compare, doctor, gc, listing, planning, prove, report, run, schema, show
from paredown.cli.text_command import TextCommand, Verbs
from paredown.core.errors import PareError, RecipeError, UserError

app = typer.Typer(
    cls=Verbs,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Make neural models cheaper, with the honest control beside every saving. The main job: paredown run RECIPE.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", help=run.HELP)(run.run)
app.command("compare", help=compare.HELP)(compare.compare)
app.command("prove", help=prove.HELP)(prove.prove)
app.command("plan", help=planning.HELP)(planning.plan)
app.command("list", help=listing.HELP, cls=TextCommand)(listing.list_)
app.command("show", help=show.HELP)(show.show)
app.command("report", help=report.HELP)(report.report)
app.command("schema", help=schema.HELP)(schema.schema)
app.command("doctor", help=doctor.HELP)(doctor.doctor)
app.command("gc", help=gc.HELP)(gc.gc)


def main() -> NoReturn:
    """Entry point of the console script."""
    if "OMP_WAIT_POLICY" not in os.environ:
        # Waiting threads spin for milliseconds by default; beside one other busy process training was up to 20 times slower (docs/LOG.md).
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, _interrupt)
    debug = "--debug" in sys.argv
    as_json = "--json" in sys.argv
    code = 0
    try:
        code = app(standalone_mode=False) or 0
    except PareError as error:
        code = error.exit_code
        _print_error(error, as_json)
        if debug:
            raise
    except typer.Abort:
        code = 130
        print("stopped", file=sys.stderr)
    except NoArgsIsHelpError as error:
        code = 2
        print(error.format_message(), file=sys.stderr)
    except ClickException as error:
        code = 2
        _print_error(UserError(error.format_message(), todo=_usage(error)), as_json)
    except KeyboardInterrupt:
        code = 130
        print("stopped", file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # the edge: what nobody foresaw is still one screen, and one object with --json
        code = 1
        said = " ".join(str(error).split())[:400]
        _print_error(PareError(f"{type(error).__name__}: {said}", todo="run again with --debug for the place in the code"), as_json)
        if debug:
            raise
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help shows what it takes" if context else "paredown --help"


def _print_error(error: PareError, as_json: bool) -> None:
    if as_json:
        from paredown.cli.screen import print_json

        found: dict[str, Any] = {
            "what": error.what,
            "where": error.where,
            "kept": error.kept,
            "do": error.todo,
            "exit_code": error.exit_code,
        }
        if isinstance(error, RecipeError):
            found["mistakes"] = [
                {"file": m.file or error.file, "line": m.line, "column": m.column, "what": m.what, "hint": m.hint} for m in error.mistakes
            ]
        print_json({"error": found})
        return
    print(str(error), file=sys.stderr)


if __name__ == "__main__":
    main()
