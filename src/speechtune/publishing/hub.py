"""One repository on the hub: create it, check that it can be written, upload. Errors never show the token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from speechtune.errors import PublishError

__all__ = ["Repository", "UnreachableError"]

REACH_TIMEOUT_S = 20.0  # huggingface_hub's own client waits for ever


class UnreachableError(PublishError):
    """No token, or the hub can't be reached: no reason to stop a training."""


class Repository:
    """One repository on the hub.

    Args:
        folder: of the model.
        hub_model_id: name, with or without a namespace; None takes the folder's. "organisation/" takes it there.
        private: for a new repository.
        token: None takes that of `hf auth login` or HF_TOKEN.
        revision: branch; None for the main one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        hub_model_id: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
    ) -> None:
        from huggingface_hub import HfApi, get_token

        self.private, self.revision = private, revision
        self.name = _checked_name(folder, hub_model_id)
        self.token = token or get_token()
        self.api = HfApi(token=self.token)

    def create(self) -> str:
        """Create the repository unless it exists, check that the token may write there, and return its full name.

        Raises:
            UnreachableError: no token or no answer.
            PublishError: the hub refuses.
        """
        if not self.token:
            raise UnreachableError("no token for the hub: run `hf auth login`, set HF_TOKEN or give --hub_token.")
        with self._explained():
            user = self._get("/api/whoami-v2").json()
            if ((user.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
                raise PublishError(
                    f"The token of {user['name']} can only read.\n"
                    f"Create one that can write: {self.api.endpoint}/settings/tokens"
                )
            if "/" not in self.name:
                self.name = f"{user['name']}/{self.name}"
            self.api.create_repo(self.name, private=self.private or None, exist_ok=True)  # None: the account's default
            if self.private and not self.api.model_info(self.name).private:
                raise PublishError(
                    f"{self.name}: exists already and is public; --hub_private_repo asks for a private one.\n"
                    "Give another --hub_model_id, or make it private in its settings on the hub."
                )
            if self.revision:
                self.api.create_branch(self.name, branch=self.revision, exist_ok=True)
            self.api.auth_check(self.name, write=True)
        return self.name

    def upload(self, files: Mapping[str, Path | bytes]) -> str:
        """Upload files, by their names in the repository, in one commit; returns the repository's address.

        Raises:
            PublishError: it failed.
        """
        from huggingface_hub import CommitOperationAdd

        with self._explained():
            self.api.create_commit(
                self.name,
                [CommitOperationAdd(name, content) for name, content in files.items()],
                commit_message="Model, card and scores, with speechtune",
                revision=self.revision,
            )
        return self.url

    def card(self) -> str | None:
        """Return the README.md of the repository, or None."""
        from huggingface_hub.errors import HfHubHTTPError

        with self._explained():
            try:
                return self._get(f"/{self.name}/resolve/{quote(self.revision or 'main', safe='')}/README.md").text
            except HfHubHTTPError:
                return None

    @property
    def url(self) -> str:
        return f"{self.api.endpoint}/{self.name}"

    def _get(self, path: str) -> Any:
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers = build_hf_headers(token=self.token)
        answer = get_session().get(f"{self.api.endpoint}{path}", headers=headers, timeout=REACH_TIMEOUT_S)
        hf_raise_for_status(answer)
        return answer

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the hub's client raises into one message without the token."""
        try:
            yield
        except PublishError:
            raise
        except Exception as error:  # those of httpx, xet and the hub have no common base
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> PublishError:
        endpoint, status = self.api.endpoint, getattr(getattr(error, "response", None), "status_code", None)
        text = " ".join(str(getattr(error, "server_message", None) or error).split())[:300] or type(error).__name__
        text = text.replace(self.token or "\0", "(hidden)")
        if status == 401:
            what_to_do = f"Create one at {endpoint}/settings/tokens, then run `hf auth login`."
            return PublishError(f"{endpoint} does not know the token: {text}\n{what_to_do}")
        if status in (403, 404):
            what_to_do = "Give another --hub_model_id, or a token with the right to write there."
            return PublishError(f"{self.name}: the token may not write there: {text}\n{what_to_do}")
        if status in (400, 409, 413, 422):
            return PublishError(f"{self.name}: {endpoint} refuses: {text}")
        return UnreachableError(f"{endpoint} can't be reached ({text}).")


def _checked_name(folder: Path, hub_model_id: str | None) -> str:
    """Return the repository's name.

    Raises:
        PublishError: the hub does not allow such a name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    name = hub_model_id or ""
    if not name or name.endswith("/"):
        name += folder.resolve().name
    try:
        validate_repo_id(name)
    except HFValidationError:
        origin = "--hub_model_id" if hub_model_id else "--output_dir"
        raise PublishError(
            f"{origin}: {name!r} can't be a name on the hub.\n"
            "Give --hub_model_id NAME or YOU/NAME: letters of a to z, digits, '-', '_' and '.', at most 96 in all."
        ) from None
    return name
