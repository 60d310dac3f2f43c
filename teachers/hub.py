"""Fetches published weights from the Hugging Face hub; fails fast without a network."""

from pathlib import Path

from distill.errors import UserError

_FILE = "model.safetensors"
_TIMEOUT = 5.0  # seconds for one round trip before a download starts


def fetch(repository: str, way_out: str) -> Path:
    """The local path of a repository's `model.safetensors`, downloaded once and then taken from the hub's cache.

    One request decides whether the hub can be reached at all: `hf_hub_download` alone would retry for about half a
    minute before it gives up.

    Args:
        repository: The hub's repository, for example "timm/samvit_base_patch16.sa1b".
        way_out: What to do where the hub cannot be reached, as the end of an error message.

    Raises:
        UserError: The weights are neither in the cache nor to be had from the hub.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, _FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        get_hf_file_metadata(hf_hub_url(repository, _FILE), timeout=_TIMEOUT)
        return Path(hf_hub_download(repository, _FILE, etag_timeout=_TIMEOUT))
    except Exception as error:  # the hub raises its HTTP client's errors, which differ between its releases
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"weights {repository} cannot be fetched from the Hugging Face hub ({reason}); {way_out}"
        ) from error
