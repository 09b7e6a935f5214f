"""What can be pulled: addresses, formats, licences and hashes of published checkpoints, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..errors import SpecError

NONE_STATED = "none stated"


class Kind(StrEnum):
    """Which of our networks a checkpoint belongs to."""

    xumx = "xumx"
    unet = "unet"
    demucs = "demucs"
    tdc = "tdc"
    umx = "umx"
    """Open-Unmix: one network per stem, without bridges between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """Under which terms weights may be used, and where that is said."""

    name: str
    stated_at: str

    def __str__(self) -> str:
        return f"{self.name} ({self.stated_at})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file of a checkpoint; `part` is the stem it is for, empty where one file holds all."""

    url: str
    filename: str
    part: str = ""
    sha256: str = ""
    """Whole or the first hexadecimal digits; empty where the publisher tells none."""
    n_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A checkpoint that `stemrack models pull` knows."""

    name: str
    kind: Kind
    what: str
    form: str
    licence: Licence
    files: tuple[RemoteFile, ...]


_DANNA = Licence(
    name=NONE_STATED,
    stated_at="yoyololicon/danna-sep has no licence file; its setup.py says MIT of the package",
)
_XUMX = Licence(
    name=NONE_STATED, stated_at="not named by asteroid (code MIT); see the record's page on Zenodo"
)
_UMX = Licence(
    name=NONE_STATED, stated_at="not named by open-unmix-pytorch (code MIT); see the record's page on Zenodo"
)


def _drive(key: str) -> str:
    return f"https://drive.google.com/uc?export=download&id={key}&confirm=t"


def _danna(name: str, kind: Kind, what: str, form: str, filename: str, key: str) -> Entry:
    files = (RemoteFile(url=_drive(key), filename=filename),)
    return Entry(name=name, kind=kind, what=what, form=form, licence=_DANNA, files=files)


def _xumx(name: str, what: str, url: str) -> Entry:
    files = (RemoteFile(url=url, filename=url.rpartition("/")[2]),)
    return Entry(name=name, kind=Kind.xumx, what=what, form="asteroid pickle", licence=_XUMX, files=files)


def _umx(name: str, what: str, record: int, licence: Licence, **prefixes: str) -> Entry:
    files = tuple(
        RemoteFile(
            url=f"https://zenodo.org/records/{record}/files/{stem}-{prefix}.pth",
            filename=f"{stem}-{prefix}.pth",
            part=stem,
            sha256=prefix,
        )
        for stem, prefix in prefixes.items()
    )
    return Entry(name=name, kind=Kind.umx, what=what, form="state dicts", licence=licence, files=files)


ENTRIES = (
    _danna(
        "danna-xumx",
        Kind.xumx,
        "Danna-Sep's X-UMX, as released in 1.0.2",
        "ONNX",
        "xumx.onnx",
        "1rpkvcaoKmHbSP5fk0zwhmDmqiSGVXXT8",
    ),
    _danna(
        "danna-xumx-torchscript",
        Kind.xumx,
        "Danna-Sep's X-UMX, as released up to 1.0.1",
        "TorchScript",
        "xumx_mwf.pth",
        "1DCTJQ1ei4klR9L69fjbBGILMdJAoNN78",
    ),
    _danna(
        "danna-unet",
        Kind.unet,
        "Danna-Sep's U-Net with D3 blocks and local attention",
        "TorchScript",
        "unet_attention.pth",
        "1qzBbT8UIKKWNMs-kiB3MNHGccdwdBJVf",
    ),
    _danna(
        "danna-demucs",
        Kind.demucs,
        "Danna-Sep's Demucs with four decoders",
        "TorchScript",
        "demucs_4_decoders.pth",
        "1slSKOd7P-YmJ0HnjzaTOKQaOn3pQN0Ge",
    ),
    _xumx(
        "xumx-musdb18",
        "X-UMX trained on MUSDB18",
        "https://zenodo.org/record/4704231/files/pretrained_xumx.pth",
    ),
    _xumx(
        "xumx-musdb18hq",
        "X-UMX trained on MUSDB18-HQ: baseline of the Music Demixing Challenge 2021",
        "https://zenodo.org/record/4740378/files/pretrained_xumx_musdb18HQ.pth",
    ),
    _xumx(
        "xumxl",
        "X-UMX-L, trained on more data than MUSDB18",
        "https://zenodo.org/record/7128659/files/pretrained_xumxl.pth",
    ),
    _umx(
        "umxhq",
        "Open-Unmix trained on MUSDB18-HQ",
        3370489,
        _UMX,
        drums="9619578f",
        bass="8d85a5bd",
        other="b52fbbf7",
        vocals="b62c91ce",
    ),
    _umx(
        "umx",
        "Open-Unmix trained on MUSDB18",
        3370486,
        _UMX,
        drums="5a48008b",
        bass="646024d3",
        other="f8e132cc",
        vocals="c8df74a5",
    ),
    _umx(
        "umxl",
        "Open-Unmix, wider, trained on more data than MUSDB18",
        5069601,
        Licence(name="CC BY-NC-SA 4.0", stated_at="README of open-unmix-pytorch"),
        drums="69e0ebd4",
        bass="2ca1ce51",
        other="c8c5b3e6",
        vocals="bccbd9aa",
    ),
    Entry(
        name="tdc-vocals",
        kind=Kind.tdc,
        what="TDC: vocals, frame by frame",
        form="state dict",
        licence=Licence(name="MIT", stated_at="LICENSE of ws-choi/ISMIR2020_U_Nets_SVS, whose tree holds it"),
        files=(
            RemoteFile(
                url="https://raw.githubusercontent.com/ws-choi/ISMIR2020_U_Nets_SVS/"
                "aafcb69c43675713b86cd4f96eb659cf7eb55d16/.deprecated/pretrained/cac_tdc_17_vocals_top1.pt",
                filename="cac_tdc_17_vocals_top1.pt",
                sha256="45c7dd11479a4922119cafde0196304b39d240504ac52fbd07f8676ec32a9a0f",
                n_bytes=2_289_554,
            ),
        ),
    ),
)
"""In the order of `stemrack models list`."""


def entry_named(name: str) -> Entry:
    """Return the entry of a name.

    Raises: SpecError for a name that is not known, with those that are.
    """
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise SpecError(f"no checkpoint is called '{name}': there are {', '.join(e.name for e in ENTRIES)}")
