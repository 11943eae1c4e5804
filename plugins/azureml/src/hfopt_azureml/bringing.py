"""What jobs read, brought to the depot: hfopt itself, a user's files, earlier results. Each once, by what it holds."""

from __future__ import annotations

import tarfile
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory

from hfopt_azureml.depot import TOP, Depot, content_of
from hfopt_azureml.errand import MANIFEST, PACKED


def bring_hfopt(depot: Depot, bundle: Path) -> str:
    """hfopt as a folder, packed: it has hundreds of small files.

    :return: the URL of the folder with the archive
    """
    path = f"{TOP}/bundles/{bundle.name}"
    if depot.has(path, PACKED):
        return depot.url(path)
    with TemporaryDirectory() as folder:
        file = Path(folder, PACKED)
        with tarfile.open(file, "w") as archive:
            for each in sorted(bundle.iterdir()):
                archive.add(each, each.name)
        return depot.bring(path, {PACKED: file})


def bring_input(depot: Depot, token: str, path: Path) -> tuple[str, str]:
    """A file or folder of the user's.

    :param token: ends in the digest of what it holds
    :return: the folder's URL, and where in it the input is
    """
    digest = token.rpartition(":")[2]
    if path.is_dir():
        return depot.bring(f"{TOP}/inputs/{digest[:32]}", visible(path)), ""
    files = {path.name: path, **beside(path)}
    content = content_of((name, digest if file == path else _digest(file)) for name, file in files.items())
    return depot.bring(f"{TOP}/inputs/{content}", files), path.name


def bring_artifact(depot: Depot, folder: Path, *, whole: bool) -> str:
    """An earlier result; where a job has made it, it is there already.

    :param folder: where it lies in the store; its name is the key
    :param whole: with its files; else its manifest alone, as the workspace has them
    :return: the folder's URL
    """
    manifest = _digest(folder / MANIFEST)
    if not whole:
        return depot.bring(f"{TOP}/manifests/{manifest[:32]}", {MANIFEST: folder / MANIFEST})
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    place = depot.read(note_of(folder))
    path = f"{TOP}/artifacts/{folder.name[:32]}-{manifest[:16]}" if place is None else place.decode()
    return depot.bring(path, files)


def visible(folder: Path) -> dict[str, Path]:
    """The files of a folder that count for its digest, by path."""
    found = {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()}
    hidden = (path for path in found if any(part.startswith(".") or part == "__pycache__" for part in path.parts))
    return {path.as_posix(): found[path] for path in found.keys() - set(hidden)}


def beside(file: Path) -> dict[str, Path]:
    """Files beside an ONNX model or a script that it names, as it does external data or a module."""
    if file.suffix not in (".onnx", ".py"):
        return {}
    content = file.read_bytes()
    names = {each: each.stem if file.suffix == each.suffix == ".py" else each.name for each in file.parent.iterdir()}
    return {
        each.name: each for each, name in names.items() if each.is_file() and each != file and name.encode() in content
    }


def note_of(folder: Path) -> str:
    """The blob that says where in the depot an artifact lies that a job has made."""
    return f"{TOP}/made/{folder.name}-{_digest(folder / MANIFEST)[:16]}"


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()
