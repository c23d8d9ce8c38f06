"""The command line: each command is one call into the library, imported only when it runs."""

import errno
import os
import re
import select
import signal
import sys
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, OmitSubcommandPrefixes, subcommand

from earsight.cli.corpora import Corpus, Merge, Prepare, Scan
from earsight.cli.find import Embed, Search, Serve
from earsight.cli.learn import Import, Pretrain
from earsight.cli.measure import Compare, Evaluate
from earsight.cli.settings import PresetsDiff, PresetsList, PresetsShow
from earsight.cli.share import Export, Report
from earsight.cli.show import FAILED, USAGE, Command
from earsight.cli.whole import Bench, Demo, Doctor, Study
from earsight.version import __version__


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exits with the documented code."""
    # Threads that spin while they wait take the cores from the workers that decode for them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # With several processes, torch warns of a choice that is made on purpose.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    given = sys.argv[1:] if arguments is None else arguments
    if given in (["--version"], ["-V"]):
        print(f"earsight {__version__}")
        return
    sys.exit(guarded(parse(given)))


def parse(given: list[str]) -> Command:
    """The command asked for; usage errors and --help leave from here."""
    presets = Annotated[
        Annotated[PresetsList, subcommand("ls")]
        | Annotated[PresetsShow, subcommand("show")]
        | Annotated[PresetsDiff, subcommand("diff")],
        subcommand("presets", description="Named settings: list, show or compare them."),
    ]
    commands = (
        Annotated[Scan, subcommand("scan")]
        | Annotated[Prepare, subcommand("prepare")]
        | Annotated[Merge, subcommand("merge")]
        | Annotated[Corpus, subcommand("corpus")]
        | presets
        | Annotated[Pretrain, subcommand("pretrain")]
        | Annotated[Evaluate, subcommand("evaluate")]
        | Annotated[Compare, subcommand("compare")]
        | Annotated[Report, subcommand("report")]
        | Annotated[Embed, subcommand("embed")]
        | Annotated[Search, subcommand("search")]
        | Annotated[Serve, subcommand("serve")]
        | Annotated[Import, subcommand("import")]
        | Annotated[Export, subcommand("export")]
        | Annotated[Study, subcommand("study")]
        | Annotated[Bench, subcommand("bench")]
        | Annotated[Doctor, subcommand("doctor")]
        | Annotated[Demo, subcommand("demo")]
    )
    description = "Learn video and audio encoders from unlabelled videos, and put them to use."
    try:
        command: Command = tyro.cli(
            commands,
            args=given,
            prog="earsight",
            description=description,
            config=(FlagCreatePairsOff, OmitSubcommandPrefixes),
        )
    except SystemExit as left:
        if left.code == USAGE and _settings_apart(given):
            hint = "settings (section.name=value) stand together, at the end of the command"
            print(f"earsight: {hint}", file=sys.stderr)
        raise
    return command


def _settings_apart(given: list[str]) -> bool:
    """Whether something stands between two settings."""
    at = [number for number, text in enumerate(given) if re.match(r"[\w.]+=", text)]
    return bool(at) and at[-1] - at[0] >= len(at)


def guarded(command: Command) -> int:
    """Run a command; a mistake or a failure is one clear sentence, not a traceback.

    Of several processes that fail alike, one says it.
    """
    from earsight.errors import SaidElsewhereError

    try:
        _check_processes(command)
        done = command.run()
        sys.stdout.flush()
        return done
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        unread = isinstance(error, BrokenPipeError) and _nobody_reads()
        _drop_output()
        if unread:
            return 128 + signal.SIGPIPE  # as of any command whose reader has gone
        code = exit_code(error)
        if code is None:
            raise
        if not isinstance(error, SaidElsewhereError):
            print(f"earsight: {error}", file=sys.stderr)
        return code


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader has gone."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _drop_output() -> None:
    """Drop what cannot be written, or the interpreter complains of it once more when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_processes(command: Command) -> None:
    """Refuse several processes where each would do all of the work.

    Raises:
        ValueError: torchrun started them.
    """
    from earsight.errors import SaidElsewhereError

    if os.environ.get("WORLD_SIZE", "1") == "1" or getattr(command, "divided", False):
        return
    error = ValueError("this work is not divided among processes; start it without torchrun")
    raise SaidElsewhereError(error) if os.environ.get("LOCAL_RANK", "0") != "0" else error


def exit_code(error: Exception) -> int | None:
    """The code of an error that its message explains; None where the traceback is needed."""
    from earsight.errors import RunError, SaidElsewhereError, StoppedError

    if isinstance(error, SaidElsewhereError):
        return exit_code(error.error)
    if isinstance(error, StoppedError):
        return 128 + error.signal
    if isinstance(error, RunError) or getattr(error, "errno", None) == errno.ENOSPC:
        return FAILED
    return USAGE if isinstance(error, ValueError | OSError) else None
