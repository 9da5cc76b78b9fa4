"""DICOM as hospitals send it, against two references: pydicom's own pipeline (`apply_modality_lut`, `apply_voi_lut`),
and the levels before a file was packed. 90 files, made here; every one within one grey level.

Where pydicom's pipeline raises or wraps (None, empty strings, tables of 8 or 12 bits), the levels before packing decide.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_presentation_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)  # fmt: skip

from medsae import config
from medsae.cohorts import dicom
from medsae.cohorts.pictures import PictureError, check_picture, decode
from medsae.progress import Silent
from medsae.steps.ingest import ingest
from medsae.store.artifacts import Store

H, W = 48, 64


@cache
def levels(bits: int = 12, signed: bool = False) -> np.ndarray:
    """Smooth, with grain, over nearly the whole range of `bits`."""
    y, x = np.mgrid[:H, :W]
    share = 0.5 + 0.4 * np.sin(x / 9) * np.cos(y / 7) + np.random.default_rng(0).normal(0, 0.01, (H, W))
    values = (share.clip(0.02, 0.98) * (2**bits - 1)).round() - (2 ** (bits - 1) if signed else 0)
    return values.astype(("i" if signed else "u") + ("1" if bits <= 8 else "2"))


@dataclass(frozen=True)
class Made:
    """A file and what is right: the shown levels float [h, w] in 0..255."""

    data: bytes
    right: np.ndarray


def file_of(pixels: np.ndarray, bits: int, syntax: str = ExplicitVRLittleEndian, frame: bytes | None = None,
            **fields: Any) -> bytes:  # fmt: skip
    """A DICOM file of one grey picture; a field of the value `...` is left out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    file = FileDataset("x.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    file.Rows, file.Columns = pixels.shape[:2]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    packed = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
    file.PixelData = encapsulate([frame]) if frame is not None else packed + b"\0" * (len(packed) % 2)
    file["PixelData"].VR = "OB" if frame is not None or bits <= 8 else "OW"
    file["PixelData"].is_undefined_length = frame is not None
    for name, value in fields.items():
        if value is ...:
            del file[name]
        elif isinstance(value, tuple):  # VR and value, for what a setter would refuse
            file.add_new(name, *value)
        else:
            setattr(file, name, value)
    buffer = io.BytesIO()
    dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


def stretched(values: np.ndarray, kept: np.ndarray | None = None) -> np.ndarray:
    """Without a window: 0.1 to 99.9 percentile as 0..255 (docs/decisions/031)."""
    low, high = np.quantile(values if kept is None else values[kept], (0.001, 0.999), method="inverted_cdf")
    return ((values.astype(float) - low) * 255 / max(high - low, 255)).clip(0, 255)


def window(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1."""
    return (((values - (centre - 0.5)) / (width - 1) + 0.5) * 255).clip(0, 255)


def by_pydicom(data: bytes) -> np.ndarray:
    """pydicom's own pipeline, its output range (PS3.3 C.11.2.1.2: of the stored bits after the rescale) as 0..255."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = dcmread(io.BytesIO(data))
        stored = file.pixel_array
        shown = apply_voi_lut(apply_modality_lut(stored, file), file)
        if file.get("PresentationLUTSequence"):
            grey = apply_presentation_lut(shown, file) * (
                255 / (2 ** file.PresentationLUTSequence[0].LUTDescriptor[2] - 1)
            )
        elif file.get("VOILUTSequence"):
            grey = shown.astype(float) * 255 / (2 ** file.VOILUTSequence[0].LUTDescriptor[2] - 1)
        elif file.get("WindowWidth") is not None:
            ends = np.array([0, 2**file.BitsStored - 1]) - (2 ** (file.BitsStored - 1)) * file.PixelRepresentation
            if file.get("ModalityLUTSequence"):
                ends = np.array([0, 2 ** file.ModalityLUTSequence[0].LUTDescriptor[2] - 1])
            elif None not in (file.get("RescaleSlope"), file.get("RescaleIntercept")):
                ends = ends * float(file.RescaleSlope) + float(file.RescaleIntercept)
            grey = (shown - ends[0]) * 255 / (ends[1] - ends[0])
        else:
            grey = stretched(shown)
    return 255 - grey if file.PhotometricInterpretation == "MONOCHROME1" else grey


def lut(entries: np.ndarray, bits: int, first: int = 0, vr: str = "OW", data: bytes | None = None) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    words = entries.astype("<u2")
    item.add_new("LUTData", vr, data if data is not None else words.tobytes() if vr == "OW" else words.tolist())
    return item


def curve(n: int, bits: int) -> np.ndarray:
    """A film's curve: `n` entries over all of `bits`."""
    return (((np.arange(n) / (n - 1)) ** 0.6) * (2**bits - 1)).round().astype(np.uint16)


KINDS: dict[str, Callable[[], Made]] = {}
WINDOW = dict(WindowCenter="2000", WindowWidth="3000")


def kind(name: str, pixels: np.ndarray, bits: int, right: np.ndarray | None = None, **options: Any) -> None:
    """Add a file; without `right`, pydicom says what is right."""

    def make() -> Made:
        data = file_of(pixels, bits, **options)
        return Made(data, by_pydicom(data) if right is None else right)

    KINDS[name] = make


def unsigned(pixels: np.ndarray) -> np.ndarray:
    return pixels.view(pixels.dtype.str.replace("i", "u"))


# --- transfer syntaxes: the levels before packing ---------------------------------------------------------------------

for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
    for bits, is_signed in ((12, False), (16, False), (12, True)):
        pixels = levels(bits, is_signed)
        kind(f"{UID(syntax).name}, {bits} bits{', signed' * is_signed}", pixels, bits, stretched(pixels), syntax=syntax)

FRAMES: dict[str, tuple[str, Callable[[np.ndarray, int], bytes], tuple[tuple[int, bool], ...]]] = {
    "JPEG lossless SV1": (JPEGLosslessSV1, lambda a, b: imagecodecs.ljpeg_encode(a, bitspersample=b),
                          ((8, False), (10, False), (12, False), (16, False))),
    "JPEG lossless": (JPEGLossless, lambda a, b: imagecodecs.jpeg8_encode(a, lossless=True, bitspersample=b),
                      ((12, False), (16, False))),
    "JPEG-LS": (JPEGLSLossless, lambda a, b: imagecodecs.jpegls_encode(a), ((8, False), (12, False), (16, False))),
    "JPEG-LS near lossless": (JPEGLSNearLossless, lambda a, b: imagecodecs.jpegls_encode(a, level=2), ((12, False),)),
    "JPEG 2000": (JPEG2000Lossless, lambda a, b: imagecodecs.jpeg2k_encode(a, codecformat="j2k", reversible=True, level=0, bitspersample=b),
                  ((8, False), (12, False), (16, False), (12, True))),
    "JPEG 2000 lossy": (JPEG2000, lambda a, b: imagecodecs.jpeg2k_encode(a, codecformat="j2k", level=60, bitspersample=b), ((12, False),)),
    "HTJ2K": (HTJ2KLossless, lambda a, b: imagecodecs.htj2k_encode(a), ((12, False), (16, False))),
    "JPEG extended": (JPEGExtended12Bit, lambda a, b: imagecodecs.jpeg8_encode(a, level=100, bitspersample=b), ((12, False), (8, False))),
    "JPEG baseline": (JPEGBaseline8Bit, lambda a, b: imagecodecs.jpeg8_encode(a, level=100), ((8, False),)),
}  # fmt: skip


def packed(syntax: str, encode: Callable[[np.ndarray, int], bytes], bits: int, is_signed: bool) -> Callable[[], Made]:
    def make() -> Made:
        pixels = levels(bits, is_signed)
        data = file_of(pixels, bits, syntax, encode(pixels, bits))
        return Made(data, by_pydicom(data) if syntax == JPEG2000 else stretched(pixels))

    return make


for name, (syntax, encode, depths) in FRAMES.items():
    for bits, is_signed in depths:
        KINDS[f"{name}, {bits} bits{', signed' * is_signed}"] = packed(syntax, encode, bits, is_signed)


def rle(bits: int) -> Callable[[], Made]:
    def make() -> Made:
        file = dcmread(io.BytesIO(file_of(levels(bits), bits)))
        file.compress(RLELossless)
        buffer = io.BytesIO()
        file.save_as(buffer)
        return Made(buffer.getvalue(), stretched(levels(bits)))

    return make


KINDS["RLE, 12 bits"], KINDS["RLE, 16 bits"] = rle(12), rle(16)

# --- windows and rescale ----------------------------------------------------------------------------------------------

A, S = levels(12), levels(12, signed=True)
kind("window", A, 12, **WINDOW)
kind("window, negative picture", A, 12, PhotometricInterpretation="MONOCHROME1", **WINDOW)
kind("window, exact", A, 12, VOILUTFunction="LINEAR_EXACT", **WINDOW)
kind("window, sigmoid", A, 12, VOILUTFunction="SIGMOID", **WINDOW)
kind("window, signed", S, 12, WindowCenter="-100", WindowWidth="3000")
kind("window, first of two", A, 12, WindowCenter=["2000", "1000"], WindowWidth=["3000", "500"])
kind("window, first of two empty", A, 12, window(A, 1000, 2500), WindowCenter=["", "1000"], WindowWidth=["", "2500"])
kind("window, decimal comma", A, 12, window(A, 2000.5, 3000), WindowCenter=("LO", "2000,5"), WindowWidth="3000")
kind("window, empty", A, 12, stretched(A), WindowCenter="", WindowWidth="")
kind("window, half of it", A, 12, stretched(A), WindowCenter="2000")
kind("window, width 0", A, 12, stretched(A), WindowCenter="2000", WindowWidth="0")
kind("window, width 1", A, 12, stretched(A), WindowCenter="2000", WindowWidth="1")
kind("window, negative width", A, 12, stretched(A), WindowCenter="2000", WindowWidth="-100")
kind("window of a CT", A, 12, stretched(A), WindowCenter="40", WindowWidth="80")
kind("window above all values", A, 12, stretched(A), WindowCenter="60000", WindowWidth="4000")
kind("window far too wide", A, 12, stretched(A), WindowCenter="32768", WindowWidth="65536")
plate = np.where((np.abs(np.arange(W) - 32) < 10) & (np.abs(np.arange(H)[:, None] - 24) < 8), A, A // 400)
kind("window, small picture on a black plate", plate.astype(np.uint16), 12, **WINDOW)
kind("rescale and window", A, 12, RescaleSlope="0.5", RescaleIntercept="-1000", WindowCenter="0", WindowWidth="1500")
kind("rescale without window", A, 12, stretched(A), RescaleSlope="0.25", RescaleIntercept="-100")
kind("rescale that falls, window", A, 12, window(4095.0 - A, 2000, 3000),
     RescaleSlope="-1", RescaleIntercept="4095", **WINDOW)  # fmt: skip
kind("rescale that falls", A, 12, 255 - stretched(A), RescaleSlope="-1", RescaleIntercept="4095")
kind("rescale empty", A, 12, window(A, 2000, 3000), RescaleSlope="", RescaleIntercept="", **WINDOW)
kind("rescale by 0", A, 12, window(A, 2000, 3000), RescaleSlope="0", RescaleIntercept="0", **WINDOW)
kind("slope alone", A, 12, RescaleSlope="2", **WINDOW)

# --- tables -----------------------------------------------------------------------------------------------------------

C16, C12, C8 = curve(4096, 16), curve(4096, 12), curve(4096, 8)
for vr in ("OW", "US"):
    kind(f"VOI LUT, {vr}", A, 12, VOILUTSequence=Sequence([lut(C16, 16, vr=vr)]), **WINDOW)
    kind(f"modality LUT, {vr}", A, 12, ModalityLUTSequence=Sequence([lut(C16, 16, vr=vr)]),
         WindowCenter="30000", WindowWidth="50000")  # fmt: skip
kind("VOI LUT, implicit VR", A, 12, syntax=ImplicitVRLittleEndian, VOILUTSequence=Sequence([lut(C12, 12)]))
kind("VOI LUT, big endian", A, 12, C12[A] * (255 / 4095), syntax=ExplicitVRBigEndian,
     VOILUTSequence=Sequence([lut(C12, 12, vr="US")]))  # fmt: skip
kind("VOI LUT, signed", S, 12, VOILUTSequence=Sequence([lut(C12, 12, first=-2048)]))
kind("VOI LUT of 8 bits", A, 12, C8[A].astype(float), VOILUTSequence=Sequence([lut(C8, 8)]))
kind("VOI LUT of 8 bits, bytes", A, 12, C8[A].astype(float),
     VOILUTSequence=Sequence([lut(C8, 8, data=C8.astype(np.uint8).tobytes())]))  # fmt: skip
kind("VOI LUT that announces too many bits", A, 12, C12[A] * (255 / 4095), VOILUTSequence=Sequence([lut(C12, 16)]))
kind("VOI LUT, no item", A, 12, window(A, 2000, 3000), VOILUTSequence=Sequence([]), **WINDOW)
kind("VOI LUT, null item", A, 12, window(A, 2000, 3000), VOILUTSequence=Sequence([Dataset()]), **WINDOW)
kind("VOI LUT cut short", A, 12, window(A, 2000, 3000), **WINDOW,
     VOILUTSequence=Sequence([lut(C12, 12, data=C12[:1000].tobytes())]))  # fmt: skip
kind("VOI LUT that is constant", A, 12, window(A, 2000, 3000), **WINDOW,
     VOILUTSequence=Sequence([lut(np.full(4096, 7, np.uint16), 12)]))  # fmt: skip
kind("modality LUT of 12 bits", A, 12, stretched(C12[A]), ModalityLUTSequence=Sequence([lut(C12, 12)]))
kind("presentation LUT", A, 12, PresentationLUTSequence=Sequence([lut(C16, 16, vr="US")]), **WINDOW)

# --- polarity, padding, bits, missing fields --------------------------------------------------------------------------

kind("negative picture", A, 12, 255 - stretched(A), PhotometricInterpretation="MONOCHROME1")
kind(
    "negative, said twice",
    A,
    12,
    255 - stretched(A),
    PhotometricInterpretation="MONOCHROME1",
    PresentationLUTShape="INVERSE",
)
kind("presentation inverse", A, 12, 255 - stretched(A), PresentationLUTShape="INVERSE")


def bordered(value: int) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.where(np.arange(W) < 20, value, A).astype(np.uint16)
    return pixels, np.arange(W)[None].repeat(H, 0) >= 20


for value, negative in ((0, False), (4095, False), (4095, True)):
    pixels, inside = bordered(value)
    right = stretched(pixels, inside)
    kind(f"padding {value}{', negative' * negative}", pixels, 12, np.where(inside, 255 - right if negative else right, 0),
         PixelPaddingValue=value, PhotometricInterpretation=f"MONOCHROME{2 - negative}")  # fmt: skip
pixels, inside = bordered(4095)
kind("padding, window", pixels, 12, np.where(inside, window(A, 2000, 3000), 0), PixelPaddingValue=4095, **WINDOW)
kind("padding, a range", np.where(inside, A, 4000 + np.arange(W) * 4).astype(np.uint16), 12,
     np.where(inside & (A < 4050), window(A, 2000, 3000), 0), PixelPaddingValue=4000, PixelPaddingRangeLimit=4095,
     **WINDOW)  # fmt: skip
pixels = np.where(inside, S, -2048).astype(np.int16)
kind(
    "padding, signed",
    pixels,
    12,
    np.where(inside & (S > -2048), stretched(S, inside), 0),
    PixelPaddingValue=("SS", -2048),
)

kind("overlay in unused bits", A | (np.arange(W) % 16 < 8).astype(np.uint16) << 15, 12, **WINDOW)
marks = A | (levels(8) > 200).astype(np.uint16) << 12
kind("overlay in unused bits, JPEG 2000", marks, 12, window(A, 2000, 3000), syntax=JPEG2000Lossless,
     frame=imagecodecs.jpeg2k_encode(marks, codecformat="j2k", reversible=True, level=0), **WINDOW)  # fmt: skip
kind("values in the upper bits", A << 4, 12, window(A, 2000, 3000), HighBit=15, **WINDOW)
kind("more bits than named", levels(16), 12, stretched(levels(16)))
kind("32 bits allocated", A.astype(np.uint32), 32, stretched(A))
kind("bits stored missing", A, 12, stretched(A), BitsStored=..., HighBit=...)
kind("photometric interpretation missing", A, 12, window(A, 2000, 3000), PhotometricInterpretation=..., **WINDOW)
kind("pixel representation and samples missing", A, 12, stretched(A), PixelRepresentation=..., SamplesPerPixel=...)
kind("frames empty", A, 12, stretched(A), NumberOfFrames="")


@pytest.mark.parametrize("name", KINDS)
def test_grey_levels_equal_the_reference(name: str) -> None:
    made = KINDS[name]()
    grey = decode(made.data)
    assert grey.dtype == np.uint8 and grey.shape == made.right.shape
    assert np.abs(grey - made.right).max() <= 1.0, f"{np.abs(grey - made.right).max():.1f} grey levels"


def test_there_are_at_least_60_kinds() -> None:
    assert len(KINDS) >= 60


def test_without_preamble_and_without_transfer_syntax() -> None:
    plain = file_of(A, 12, ImplicitVRLittleEndian)
    at = 132 + 12 + int.from_bytes(plain[140:144], "little")
    for data in (plain[132:], plain[at:], file_of(A, 12)[132:]):
        assert np.abs(decode(data) - stretched(A)).max() <= 1


SIGNED = levels(12, signed=True)
JPEG8 = "1.2.840.10008.1.2.4.50"


def jpeg(bands: int) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(levels(8))
    (picture.convert("RGB") if bands == 3 else picture).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def group(**fields: Any) -> Sequence:
    """Functional groups of an enhanced object."""
    window, rescale = Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = "2000", "3000"
    rescale.RescaleSlope, rescale.RescaleIntercept = "-1", "4095"
    one = Dataset()
    one.FrameVOILUTSequence, one.PixelValueTransformationSequence = Sequence([window]), Sequence([rescale])
    return Sequence([one])


@pytest.mark.parametrize(
    ("make", "right", "said"),
    [
        (lambda: file_of(A, 12, PixelRepresentation=1), stretched(A), "its values are unsigned"),
        (lambda: file_of(A * 16, 16, PixelRepresentation=1), stretched(A * 16.0), "its values are unsigned"),
        (lambda: file_of(SIGNED, 16, PixelRepresentation=0), stretched(SIGNED), "its values are signed"),
        (lambda: file_of(SIGNED, 12, PixelRepresentation=1), stretched(SIGNED), None),
        (lambda: file_of(A, 12, JPEG8, jpeg(1), PhotometricInterpretation="MONOCHROME2", BitsAllocated=8, BitsStored=8,
                         HighBit=7), stretched(levels(8)), None),
        (lambda: file_of(levels(8), 8, JPEG8, jpeg(3)), levels(8).astype(float), None),
        (lambda: file_of(levels(8), 8, ExplicitVRLittleEndian, jpeg(1)), stretched(levels(8)), "which its header does not say"),
        (lambda: file_of(levels(8), 8, RLELossless, jpeg(1)), stretched(levels(8)), "its pixels are JPEG Baseline"),
        (lambda: file_of(A, 12, PhotometricInterpretation="monochrome1 "), 255 - stretched(A), None),
        (lambda: file_of(A, 12, PhotometricInterpretation="MONOCHROME"), stretched(A), "interpretation is unknown"),
        (lambda: file_of(A, 12, SharedFunctionalGroupsSequence=group()), window(4095.0 - A, 2000, 3000), None),
    ],
    ids=["12 bits called signed", "16 bits called signed", "signed called unsigned", "signed", "jpeg", "colour in grey",
         "packed, not said", "another compression", "small letters", "no word of the standard", "functional groups"],
)  # fmt: skip
def test_pixels_are_believed_where_the_header_contradicts_them(
    make: Callable[[], bytes], right: np.ndarray, said: str | None, tmp_path
) -> None:
    (tmp_path / "x.dcm").write_bytes(make())
    found = check_picture(tmp_path / "x.dcm")
    assert found.refused is None and (found.said is None if said is None else said in str(found.said)), found
    loss = 8 if b"JFIF" in make() else 1
    assert np.abs(decode(make()) - right).max() <= loss


def test_a_border_or_marker_burnt_in_without_a_padding_value_sets_no_range() -> None:
    for value, signed in ((65535, False), (0, False), (-32768, True)):
        pixels = A.astype(np.int32) + (30_000 if value == 0 else -2000 if signed else 0)
        pixels[:, :6] = value
        pixels = pixels.astype(np.int16 if signed else np.uint16)
        inside = np.abs(decode(file_of(pixels, 16))[:, 6:] - stretched(pixels[:, 6:]))
        assert inside.max() <= 1, value
    # A level that lies no farther away than the others do counts: 4095 among levels up to 3500.
    pixels = np.minimum(A, 3500)
    pixels[:, :6] = 4095
    assert np.abs(decode(file_of(pixels, 12)) - stretched(pixels)).max() <= 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (dict(WindowCenter="40", WindowWidth="80"), "window (40 / 80) leaves it nearly constant"),
        (dict(WindowCenter="40", WindowWidth="0"), "window (40 / 0) cannot be used"),
        (dict(VOILUTSequence=Sequence([Dataset()])), "its VOI LUT cannot be used"),
        (dict(RescaleSlope="0", RescaleIntercept="0"), "slope is 0"),
        (WINDOW, None),
        ({}, None),
    ],
    ids=["outside", "width 0", "null item", "slope 0", "right", "none"],
)
def test_what_is_not_followed_is_said(fields: dict[str, Any], said: str | None, tmp_path) -> None:
    (tmp_path / "x.dcm").write_bytes(file_of(A, 12, **fields))
    found = check_picture(tmp_path / "x.dcm")
    assert found.refused is None
    assert found.said is None if said is None else said in str(found.said)


def test_a_blank_exposure_stays_blank_whatever_its_window(tmp_path) -> None:
    blank = (2000 + np.random.default_rng(0).integers(0, 3, (H, W))).astype(np.uint16)
    (tmp_path / "x.dcm").write_bytes(file_of(blank, 12, WindowCenter="2000", WindowWidth="4000"))
    assert "nearly constant" in str(check_picture(tmp_path / "x.dcm").refused)


REFUSED = {
    "frames": (lambda: file_of(A, 12, NumberOfFrames="3"), "not supported: holds 3 frames"),
    "palette": (lambda: file_of(A, 12, PhotometricInterpretation="PALETTE COLOR"), "not supported: palette"),
    "no pixels": (lambda: file_of(A, 12, PixelData=..., Rows=..., Columns=...), "not supported: DICOM without pixels"),
    "12 bits packed": (lambda: file_of(A, 12, BitsAllocated=12), "not supported: 12 bits allocated"),
    "video": (lambda: file_of(A, 12, "1.2.840.10008.1.2.4.102", b"\0" * 64), "not supported: compressed as MPEG"),
    "cut short": (lambda: file_of(A, 12)[:-1000], "damaged"),
    "header only": (lambda: file_of(A, 12)[:400], "damaged"),
    "colour, negative": (
        lambda: file_of(levels(8), 8, JPEG8, jpeg(3), PhotometricInterpretation="MONOCHROME1"),
        "not supported: a JPEG in colour, called MONOCHROME1",
    ),
    "garbage": (lambda: file_of(A, 12, JPEGLosslessSV1, b"\xff\xd8" + b"\x07" * 500), "damaged"),
    "huge": (lambda: file_of(A, 12, Rows=65_500, Columns=65_500), "too large (65500 x 65500"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_the_true_reason(name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(PictureError) as refused:
        decode(make())
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "cut and closed"])
def test_half_a_compressed_picture_is_damaged(name: str, end: bytes) -> None:
    syntax, encode, ((bits, is_signed), *_) = FRAMES[name]
    frame = encode(levels(bits, is_signed), bits)
    with pytest.raises(PictureError) as refused:
        decode(file_of(levels(bits, is_signed), bits, syntax, frame[: len(frame) // 2] + end))
    assert str(refused.value).startswith("damaged")


def test_a_deflated_file_is_not_unpacked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "MAX_UNPACKED", 1000)
    with pytest.raises(PictureError, match="too large"):
        decode(file_of(A, 12, DeflatedExplicitVRLittleEndian))


def test_ingest_says_of_how_many_pictures_a_header_was_not_followed(tmp_path) -> None:
    for i in range(4):
        fields = dict(WindowCenter=str(40 + i), WindowWidth="80") if i < 3 else {}
        (tmp_path / f"{i}.dcm").write_bytes(file_of(A, 12, **fields))
    rows = "\n".join(f"{i}.dcm,p{i},{i % 2}" for i in range(4))
    (tmp_path / "t.csv").write_text(f"path,patient,Edema\n{rows}\n")
    store = Store(tmp_path / "data")
    made = ingest(config.IngestTable(table=tmp_path / "t.csv", root=tmp_path), store, Silent())
    with store.get(made["id"], "cohort").connect() as connection:
        notes = [row[0] for row in connection.execute("SELECT note FROM note").fetchall()]
    assert "3 pictures: its window leaves it nearly constant: drawn by its range of values" in notes
