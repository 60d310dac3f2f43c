"""W&B's server: whether there is a key for it, whether it answers, and what is saved there."""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

import wandb

from distill.errors import UserError, first_line

_TIMEOUT = 8  # seconds until a server counts as one that does not answer


def has_key() -> bool:
    """Whether a key is configured and W&B is not switched off; asks neither the user nor the server.

    Raises:
        UserError: What is configured cannot be a key.
    """
    wandb.setup(wandb.Settings(silent=True))
    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        raise UserError(
            f"{first_line(error)}; set WANDB_API_KEY to a key of your account, or run `wandb login`"
        ) from error


def entity_of_key() -> str:
    """The user or team that the key writes to if none is named.

    Raises:
        UserError: The server does not answer, or does not take the key.
    """
    _require_answer()
    start = time.monotonic()
    try:
        return str(wandb.Api(timeout=_TIMEOUT).default_entity)
    except Exception as error:  # of many kinds
        late = time.monotonic() - start >= _TIMEOUT
        raise _refused("gives no access", f"no answer within {_TIMEOUT} s" if late else first_line(error)) from error


def _require_answer() -> None:
    """Asks the server for any answer at all: W&B's own client goes on trying, now and then for minutes.

    Raises:
        UserError: There is none.
    """
    address = wandb.setup().settings.base_url
    try:
        urllib.request.urlopen(address, timeout=_TIMEOUT).close()
    except (urllib.error.HTTPError, http.client.HTTPException):
        return  # an answer, whatever it is
    except OSError as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLError):
            return  # another answer; W&B's client may know other certificates
        late = isinstance(reason, TimeoutError)
        raise _refused("gives no access", f"no answer within {_TIMEOUT} s" if late else str(reason)) from error


def require_project(entity: str, project: str) -> None:
    """Creates the project if there is none of its name: a report can only be saved into one that exists.

    Raises:
        UserError: The server refuses.
    """
    try:
        api = wandb.Api()
        if all(one.name != project for one in api.projects(entity)):
            api.create_project(project, entity)
    except Exception as error:  # of many kinds
        raise _refused(f"gives no project {entity}/{project}", first_line(error)) from error


def save(view: Any) -> str:
    """Saves a workspace or a report, and returns its address.

    Raises:
        UserError: The server refuses.
    """
    try:
        return str(view.save().url)
    except Exception as error:  # of many kinds
        raise _refused(f"does not save the {type(view).__name__.lower()}", first_line(error)) from error


def _refused(what: str, reason: str) -> UserError:
    host = wandb.setup().settings.base_url
    return UserError(
        f"W&B at {host} {what} ({reason}); check the network, WANDB_BASE_URL, --entity and the key, and repeat; the "
        "offline runs are written"
    )
