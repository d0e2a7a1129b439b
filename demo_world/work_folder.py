"""The work folder of builds and measurements: its clips are of one seed, one world and one renderer."""

from hashlib import sha256
from pathlib import Path

from demo_world.world import World
from service.errors import AhseError

_NOTE = "build.txt"
_SOURCES = Path(__file__).parent
# What decides how the clip of a class and number looks and sounds.
_RENDERER = ("world", "outlines", "drawing", "timbre", "soundtrack", "recording", "clip_folders")


class OtherBuildError(AhseError):
    """The work folder is taken."""

    code = "other_build"


def claim(work: Path, seed: int, world: World) -> None:
    """Note in the work folder which clips it is for, or make sure that it is for these.

    Args:
        work: Made if it is not there.
        seed: Of the clips.
        world: Which the clips show.

    Raises:
        OtherBuildError: The folder holds something else, or clips that were made in another way.
    """
    identity = f"seed {seed}, {world!r}, renderer {_renderer_digest()}"
    work.mkdir(parents=True, exist_ok=True)
    note = work / _NOTE
    if note.is_file() and note.read_text(encoding="utf-8") == identity:
        return
    if any(work.iterdir()):
        raise OtherBuildError(
            f"{work} holds something other than clips of this version of the demo world with seed {seed}; "
            "choose another folder with --work, or remove it"
        )
    note.write_text(identity, encoding="utf-8")


def _renderer_digest() -> str:
    """Of the renderer's sources: with others the same plan may give other clips."""
    digest = sha256()
    for name in _RENDERER:
        digest.update((_SOURCES / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]
