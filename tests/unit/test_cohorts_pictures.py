"""The one decoder: what comes in, what is refused and why."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG2MPML, ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

from medsae.cohorts.levels import PictureError, grey_of_levels
from medsae.cohorts.pictures import PictureChanged, PictureMissing, check_picture, decode, read, thumbnail


def ramp(h: int = 48, w: int = 64) -> np.ndarray:
    """A grey picture that is different in every corner."""
    return (np.arange(h)[:, None] * 2 + np.arange(w)[None, :]).astype(np.uint8)


def as_bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def dicom_bytes(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **fields: object) -> bytes:
    """A small DICOM file; `fields` are set on top of what the pixels need."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset("x.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    file.Rows, file.Columns = pixels.shape[:2]
    file.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    file.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        file.PlanarConfiguration = 0
    file.BitsAllocated = file.BitsStored = pixels.dtype.itemsize * 8
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(file, name, value)
    file["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    file["PixelData"].is_undefined_length = syntax != ExplicitVRLittleEndian
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


# --- what is decoded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_lossless_grey_is_unchanged(kind: str) -> None:
    data = as_bytes(Image.fromarray(ramp()), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert decode(data).dtype == np.uint8
    assert np.abs(decode(data).astype(int) - ramp()).max() <= (1 if kind == "WEBP" else 0)


def test_the_name_does_not_decide_the_format(tmp_path: Path) -> None:
    path = tmp_path / "gif.jpg"
    path.write_bytes(as_bytes(Image.fromarray(ramp()), "GIF"))
    assert (decode(path) == ramp()).all()
    assert check_picture(path).refused is None


def test_rgb_that_is_grey_becomes_grey() -> None:
    assert (decode(as_bytes(Image.fromarray(ramp()).convert("RGB"), "PNG")) == ramp()).all()


def test_palette_and_transparency() -> None:
    picture = Image.fromarray(ramp())
    assert (decode(as_bytes(picture.convert("RGB").quantize(256), "PNG")).shape) == ramp().shape
    half = picture.convert("LA")
    half.putalpha(Image.fromarray(np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)[None].repeat(48, 0)))
    grey = decode(as_bytes(half, "PNG"))
    assert (grey[:, :32] == ramp()[:, :32]).all() and (grey[:, 32:] == 0).all()


def test_colour_is_refused_and_a_small_mark_is_not() -> None:
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[..., 0], colour[..., 2] = ramp(64), 200
    with pytest.raises(PictureError, match="colour picture"):
        decode(as_bytes(Image.fromarray(colour), "PNG"))
    marked = np.repeat(ramp(64)[..., None], 3, axis=2)
    marked[:10, :10] = (255, 0, 0)  # 2.4 % of the picture
    assert decode(as_bytes(Image.fromarray(marked), "PNG")).shape == (64, 64)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    path = tmp_path / "turned.jpg"
    path.write_bytes(as_bytes(Image.fromarray(ramp(48, 64)), "JPEG", exif=exif, quality=95))
    assert decode(path).shape == (64, 48)
    checked = check_picture(path)
    assert (checked.width, checked.height) == (48, 64)
    assert np.abs(decode(path).astype(int) - np.rot90(ramp(48, 64), -1)).mean() < 2


def test_16_bit_png_uses_its_own_range() -> None:
    levels = np.linspace(1000, 5000, 64 * 64).reshape(64, 64).round().astype(np.uint16)
    grey = decode(as_bytes(Image.fromarray(levels), "PNG"))
    assert grey.min() == 0 and grey.max() == 255
    assert (np.diff(grey.reshape(-1).astype(int)) >= 0).all()
    assert abs(int(grey[32, 0]) - 128) <= 2


def test_noise_of_a_blank_exposure_is_not_stretched(tmp_path: Path) -> None:
    levels = 20_000 + np.random.default_rng(0).integers(0, 4, (64, 64))
    path = tmp_path / "blank.png"
    path.write_bytes(as_bytes(Image.fromarray(levels.astype(np.uint16)), "PNG"))
    assert decode(path).max() <= 4
    assert "nearly constant" in str(check_picture(path).refused)


def test_levels_by_hand() -> None:
    # 1,001 levels 0..1000: the 0.1 percentile is level 1, the 99.9 percentile level 999.
    levels = np.arange(1001).reshape(1, -1).astype(np.int32)
    grey = grey_of_levels(levels)[0]
    assert grey[0] == grey[1] == 0 and grey[999] == grey[1000] == 255
    assert grey[250] == round(249 * 255 / 998)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.uint16, (8, 8)), st.integers(0, 300))
def test_levels_are_monotone_and_shift_does_not_matter(levels: np.ndarray, shift: int) -> None:
    grey = grey_of_levels(levels.astype(np.int64)).reshape(-1).astype(int)
    order = np.argsort(levels.reshape(-1), kind="stable")
    assert (np.diff(grey[order]) >= 0).all()
    assert (grey_of_levels(levels.astype(np.int64) + shift).reshape(-1) == grey).all()


def test_float_levels() -> None:
    levels = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)
    grey = decode(as_bytes(Image.fromarray(levels), "TIFF"))
    assert grey[0, 0] == 0 and grey[-1, -1] == 255
    with pytest.raises(PictureError, match="not finite"):
        grey_of_levels(np.array([[0.0, np.nan]]))


def smooth(top: int, kind: type = np.uint16) -> np.ndarray:
    """48 x 64 levels from 0 to `top`."""
    return (ramp().astype(float) / ramp().max() * top).astype(kind)


def tiff(levels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, levels, **options)
    return buffer.getvalue()


OPAQUE = np.full((48, 64), 65535, np.uint16)
DEEP = {
    "PNG, grey + alpha": lambda x: imagecodecs.png_encode(np.dstack([x, OPAQUE])),
    "PNG, RGB": lambda x: imagecodecs.png_encode(np.dstack([x] * 3)),
    "PNG, RGBA": lambda x: imagecodecs.png_encode(np.dstack([x, x, x, OPAQUE])),
    "PNG, RGBA, alpha 0 everywhere": lambda x: imagecodecs.png_encode(np.dstack([x, x, x, OPAQUE * 0])),
    "TIFF": lambda x: tiff(x, photometric="minisblack"),
    "TIFF, WhiteIsZero": lambda x: tiff((x.max() - x).astype(np.uint16), photometric="miniswhite"),
    "TIFF, RGB": lambda x: tiff(np.dstack([x] * 3), photometric="rgb"),
    "TIFF, RGB in planes": lambda x: tiff(np.stack([x] * 3), photometric="rgb", planarconfig="separate"),
    "TIFF, LZW with predictor": lambda x: tiff(x, compression="lzw", predictor=True),
    "TIFF, tiles, deflate": lambda x: tiff(x, compression="zlib", tile=(16, 16)),
    "TIFF, 32 bits": lambda x: tiff(x.astype(np.uint32)),
    "TIFF, big endian": lambda x: tiff(x, byteorder=">"),
    "TIFF, float": lambda x: tiff(x.astype(np.float32)),
    "JPEG 2000, RGB": lambda x: imagecodecs.jpeg2k_encode(np.dstack([x] * 3), level=0, reversible=True),
    "JPEG-LS": lambda x: imagecodecs.jpegls_encode(x),
    "JPEG, lossless": lambda x: imagecodecs.jpeg8_encode(x, lossless=True, bitspersample=16),
}


@pytest.mark.parametrize("top", [4095, 65535])
@pytest.mark.parametrize("kind", DEEP)
def test_more_than_8_bits_stay_as_deep_as_a_grey_png(kind: str, top: int) -> None:
    if top < 65535 and kind in ("JPEG-LS", "JPEG, lossless"):
        top = 65535
    levels = smooth(top)
    right = decode(as_bytes(Image.fromarray(levels), "PNG"))
    grey = decode(DEEP[kind](levels))
    assert len(np.unique(right)) > 100 and (grey == right).all()


def test_jpeg_of_12_bits_and_a_turned_tiff() -> None:
    levels = smooth(4095)
    grey = decode(imagecodecs.jpeg8_encode(levels, level=100, bitspersample=12))
    assert np.abs(grey.astype(int) - grey_of_levels(levels)).max() <= 1
    turned = decode(tiff(levels, extratags=[(274, "H", 1, 6, True)]))
    assert (turned == np.rot90(grey_of_levels(levels), -1)).all()


def test_tiff_of_8_bits_that_pillow_reads_wrongly_or_not() -> None:
    grey = ramp()
    assert np.abs(decode(tiff((grey.astype(int) - 128).astype(np.int8))).astype(int) - grey).max() <= 1
    assert np.array_equal(decode(tiff(grey, compression="jpeg2000")), grey)
    with pytest.raises(PictureError, match="not supported: a TIFF of complex64 numbers"):
        decode(tiff(grey.astype(np.complex64)))


def test_deep_pictures_that_are_not_one_radiograph_are_refused() -> None:
    colour = np.dstack([smooth(65535), smooth(65535)[::-1], smooth(65535)[:, ::-1]])
    for data, reason in (
        (imagecodecs.png_encode(colour), "colour picture"),
        (tiff(np.stack([smooth(4095)] * 2), photometric="minisblack"), "holds 2 pictures"),
        (imagecodecs.png_encode(np.dstack([smooth(4095)] * 3))[:-400], "damaged"),
        (tiff(smooth(4095), compression="zlib")[:-300], "damaged"),
    ):
        with pytest.raises(PictureError, match=reason):
            decode(data)


def test_a_tint_is_grey_and_a_colour_map_is_not() -> None:
    x = ramp(64).astype(float) / ramp(64).max()
    sepia = np.stack([x * 240, x * 200, x * 145], axis=-1).astype(np.uint8)
    blue_film = np.stack([x * 150, x * 180, 60 + x * 190], axis=-1).astype(np.uint8)
    for tinted in (sepia, blue_film):
        assert len(np.unique(decode(as_bytes(Image.fromarray(tinted), "PNG")))) > 100
    rainbow = np.stack([(3 * x - 1.5).clip(0, 1), 1 - np.abs(2 * x - 1), (1.5 - 3 * x).clip(0, 1)], axis=-1)
    with pytest.raises(PictureError, match="colour picture"):
        decode(as_bytes(Image.fromarray((rainbow * 255).astype(np.uint8)), "PNG"))


# --- the file itself --------------------------------------------------------------------------------------------------


def test_other_bytes_than_the_cohort_recorded_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(as_bytes(Image.fromarray(ramp()), "PNG"))
    recorded = check_picture(path).sha256
    assert read(path, recorded) == path.read_bytes()
    path.write_bytes(as_bytes(Image.fromarray(ramp()[::-1]), "PNG"))
    with pytest.raises(PictureChanged, match="changed since"):
        read(path, recorded)
    path.write_bytes(b"")
    with pytest.raises(PictureChanged):
        read(path, recorded)
    path.unlink()
    with pytest.raises(PictureMissing):
        read(path, recorded)


def test_what_is_no_file_is_refused_by_its_kind_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.png"))
    for name, kind in (("fifo.png", "a FIFO"), ("link.png", "a FIFO"), ("s.png", "a socket"), (".", "a folder")):
        assert check_picture(tmp_path / name).refused == f"not a file ({kind})"
    assert check_picture(Path("/dev/zero")).refused == "not a file (a device)"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x1f\x8b\x08\0" + bytes(50), "gzip"),
        (b"PK\x03\x04" + bytes(50), "zip"),
        (b"\x93NUMPY" + bytes(50), "NumPy"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "HDF5"),
        (b"\xff\x0a" + bytes(50), "JPEG XL"),
        (b"\x80\x04" + bytes(50), "a pickle"),
        (b"\0\0\0\x24ftypheic" + bytes(50), "HEIC"),
        (b"a.png" + bytes(252) + b"ustar" + bytes(99), "a tar"),
    ],
)
def test_what_another_program_reads_is_not_supported_and_not_damaged(data: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=f"not supported: .*{reason}"):
        decode(data)


# --- DICOM ------------------------------------------------------------------------------------------------------------


def test_dicom_monochrome_1_and_2_are_each_others_negative() -> None:
    pixels = (ramp(64, 64).astype(np.uint16)) * 16
    positive = decode(dicom_bytes(pixels, BitsStored=12, HighBit=11))
    negative = decode(dicom_bytes(pixels, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1"))
    assert positive[0, 0] == 0 and positive[-1, -1] == 255
    assert (positive.astype(int) + negative == 255).all()


def test_dicom_window_by_hand() -> None:
    # PS3.3 C.11.2.1.2.1: centre 100, width 51: black up to 74.5, white above 124.5, between them a line.
    pixels = np.zeros((64, 64), np.uint16)
    pixels[0, :5] = (60, 75, 100, 124, 200)
    grey = decode(dicom_bytes(pixels, WindowCenter="100", WindowWidth="51"))
    expected = [0, round(((75 - 99.5) / 50 + 0.5) * 255), round(((100 - 99.5) / 50 + 0.5) * 255)]
    assert grey[0, :5].tolist() == [*expected, round(((124 - 99.5) / 50 + 0.5) * 255), 255]


def test_dicom_rescale_comes_before_the_window() -> None:
    pixels = ramp(64, 64).astype(np.uint16)
    plain = decode(dicom_bytes(pixels, WindowCenter="100", WindowWidth="101"))
    rescaled = decode(
        dicom_bytes(pixels, WindowCenter="-800", WindowWidth="201", RescaleSlope="2", RescaleIntercept="-1000")
    )
    assert np.abs(plain.astype(int) - rescaled).max() <= 2
    falling = decode(dicom_bytes(pixels, RescaleSlope="-1", RescaleIntercept="1000"))
    assert (falling == 255 - decode(dicom_bytes(pixels))).all()


def test_dicom_signed_exact_and_sigmoid() -> None:
    pixels = ramp(64, 64).astype(np.int16) - 100
    exact = decode(dicom_bytes(pixels, WindowCenter="0", WindowWidth="100", VOILUTFunction="LINEAR_EXACT"))
    assert exact[pixels == 0][0] == 128 and exact[pixels == -50][0] == 0 and exact[pixels == 50][0] == 255
    sigmoid = decode(dicom_bytes(pixels, WindowCenter="0", WindowWidth="100", VOILUTFunction="SIGMOID"))
    assert sigmoid[pixels == 0][0] == 128
    assert sigmoid[pixels == 25][0] == round(255 / (1 + np.exp(-1)))


def test_dicom_padding_does_not_set_the_range() -> None:
    pixels = (1000 + ramp(64, 64).astype(np.uint16) * 8).astype(np.uint16)
    pixels[:, :20] = 0
    grey = decode(dicom_bytes(pixels, PixelPaddingValue=0))
    assert (grey[:, :20] == 0).all() and grey[:, 20:].min() <= 5
    assert decode(dicom_bytes(pixels))[:, 20:].min() > 60


def test_dicom_without_preamble_and_in_colour(tmp_path: Path) -> None:
    path = tmp_path / "bare.dcm"
    path.write_bytes(dicom_bytes(ramp(64, 64))[132:])
    assert check_picture(path).refused is None
    assert (decode(dicom_bytes(np.repeat(ramp(64, 64)[..., None], 3, axis=2))) == ramp(64, 64)).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (dicom_bytes(ramp(), NumberOfFrames="3"), "3 frames"),
        (dicom_bytes(ramp(), Rows=65_500, Columns=65_500), "65500 x 65500"),
        (dicom_bytes(ramp())[:-1000], "damaged"),
        (dicom_bytes(ramp())[:200], "damaged"),
        (dicom_bytes(ramp(), PhotometricInterpretation="PALETTE COLOR"), "palette"),
    ],
    ids=["frames", "huge", "truncated", "header only", "palette"],
)
def test_dicom_refused(data: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        decode(data)


def test_dicom_with_an_unknown_compression_names_it() -> None:
    data = dicom_bytes(ramp(), MPEG2MPML, PixelData=encapsulate([b"\xff\xd8\xff\xd9"]))
    with pytest.raises(PictureError, match="not supported: compressed as MPEG2"):
        decode(data)


def test_dicom_with_jpeg_inside() -> None:
    jpeg = as_bytes(Image.fromarray(ramp(64, 64)), "JPEG", quality=95)
    grey = decode(dicom_bytes(ramp(64, 64), JPEGBaseline8Bit, PixelData=encapsulate([jpeg])))
    assert np.abs(grey.astype(int) - decode(dicom_bytes(ramp(64, 64)))).mean() < 3


# --- what is refused --------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data lack."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


JPEG = as_bytes(Image.fromarray(ramp(200, 200)), "JPEG", quality=95)
FAULTS = {
    "truncated": (JPEG[: len(JPEG) // 2], "damaged"),
    "ends early": (JPEG[: len(JPEG) // 2] + b"\xff\xd9", "the data end early"),
    "html": (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "empty": (b"", "empty file"),
    "zeros": (b"\0" * 4096, "zeros only"),
    "text": (b"hello world, I am no picture", "not a picture"),
    "1x1": (as_bytes(Image.new("L", (1, 1), 9), "PNG"), "too small (1 x 1"),
    "narrow": (as_bytes(Image.fromarray(ramp(31, 64)), "PNG"), "too small (64 x 31"),
    "black": (as_bytes(Image.new("L", (300, 300)), "PNG"), "nearly constant"),
    "two tones": (as_bytes(Image.fromarray(ramp(64) // 40 + 100), "PNG"), "nearly constant"),
    "65,500 px": (png_header(65_500, 65_500), "million pixels"),
    "64 million and one": (png_header(8001, 8000), "million pixels"),
    "no data": (png_header(100, 100), "damaged"),
    "animation": (
        as_bytes(Image.fromarray(ramp()), "GIF", save_all=True, append_images=[Image.fromarray(255 - ramp())]),
        "holds 2 pictures",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_file_is_refused_with_its_reason(fault: str, tmp_path: Path) -> None:
    data, reason = FAULTS[fault]
    path = tmp_path / "bad.jpg"
    path.write_bytes(data)
    checked = check_picture(path)
    assert checked.refused is not None and reason in checked.refused
    assert (checked.width, checked.height, checked.sha256, checked.webp) == (0, 0, "", b"")


def test_missing_file_folder_and_impossible_name(tmp_path: Path) -> None:
    assert check_picture(tmp_path / "none.png").refused == "file not found"
    assert check_picture(tmp_path).refused == "not a file (a folder)"
    assert "cannot be read" in str(check_picture(Path("a\0b.png")).refused)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(JPEG) - 1), st.integers(0, 255)), min_size=1, max_size=60), st.booleans())
def test_damage_never_raises(flips: list[tuple[int, int]], as_dicom: bool) -> None:
    data = bytearray(dicom_bytes(ramp(64, 64)) if as_dicom else JPEG)
    for at, value in flips:
        data[at % len(data)] = value
    try:
        grey = decode(bytes(data))
    except PictureError as error:
        assert str(error)
    else:
        assert grey.dtype == np.uint8 and grey.ndim == 2


# --- thumbnails -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 480), (160, 120)), ((100, 400), (40, 160)), ((50, 60), (50, 60))]
)
def test_thumbnail_keeps_the_aspect_ratio(size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = Image.fromarray(ramp(size[1], size[0]))
    small = Image.open(io.BytesIO(thumbnail(picture)))
    assert small.format == "WEBP" and small.size == expected


def test_thumbnail_shows_the_picture_and_the_hash_is_of_the_file(tmp_path: Path) -> None:
    smooth = (127 + 100 * np.sin(np.linspace(0, 6, 320))[:, None] * np.cos(np.linspace(0, 5, 320))).astype(np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(as_bytes(Image.fromarray(smooth), "PNG"))
    checked = check_picture(path)
    assert checked.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    shown = np.asarray(Image.open(io.BytesIO(checked.webp)).convert("L")).astype(float)
    assert np.abs(shown - smooth.reshape(160, 2, 160, 2).mean(axis=(1, 3))).mean() < 4
