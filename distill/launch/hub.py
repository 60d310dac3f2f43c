"""Models on the Hugging Face Hub: their addresses, what is fetched of them, and what is sent.

Fetched files lie in the cache of `huggingface_hub`, so that each is loaded once and then without a network.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from distill.errors import UserError, first_line

_PREFIX = "hf://"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_TIMEOUT = 10.0  # seconds for the round trip before a file's download starts


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub.

    Attributes:
        repository: Owner and name.
        revision: Branch, tag or commit; None for the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{_PREFIX}{self.repository}{f'@{self.revision}' if self.revision else ''}"

    @classmethod
    def of(cls, place: str | PathLike[str]) -> "HubModel | None":
        """The model that an address names; None for a path.

        Raises:
            UserError: It begins as an address does, and is none.
        """
        if not str(place).startswith(_PREFIX):
            return None
        found = _ADDRESS.fullmatch(str(place))
        if found is None or ".." in str(place):
            raise UserError(f"{place} is no address of a model; give hf://owner/name or hf://owner/name@revision")
        return cls(found[1], found[2])

    def fetch(self, patterns: Sequence[str]) -> Path:
        """The local folder of the files that match, each downloaded once.

        Raises:
            UserError: The model cannot be had, and the cache has none of it.
        """
        from huggingface_hub import snapshot_download

        with _in_one_line(self, "cannot be fetched"):
            return Path(
                snapshot_download(
                    self.repository, revision=self.revision, allow_patterns=list(patterns), etag_timeout=_TIMEOUT
                )
            )

    def send(self, folder: Path, public: bool, stale: Sequence[str]) -> str:
        """Sends all files of a folder in one commit; a new repository is made first. Returns the commit's address.

        Args:
            folder: See above.
            stale: Patterns of files that the commit removes unless the folder has them.
            public: Whether everybody sees a repository that is made; one that is there stays as it is.

        Raises:
            UserError: The repository cannot be made or written.
        """
        from huggingface_hub import HfApi

        api = HfApi()
        with _in_one_line(self, "cannot be written"):
            api.create_repo(self.repository, private=not public, exist_ok=True)
            if self.revision is not None:
                api.create_branch(self.repository, branch=self.revision, exist_ok=True)
            sent = api.upload_folder(
                repo_id=self.repository,
                folder_path=folder,
                revision=self.revision,
                delete_patterns=list(stale),
                commit_message="Model, recipe and card, by distill push",
            )
        return str(sent.commit_url)


@contextmanager
def _in_one_line(model: HubModel, what: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except (errors.GatedRepoError, errors.RepositoryNotFoundError) as error:
        raise UserError(
            f"{model} {what}: there is no such repository, or it is private or gated; log in with `hf auth login`, or "
            "set HF_TOKEN to a token that may use it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{model} {what}: the repository has no revision {model.revision!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{model} {what}: the Hugging Face Hub cannot be reached ({_reason(error)}), and the cache has no such "
            "model; fetch it once with a network, or pass the folder of a pulled model"
        ) from error
    except Exception as error:  # the hub raises its HTTP client's errors, which differ between its releases
        refused = isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403)
        way_out = (
            "log in with `hf auth login`, or set HF_TOKEN to a token that may do that"
            if refused
            else "check the network, then try again"
        )
        raise UserError(f"{model} {what} ({_reason(error)}); {way_out}") from error


def _reason(error: Exception) -> str:
    """What went wrong first: the hub wraps an error of the network in words about its cache."""
    return first_line(error.__cause__ if isinstance(error.__cause__, Exception) else error)
