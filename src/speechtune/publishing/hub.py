"""One repository of the hub: is it there, may we write into it; and every refusal as one message without the token."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from speechtune.errors import PublishError

__all__ = ["Repository", "UnreachableError"]

log = logging.getLogger("speechtune")
T = TypeVar("T")

REACH_TIMEOUT_S = 20.0  # a hub that doesn't answer in this time is taken for unreachable


class UnreachableError(PublishError):
    """No token, or no way to the hub: nothing that training must wait for."""


class Repository:
    """One repository of the hub, and the right to write there.

    Args:
        folder: of the model.
        hub_model_id: name, with or without a namespace; None takes the folder's. "organisation/" takes it there.
        private: for a new repository.
        token: None takes the machine's.
        revision: branch; None for the main one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        hub_model_id: str | None,
        private: bool | None,
        token: str | None,
        revision: str | None,
    ) -> None:
        from huggingface_hub import HfApi, get_token

        self.private, self.revision = private, revision
        self.name = _checked_name(folder, hub_model_id)
        self.token = token or get_token()
        self.api = HfApi(token=self.token)

    def make(self) -> str:
        """Make the repository unless it is there; returns its whole name.

        Raises:
            UnreachableError: no token or no answer.
            PublishError: the hub refuses.
        """
        if not self.token:
            raise UnreachableError("no token for the hub: run `hf auth login`, set HF_TOKEN or give --hub_token.")
        user = self._whoami()
        if "/" not in self.name:
            self.name = f"{user}/{self.name}"
        if self._created():
            log.info(f"{self.url}: made{', private' if self.private else ''}")
        elif self.private and not self._ask(lambda: self.api.model_info(self.name)).private:
            raise PublishError(
                f"{self.name}: is there already, and public; --hub_private_repo asks for a private one.\n"
                "Give another --hub_model_id, or make it private in its settings on the hub."
            )
        if self.revision:
            self._ask(lambda: self.api.create_branch(self.name, branch=self.revision or "", exist_ok=True))
        self._may_write()
        return self.name

    def upload(self, staged: Path) -> str:
        """Upload all of a folder; returns the repository's address.

        Raises:
            PublishError: it failed.
        """
        with _quiet_in_a_log():
            self._ask(
                lambda: self.api.upload_folder(
                    repo_id=self.name,
                    folder_path=staged,
                    revision=self.revision,
                    commit_message="Model, card and scores, with speechtune",
                )
            )
        return self.url

    def _whoami(self) -> str:
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        def ask() -> Any:
            # Not HfApi.whoami: it would wait for ever for a hub that doesn't answer.
            answer = get_session().get(
                f"{self.api.endpoint}/api/whoami-v2",
                headers=build_hf_headers(token=self.token),
                timeout=REACH_TIMEOUT_S,
            )
            hf_raise_for_status(answer)
            return answer.json()

        answer = self._ask(ask)
        access = (answer.get("auth") or {}).get("accessToken") or {}
        if access.get("role") == "read":
            raise PublishError(
                f"The token of {answer['name']} can only read.\n"
                f"Make one that can write: {self.api.endpoint}/settings/tokens"
            )
        return str(answer["name"])

    def _created(self) -> bool:
        from huggingface_hub.errors import HfHubHTTPError

        def create() -> bool:
            try:
                self.api.create_repo(self.name, private=self.private or None)  # None leaves it to the organisation
            except HfHubHTTPError as error:
                # Who may write into a repository need not have the right to make one.
                if _status(error) != 409 and not (_status(error) in (401, 403) and self.api.repo_exists(self.name)):
                    raise
                return False
            return True

        return self._ask(create)

    def _may_write(self) -> None:
        """The first request of every upload, which needs the right to write, without the upload."""
        from huggingface_hub import CommitOperationAdd

        probe = CommitOperationAdd("README.md", b"-")
        self._ask(lambda: self.api.preupload_lfs_files(self.name, [probe], revision=self.revision))

    def card(self) -> str | None:
        """The README.md that is there, or None."""
        from huggingface_hub.utils import build_hf_headers, get_session

        url = f"{self.url}/resolve/{quote(self.revision or 'main', safe='')}/README.md"
        answer = self._ask(
            lambda: get_session().get(url, headers=build_hf_headers(token=self.token), timeout=REACH_TIMEOUT_S)
        )
        return answer.text if answer.status_code == 200 else None

    def _ask(self, call: Callable[[], T]) -> T:
        """Do it, and turn what the hub's client raises into one message without the token."""
        try:
            return call()
        except PublishError:
            raise
        except Exception as error:  # those of httpx, xet and the hub have no base of their own
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> PublishError:
        endpoint, status = self.api.endpoint, _status(error)
        said = " ".join(str(getattr(error, "server_message", None) or error).split())[:300] or type(error).__name__
        said = said.replace(self.token or "\0", "(hidden)")
        if status == 401:
            return PublishError(
                f"{endpoint} does not know the token: {said}\n"
                f"Make one at {endpoint}/settings/tokens, then `hf auth login`."
            )
        if status in (403, 404):
            return PublishError(
                f"{self.name}: the token may not write there: {said}\n"
                "Give another --hub_model_id, or a token with the right to write there."
            )
        if status in (400, 409, 413, 422):
            return PublishError(f"{self.name}: {endpoint} refuses: {said}")
        return UnreachableError(f"{endpoint} can't be reached ({said}).")

    @property
    def url(self) -> str:
        return f"{self.api.endpoint}/{self.name}"


def _checked_name(folder: Path, hub_model_id: str | None) -> str:
    """The repository's name, which has a form that the hub takes.

    Raises:
        PublishError: it has not.
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


@contextmanager
def _quiet_in_a_log() -> Iterator[None]:
    """The client's progress bars on a terminal only: in a file each redraw is a line."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            enable_progress_bars()


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
