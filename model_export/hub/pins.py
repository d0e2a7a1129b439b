"""Pins: the exact version that a name stands for, as a repository, a commit, and the SHA-256 of its files.

Names without a pin are taken from `main`. A bundle's manifest records commit and SHA-256 of every file that
it was made of, and can pin the next export to them (`pins_of`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from model_export.errors import HubError, PinError
from service.bundle.directory import read_manifest

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Pin:
    """One version of a repository.

    Attributes:
        repo: `owner/name` on the hub.
        revision: Its commit; a branch or a tag only where the user asked for one.
        files: SHA-256 by the file's name. Other files are what the repository has at that commit.
    """

    repo: str
    revision: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pins:
    """The versions to use, one of each repository.

    Attributes:
        pins: By repository, one each.
        complete: Whether all other files are refused.
        local: SHA-256 of local files.
    """

    pins: tuple[Pin, ...] = ()
    complete: bool = False
    local: frozenset[str] = frozenset()

    def of(self, repo: str) -> Pin | None:
        """The repository's pin, if it has one."""
        return next((pin for pin in self.pins if pin.repo == repo), None)

    def at(self, repo: str, revision: str) -> Pins:
        """The same, but another version of one repository, without the hashes of the old one.

        Complete pins keep the hashes: exactly these files are wanted, from whichever version.
        """
        pin = self.of(repo) or Pin(repo, revision)
        kept = pin.files if self.complete or pin.revision == revision else _NOTHING
        others = tuple(one for one in self.pins if one.repo != repo)
        return replace(self, pins=(*others, Pin(repo, revision, kept)))

    def check(self, repo: str, file: str, sha256: str) -> None:
        """Refuse a file of the hub that is not the pinned one.

        Raises:
            PinError: It has another SHA-256, or none is pinned where one must be.
        """
        pin = self.of(repo)
        pinned = pin.files.get(file) if pin else None
        if pinned is None and self.complete:
            raise PinError(
                f"{file} of {repo} is not among the sources of the bundle that --pins names: give one that "
                "was exported from the same models, or leave out --pins"
            )
        if pinned not in (None, sha256):
            raise PinError(
                f"{file} of {repo} has the SHA-256 {sha256}, but {pinned} is pinned: it is not "
                "the intended file and is not used. Ask whoever runs the hub or the mirror; to "
                "use another version on purpose, name it: --image-revision, --audio-revision, or other --pins"
            )

    def check_local(self, path: Path, sha256: str) -> None:
        """Refuse a local file that complete pins do not contain.

        Raises:
            PinError: None of the pinned files has this SHA-256.
        """
        known = self.local.union(*(pin.files.values() for pin in self.pins))
        if self.complete and sha256 not in known:
            raise PinError(
                f"{path} has the SHA-256 {sha256}, which no source of the bundle that --pins names has: give "
                "the file that it was exported from, or leave out --pins"
            )


def pins_of(bundle: Path) -> Pins:
    """Pins of exactly the files that a bundle was made of.

    Args:
        bundle: Its directory; manifest.json alone will do.

    Raises:
        BundleInvalidError: There is no manifest of a bundle.
        HubError: It records no sources.
    """
    sources = read_manifest(bundle).provenance.sources
    if not sources:
        raise HubError(f"the manifest of {bundle} records no sources, so it pins nothing: export it again")
    pins: dict[str, Pin] = {}
    for source in sources:
        if source.repository is not None:
            pin = pins.get(source.repository, Pin(source.repository, source.revision or "main"))
            pins[pin.repo] = replace(pin, files={**pin.files, source.file: source.sha256})
    local = frozenset(source.sha256 for source in sources if source.repository is None)
    return Pins(tuple(pins.values()), complete=True, local=local)


# The hub could not be reached where this was written. Commits and hashes are those that public projects on
# GitHub state of files that they downloaded, two or more for each hash unless said otherwise; some are named.
# OpenAI itself states a hash of its TorchScript archives only (in their addresses), which are other files.
DEFAULT_PINS = Pins(
    (
        # HolyDen/optica src/optica/input/clip.py; the hash: Nani4481/geoseek docs/EVALUATION_REPORT.md
        Pin(
            "timm/vit_base_patch32_clip_224.openai",
            "a6f597a30f7b82c51704746581f9a4e41421e878",
            {
                "open_clip_model.safetensors": (
                    "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31"
                ),
            },
        ),
        # waltstephen/UMM-Reflection src/unify_rl/reward_models/geneval_family_registry_v1.py
        Pin(
            "timm/vit_large_patch14_clip_224.openai",
            "18d0535469bb561bf468d76c1d73aa35156c922b",
            {
                "open_clip_model.safetensors": (
                    "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e"
                ),
            },
        ),
        # the hash: greyovo/PicQuery script/model-MobileCLIP2/README.md
        Pin(
            "timm/MobileCLIP2-S0-OpenCLIP",
            "095906d28bf54d7584dc411e8ffe448f34289e05",
            {
                "open_clip_model.safetensors": (
                    "ab91a1a0c4330d6b1913e24d5035dfdea15423316aaec649610c6b1c6ddd0e95"
                ),
            },
        ),
        # No project was found that states hashes of these two; the latter's commit:
        # LibreYOLO/libreyolo weights/convert_pe_weights.py
        Pin("timm/MobileCLIP2-S2-OpenCLIP", "ac6b37c8fc40b62b623d09ed228a6f0c9bc29fe6"),
        Pin("timm/PE-Core-B-16", "0038414f37721c5eafc1a5e0da802d291c909de3"),
        # javajaga-usa/Ninaivu ninaivu/media/model_catalog.py, alone for the weights and tokenizer_config.json
        Pin(
            "timm/ViT-B-16-SigLIP2",
            "eee10eff6dd8cabae2d7f379d4e8cfcd352030aa",
            {
                "open_clip_model.safetensors": (
                    "d0a51069d2fa6c95b371b3bffd2a2c765c1815004798ee99f075290dbca73041"
                ),
                "tokenizer.json": "220c63d496e0c14e63eb656c91e0215e926202e4c74b1f089e09f1920d779b04",
                "tokenizer_config.json": "513e778583a9ac0b74ae47784216f9d654d5132eee62d777597f5e842701323c",
            },
        ),
        # makangbooo/Omni-Embed-Audio, yassinsolim/soundalike; music_audioset: soundspan/soundspan Dockerfile.
        # No hash that could be relied on was found of 630k-best.pt and music_speech_epoch_15_esc_89.25.pt.
        Pin(
            "lukewys/laion_clap",
            "b3708341862f581175dba5c356a4ebf74a9b6651",
            {
                "630k-audioset-best.pt": "8053c9775516af2f4902e1e8281e356cc1bf7a85e8b761908170767b77c3f037",
                "music_audioset_epoch_15_esc_90.14.pt": (
                    "fae3e9c087f2909c28a09dc31c8dfcdacbc42ba44c70e972b58c1bd1caf6dedd"
                ),
                "music_speech_audioset_epoch_15_esc_89.98.pt": (
                    "51c68f12f9d7ea25fdaaccf741ec7f81e93ee594455410f3bca4f47f88d8e006"
                ),
            },
        ),
        # haukebri/audio-factory THIRD_PARTY_NOTICES.md; the commit: uthree/auris-studio tools/music-models
        Pin(
            "laion/clap-htsat-unfused",
            "8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a",
            {
                "config.json": "9efb9557bc804f2ca6e394486af2e45dfed0b18554909735a99c6220b84e4288",
                "preprocessor_config.json": (
                    "9739f58296aa6f9ac18008fd0150fb2649bc554985fbde86d0a4041c882ac753"
                ),
                "pytorch_model.bin": "1cd3c601bc4afe0fa87be3de4c13dd2cfadd249fac1e29acf74a9b296c3219bb",
                "tokenizer.json": "77ef92283d67f0d97e1454909a964afcbfa2019f0fb9f18f8e88d5c25c3ba729",
            },
        ),
        # aroy1990-dev/musegauge (the commit). The hash was also computed here: of a copy of the file, without
        # the two entries that the copy has beyond the embedding.
        Pin(
            "roberta-base",
            "e2da8e2f811d1448a5b465c236feacd80ffbac7b",
            {"tokenizer.json": "847bbeab6174d66a88898f729d52fa8d355fafe1bea101cf960dd404581df70e"},
        ),
    )
)
