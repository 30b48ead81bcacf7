"""`mlops settings`, `mlops env`, `mlops exec`: what a home's settings are, and other tools that are to work by them.

Thin commands, each calls one function and prints what it returns; heavy imports stay inside. Does not belong here:
the other commands (`cli.py`).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlops_platform.cli_options import Home, Profile
from mlops_platform.errors import InputError


def settings(home: Home = None, profile: Profile = None) -> None:
    """Print every setting, its value and where it came from; secrets are masked."""
    from mlops_platform.console import print_settings
    from mlops_platform.settings import load_settings, setting_sources

    arguments = {"home": home, "profile": profile}
    print_settings(setting_sources(load_settings(**arguments), **arguments))


def env(home: Home = None, profile: Profile = None) -> None:
    """Print exports that point other tools at this home: eval "$(mlops env)".

    No password is printed: an address that holds one is left out. `mlops exec` hands such to a command.
    """
    from mlops_platform.settings import exports, load_settings, mask_secrets

    for name, value in exports(load_settings(home=home, profile=profile)).items():
        if mask_secrets(value) == value:
            typer.echo(f"export {name}={shlex.quote(value)}")
        else:
            typer.echo(f"# {name} holds a password: mlops exec -- COMMAND hands it on.")


def execute(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND…", help="The program and its arguments.")],
    home: Home = None,
    profile: Profile = None,
) -> None:
    """Run another tool with the home's settings in its environment: mlops exec -- dagster-daemon run.

    Settings that come from files (MLOPS_SECRETS_DIR) are in it too, and DAGSTER_HOME is made. The tool takes this
    process's place, so that signals reach it.
    """
    from mlops_platform.orchestration.instance import prepare
    from mlops_platform.settings import child_environment, load_settings

    found = load_settings(home=home, profile=profile)
    environment = child_environment(found)
    # The tools installed beside this one come first, whether or not their folder is on the PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    program = shutil.which(command[0], path=path)
    if program is None:
        raise InputError(
            f"there is no program {command[0]!r}",
            expected="a program on the PATH and its arguments, after --",
            hint="mlops exec -- dagster-daemon run",
        )
    prepare(found)
    os.execve(program, command, environment | {"PATH": path})  # noqa: S606 - what the user asked for
