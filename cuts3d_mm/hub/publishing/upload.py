"""Upload files to a repository on the Hugging Face Hub and check what arrived."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cuts3d_mm.hub.connection import HubError, call_hub, hub_client
from cuts3d_mm.hub.download import file_sha256, git_blob_sha1


@dataclass(frozen=True)
class Published:
    """What was uploaded, and where it lies."""

    url: str
    revision: str  # commit id
    uploaded: tuple[str, ...]
    unchanged: tuple[str, ...]


def upload_files(
    files: dict[str, Path], repo_id: str, repo_type: str = 'model', is_private: bool = False
) -> Published:
    """Upload files in one commit and check what arrived.

    Files that the repository has already are left as they are, so that the same call again
    changes nothing. The token comes from where `huggingface_hub` keeps it.

    Args:
        files: name in the repository -> local file.
        repo_id: `owner/name`; created if it does not exist.
        repo_type: `model` or `dataset`.
        is_private: whether a repository that is created is private.

    Raises:
        HubError: the Hub refused, or holds something else afterwards.
    """
    api = hub_client().HfApi()
    made = call_hub(
        repo_id,
        api.create_repo,
        repo_id,
        private=is_private,
        repo_type=repo_type,
        exist_ok=True,
    )
    same = _find_same(files, repo_id, repo_type, None)
    changed = [name for name in files if name not in same]
    if not changed:
        info = call_hub(repo_id, api.repo_info, repo_id, repo_type=repo_type)
        return Published(str(made), str(info.sha), (), tuple(files))
    sent = {name: files[name] for name in changed}
    revision = call_hub(repo_id, _commit, sent, repo_id, repo_type)
    wrong = set(files) - _find_same(files, repo_id, repo_type, revision)
    if wrong:
        raise HubError(
            f'{repo_id} does not hold what was sent: {", ".join(sorted(wrong))}; publish again'
        )
    return Published(str(made), revision, tuple(changed), tuple(sorted(same)))


def _commit(files: dict[str, Path], repo_id: str, repo_type: str) -> str:
    client = hub_client()
    operations = [client.CommitOperationAdd(name, str(path)) for name, path in files.items()]
    message = f'Publish {", ".join(files)}'[:200]
    done = client.HfApi().create_commit(
        repo_id, operations, commit_message=message, repo_type=repo_type
    )
    return str(done.oid)


def _find_same(
    files: dict[str, Path], repo_id: str, repo_type: str, revision: str | None
) -> set[str]:
    """Names of the files that a revision holds with the same content."""
    client = hub_client()
    found = call_hub(
        repo_id,
        client.HfApi().get_paths_info,
        repo_id,
        list(files),
        repo_type=repo_type,
        revision=revision,
    )
    same = set()
    for entry in found:
        if not isinstance(entry, client.hf_api.RepoFile):
            continue
        path = files[entry.path]
        if entry.lfs is not None:
            is_same = entry.lfs.sha256 == file_sha256(path)
        else:
            is_same = entry.blob_id == git_blob_sha1(path)
        if is_same:
            same.add(entry.path)
    return same
