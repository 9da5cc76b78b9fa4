"""One DICOM radiograph as grey levels, by pydicom's own functions: modality LUT or rescale, VOI LUT or window,
presentation LUT, photometric interpretation (PS3.3 C.7.6.3, C.11).

What a header says is read into plain numbers first and handed to pydicom in a dataset of our own (`_view`): a real
header holds None, empty strings, decimal commas, bytes and tables of another length than they announce, and pydicom
calculates with what it finds. What cannot be used is left out and said, the picture is kept.

Not covered: several frames, palette colours, video. Overlays in elements of their own are not drawn; those in unused
bits of the pixels are masked.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medsae.cohorts.levels import TABLE_LEVELS, PictureError, check_size, grey_of_channels, grey_of_levels
from medsae.cohorts.raster import jpeg_frame

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_UNPACKED = 512 * 2**20
"""Bytes that a deflated file may unpack to."""
LEAST_SPREAD = 16
"""Grey levels between the 1st and the 99th percentile, below which a window is not believed."""
MOST_AT_THE_ENDS, LOST_SPREAD = 0.8, 64
"""A window is not believed either where it makes a larger share of the pixels black and white than this, and the pixels
that it makes equal lie as many grey levels apart in the range of the values: black border loses nothing."""
_WIDER = 0.1
_JPEG = ("1.2.840.10008.1.2.4.5", "1.2.840.10008.1.2.4.70")
"""What the UIDs of JPEG (not JPEG-LS, not JPEG 2000) begin with."""
_TORN, _LESS_TORN, _OF_THESE = 0.01, 0.1, 64
"""Share of neighbours that lie half of all levels apart, from which the sign of the values is doubted. The other way to
read them must have a tenth of it at most, and concern so many levels: a white border is one."""
_INTERPRETATIONS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "ARGB", "CMYK", "HSV")
_GROUPS = ("FrameVOILUTSequence", "PixelValueTransformationSequence")
"""Where the header of an enhanced object keeps its window and its rescale."""
_LUTS = {
    "ModalityLUTSequence": "modality LUT",
    "VOILUTSequence": "VOI LUT",
    "PresentationLUTSequence": "presentation LUT",
}
_LOCK = threading.Lock()


def headless(data: bytes) -> bool:
    """Whether bytes without the DICM mark look like DICOM all the same: they begin with an element of group 2 or 8."""
    if data[:2] not in (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08") or len(data) < 64:
        return False
    little = data[1] == 0
    if data[4:6].isalpha() and data[4:6].isupper():
        return True
    return int.from_bytes(data[4:8], "little" if little else "big") <= min(len(data), 1024)


def decode(data: bytes) -> tuple[np.ndarray, str | None]:
    """Grey uint8 [h, w], black = air, or colour uint8 [h, w, 3], of a DICOM file, and what is to be said of its header
    (None: it was followed). Raises PictureError(reason)."""
    _set_up()
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    said: list[str] = []
    dataset = _read(data, said)
    pixels = _pixels(dataset)
    if pixels.ndim == 3:
        shown = pixels if pixels.dtype == np.uint8 else grey_of_channels(pixels)
    else:
        shown = _grey(_own_bits(pixels, dataset, said), dataset, said)
    return shown, "; ".join(said) or None


@cache
def _set_up() -> None:
    """Once a process: pydicom says nothing on stderr, and knows our decoder of 12-bit JPEG."""
    from pydicom import config
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    with _LOCK:  # pydicom's list of plug-ins is not safe for threads, which embed decodes in
        # What a header spells wrongly in a field that is not used here is no reason for a line on stderr a picture.
        config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        with contextlib.suppress(ImportError):
            import gdcm

            gdcm.Trace.WarningOff()
            gdcm.Trace.ErrorOff()
        decoder = get_decoder(JPEGExtended12Bit)
        if "imagecodecs" not in decoder.available_plugins:
            decoder.add_plugin("imagecodecs", ("medsae.cohorts.jpeg12", "decode_frame"))


# --- from the file to stored values -----------------------------------------------------------------------------------


def _read(data: bytes, said: list[str]) -> Dataset:
    """The header with the pixels still packed. Raises PictureError where there are none that can be had."""
    from pydicom import dcmread
    from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

    try:
        if str(DeflatedExplicitVRLittleEndian).encode() in data[:1024]:
            _check_unpacked(data)
        dataset = dcmread(io.BytesIO(data), force=data[128:132] != b"DICM")
        kind = UID(str(dataset.get("SOPClassUID", ""))).name or "unknown"
        if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            cut = dataset.get("Rows") is not None or len(dataset) == 0
            raise PictureError("damaged (DICOM that ends before its pixels)" if cut else
                               f"not supported: DICOM without pixels ({kind})")  # fmt: skip
        rows, columns = (_whole(dataset, name) for name in ("Rows", "Columns"))
        if rows is None or columns is None:
            raise PictureError("damaged (DICOM that does not say its size)")
        check_size(columns, rows)
        frames = _whole(dataset, "NumberOfFrames") or 1
        if frames > 1:
            raise PictureError(f"not supported: holds {frames} frames, not one picture")
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # the standard's default
        _complete(dataset, rows * columns, said)
        _believe_pixels(dataset, said)
    except PictureError:
        raise
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise PictureError(f"damaged (its DICOM header: {_first_line(error)})") from error
    return dataset


def _check_unpacked(data: bytes) -> None:
    """Refuse a deflated file that unpacks to more than MAX_UNPACKED: pydicom would unpack it whatever its size."""
    from pydicom.filereader import _read_file_meta_info, read_preamble

    file = io.BytesIO(data)
    read_preamble(file, False)
    _read_file_meta_info(file)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, size = data[file.tell() :], 0
    while rest:
        size += len(inflate.decompress(rest, 1 << 24))
        rest = inflate.unconsumed_tail
        if size > MAX_UNPACKED:
            raise PictureError(f"too large (deflated, more than {MAX_UNPACKED / 2**20:.0f} MiB)")


def _complete(dataset: Dataset, pixels: int, said: list[str]) -> None:
    """Fill in what the header leaves out and only one value fits, so that pydicom decodes."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(groups) or ():
            for element in (e for name in _GROUPS for item in group.get(name) or () for e in item):
                if element.tag not in dataset:
                    dataset.add(element)
    samples = _whole(dataset, "SamplesPerPixel")
    if samples is None:
        samples = 3 if str(dataset.get("PhotometricInterpretation", "")).startswith(("RGB", "YBR")) else 1
        dataset.SamplesPerPixel = samples
    allocated = _whole(dataset, "BitsAllocated")
    if allocated not in (None, 1, 8, 16, 32, 64):
        raise PictureError(f"not supported: {allocated} bits allocated")
    if allocated is None:
        allocated = 8 if len(dataset.get("PixelData", b"")) < 2 * pixels * samples else 16
        dataset.BitsAllocated = allocated
    stored = _whole(dataset, "BitsStored")
    if stored is None or not 1 <= stored <= allocated:
        dataset.BitsStored = stored = allocated
    high = _whole(dataset, "HighBit")
    if high is None or not stored - 1 <= high < allocated:
        dataset.HighBit = stored - 1
    if _whole(dataset, "PixelRepresentation") not in (0, 1):
        dataset.PixelRepresentation = 0
    photometric = str(dataset.get("PhotometricInterpretation") or "").strip(" \0").upper()
    if photometric not in _INTERPRETATIONS and not photometric.startswith("YBR_"):
        if photometric:
            said.append("its photometric interpretation is unknown: the smallest value is drawn black")
        photometric = "RGB" if samples == 3 else "MONOCHROME2"
    dataset.PhotometricInterpretation = photometric
    if samples == 3 and _whole(dataset, "PlanarConfiguration") is None:
        dataset.PlanarConfiguration = 0


def _believe_pixels(dataset: Dataset, said: list[str]) -> None:
    """Where packed pixels say by their first bytes that they are another compression, or have other channels, than the
    header names, the pixels are believed."""
    from pydicom import uid
    from pydicom.encaps import generate_frames

    packed = dataset.get("PixelData", b"")
    if packed[:4] != b"\xfe\xff\0\xe0":
        return
    try:
        frame = next(generate_frames(packed, number_of_frames=1))
    except (ValueError, StopIteration):
        return  # the decoder says what is wrong
    syntax = dataset.file_meta.TransferSyntaxUID
    found = jpeg_frame(frame) if frame[:3] == b"\xff\xd8\xff" else None
    if found is not None:
        kind = {
            0xC0: uid.JPEGBaseline8Bit,
            0xC1: uid.JPEGExtended12Bit,
            0xC3: uid.JPEGLosslessSV1,
            0xF7: uid.JPEGLSLossless,
        }.get(found[0])
        own = syntax.startswith(_JPEG) or (syntax.startswith("1.2.840.10008.1.2.4.8") and found[0] == 0xF7)
        if found[4] == 3 and dataset.SamplesPerPixel == 1 and found[1] <= 8:
            if dataset.PhotometricInterpretation == "MONOCHROME1":
                raise PictureError("not supported: a JPEG in colour, called MONOCHROME1")
            dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
            dataset.PhotometricInterpretation = "YBR_FULL_422"
    elif frame[:4] == b"\xff\x4f\xff\x51":
        kind, own = uid.JPEG2000, syntax.startswith(("1.2.840.10008.1.2.4.9", "1.2.840.10008.1.2.4.20"))
        kind = uid.JPEG2000Lossless if syntax == uid.JPEG2000Lossless else kind
    else:
        return
    if kind is not None and not own:
        said.append(f"its pixels are {kind.name}" + ("" if syntax.is_compressed else ", which its header does not say"))
        dataset.file_meta.TransferSyntaxUID = kind


def _pixels(dataset: Dataset) -> np.ndarray:
    """Stored values [h, w] (unused bits as they are), or colours [h, w, 3]."""
    from pydicom.pixels.decoders.base import get_decoder

    if str(dataset.PhotometricInterpretation).strip().upper().startswith("PALETTE"):
        raise PictureError("not supported: palette colours, not a radiograph")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise PictureError(f"not supported: compressed as {syntax.name}") from error
    if not decoder.is_available:
        raise PictureError(f"not supported: compressed as {syntax.name}, which no installed decoder reads")
    try:
        options: Any = {"correct_unused_bits": False}
        pixels = decoder.as_array(dataset, **options)[0]
    except NotImplementedError as error:
        raise PictureError(f"not supported: {_first_line(error)}") from error
    except Exception as error:  # its decoders are many, and a damaged file makes them raise nearly anything
        raise _undecoded(error, syntax.name) from error
    if syntax.startswith(_JPEG) and pixels.ndim == 2:
        _refuse_half(pixels, 1 << (int(dataset.BitsStored) - 1))
    return pixels


def _refuse_half(pixels: np.ndarray, middle: int) -> None:
    """Where the data of a JPEG end early, its decoders fill the rest with the level in the middle."""
    if (pixels[-8:] == middle).all():
        rows = int(np.argmax((pixels != middle).any(axis=1)[::-1])) or len(pixels)
        raise PictureError(f"damaged (the data end early: the last {rows} of {len(pixels)} rows are empty)")


def _undecoded(error: Exception, syntax: str) -> PictureError:
    """The reason in what pydicom says of all its decoders, a line each where there are several."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or not lines[0].startswith("Unable to decode"):
        return PictureError(f"damaged (its pixels: {_first_line(error)})")
    tried = [line for line in lines[1:] if "does not support" not in line]
    if len(lines) > 1 and not tried:
        return PictureError(f"not supported: {lines[1].partition(': ')[2]}")
    said = [line for line in tried if "NoneType" not in line and not line.endswith(":")]  # gdcm's way to say no
    return PictureError(f"damaged (its pixels are no {syntax}{': ' + said[0] if said else ''})")


def _own_bits(pixels: np.ndarray, dataset: Dataset, said: list[str]) -> np.ndarray:
    """Stored values without what lies in the bits that the header leaves unused (overlays of old devices, mostly).

    Where Bits Stored is too small, the upper bits are the picture's own: they then carry on where the lower bits
    overflow, which no overlay does. A High Bit above the stored bits says that the values lie in the upper bits.
    """
    if pixels.dtype.kind == "f":
        return pixels
    return _own_sign(_own_levels(pixels, dataset, said), dataset, said)


def _own_sign(pixels: np.ndarray, dataset: Dataset, said: list[str]) -> np.ndarray:
    """Signed values as unsigned ones, or the other way round, where the header's reading tears the picture (neighbours
    half of all levels apart) and the other does not."""
    bits, signed = int(dataset.BitsStored), pixels.dtype.kind == "i"
    half, width = 1 << (bits - 1), 8 * pixels.dtype.itemsize
    if (int(pixels.min()) >= (0 if signed else half)) or int(pixels.max()) < (0 if signed else half):
        return pixels  # both readings have the same steps
    if int(pixels.max()) >= (half if signed else 2 * half) or bits < 8:
        return pixels
    some = pixels[:: max(1, len(pixels) // 256)].astype(np.int64)
    other = some % (2 * half) if signed else (some + half) % (2 * half) - half
    torn, less = (float((np.abs(np.diff(values, axis=1)) >= half).mean()) for values in (some, other))
    if torn < _TORN or less > _LESS_TORN * torn or len(np.unique(some[some != other])) < _OF_THESE:
        return pixels
    said.append(f"its values are {'unsigned' if signed else 'signed'}, though its header says the opposite")
    unsigned = pixels.view(pixels.dtype.str.replace("i", "u"))
    if signed:
        return unsigned & np.array(2 * half - 1, unsigned.dtype)
    return (unsigned << (width - bits)).view(pixels.dtype.str.replace("u", "i")) >> (width - bits)


def _own_levels(pixels: np.ndarray, dataset: Dataset, said: list[str]) -> np.ndarray:
    stored, high = int(dataset.BitsStored), int(dataset.HighBit)
    unused = 8 * pixels.dtype.itemsize - stored
    signed = pixels.dtype.kind == "i"
    if unused <= 0 or (pixels.max() < 1 << (stored - signed) and pixels.min() >= -signed << (stored - 1)):
        return pixels
    lower = (pixels << unused) >> unused  # of a signed type: the sign is extended
    if high >= stored:
        up = 8 * pixels.dtype.itemsize - 1 - high
        return (pixels << up) >> unused
    if _carries_on(pixels, stored):
        said.append(f"its pixels use more than the {stored} bits that its header names")
        return pixels
    return lower


def _carries_on(pixels: np.ndarray, stored: int) -> bool:
    """Whether the bits above `stored` often change between neighbours while the whole value hardly does."""
    whole = pixels.astype(np.int64)
    changed = np.diff(whole >> stored, axis=1) != 0
    steps = np.abs(np.diff(whole, axis=1))[changed]
    return bool(steps.size and (steps < 1 << (stored - 1)).mean() > _WIDER)


# --- from stored values to grey levels --------------------------------------------------------------------------------


def _grey(stored: np.ndarray, dataset: Dataset, said: list[str]) -> np.ndarray:
    """Stored values [h, w] as grey uint8 [h, w]: what a viewer shows when it follows the header, padding black."""
    padding = _padding(stored, dataset)
    # Every transform is a function of one stored value: where these are few, it is worked out once for each.
    by_table = stored.dtype.kind != "f" and int(stored.max()) - int(stored.min()) < TABLE_LEVELS
    if by_table:
        first = int(stored.min())
        unsigned = stored.dtype.str.replace("i", "u")
        index = stored.view(unsigned) - np.array(first).astype(stored.dtype).view(unsigned)  # wraps to the place
        values = np.arange(first, int(stored.max()) + 1, dtype=np.int64)
    else:
        index, values = ..., stored
    modality = _modality(values, dataset, said)

    def by_range() -> np.ndarray:
        # A line changes no order: the stored values keep their whole steps.
        grey = grey_of_levels(modality.values[index] if modality.by_lut else stored, padding)
        return _bytes(_presented(np.arange(256.0), dataset))[255 - grey if modality.falling else grey]

    grey = None
    for name, shown in _views(modality.values, dataset, said):
        candidate = _bytes(_presented(shown, dataset))[index]
        if _believed(candidate, padding, by_range):
            grey = candidate
            break
        said.append(f"its {name} leaves it nearly constant: drawn by its range of values")
    grey = by_range() if grey is None else grey
    if _negative(dataset):
        grey = 255 - grey
    if padding is not None:
        grey[padding] = 0
    return grey


def _bytes(shown: np.ndarray) -> np.ndarray:
    return np.nan_to_num(shown).clip(0, 255).round().astype(np.uint8)


def _histogram(grey: np.ndarray, without: np.ndarray | None) -> np.ndarray:
    """How many pixels [256] have each grey level, without those of a mask [h, w]."""
    mask = None if without is None else Image.fromarray(~without)
    return np.array(Image.fromarray(grey).histogram(mask))  # five times as fast as numpy's


def _spread(histogram: np.ndarray) -> int:
    """Grey levels between the 1st and the 99th percentile."""
    share = np.cumsum(histogram) / max(1, histogram.sum())
    low, high = np.searchsorted(share, (0.01, 0.99))
    return int(high - low)


def _believed(grey: np.ndarray, padding: np.ndarray | None, by_range: Callable[[], np.ndarray]) -> bool:
    """Whether what a window or table shows may stand: it has some grey levels, or the range of the values has no more;
    and where it is nearly all black and white, the pixels that it makes equal are about equal."""
    histogram = _histogram(grey, padding)
    flat = _spread(histogram) < LEAST_SPREAD
    if not flat and (histogram[0] + histogram[255]) / histogram.sum() <= MOST_AT_THE_ENDS:
        return True
    instead = by_range()
    if _spread(_histogram(instead, padding)) < LEAST_SPREAD:
        return True
    hidden = np.zeros(grey.shape, dtype=bool) if padding is None else padding
    return not flat and all(
        _spread(_histogram(instead, hidden | (grey != end))) < LOST_SPREAD for end in (0, 255) if histogram[end]
    )


def _negative(dataset: Dataset) -> bool:
    """MONOCHROME1, or a Presentation LUT Shape of INVERSE, which says the same: the smallest value is white."""
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    return str(dataset.PhotometricInterpretation).strip().upper() == "MONOCHROME1" or shape == "INVERSE"


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Which pixels [h, w] are border that the device added (Pixel Padding Value, with its range); None: none are."""
    value = _whole(dataset, "PixelPaddingValue")
    if value is None or stored.dtype.kind == "f":
        return None
    limit = _whole(dataset, "PixelPaddingRangeLimit")
    ends = [end - (1 << 16) if stored.dtype.kind == "i" and end >= 1 << 15 and stored.itemsize == 2 else end
            for end in (value, value if limit is None else limit)]  # fmt: skip
    found = (stored >= min(ends)) & (stored <= max(ends))
    return found if found.any() and not found.all() else None


@dataclass(frozen=True)
class _Modality:
    values: np.ndarray
    """What the device measured, for every value asked for."""
    by_lut: bool = False
    falling: bool = False
    """A rescale of negative slope."""


def _modality(values: np.ndarray, dataset: Dataset, said: list[str]) -> _Modality:
    from pydicom.pixels.processing import apply_modality_lut

    lut, problem = _lut(dataset, "ModalityLUTSequence", values)
    if lut is not None:
        return _Modality(apply_modality_lut(values, _view(ModalityLUTSequence=[lut.item])), by_lut=True)
    if problem:
        said.append(problem)
    slope, intercept = (next(iter(_numbers(dataset, name)), None) for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is None or intercept is None:
        return _Modality(values)
    if slope == 0:
        said.append("its rescale slope is 0: not followed")
        return _Modality(values)
    view = _view(RescaleSlope=slope, RescaleIntercept=intercept)
    return _Modality(apply_modality_lut(values, view), falling=slope < 0)


def _views(modality: np.ndarray, dataset: Dataset, said: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (what it is, shown float in 0..255) for the first usable VOI LUT and for the first usable window."""
    from pydicom.pixels.processing import apply_voi, apply_windowing

    lut, problem = _lut(dataset, "VOILUTSequence", modality)
    if lut is not None:
        entries = np.rint(modality).clip(lut.first, lut.first + lut.n - 1).astype(np.int64)
        yield "VOI LUT", apply_voi(entries, _view(VOILUTSequence=[lut.item])) * (255 / lut.full)
    if problem:
        said.append(problem)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    function = function if function in ("LINEAR", "LINEAR_EXACT", "SIGMOID") else "LINEAR"
    windows = list(zip(_numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth"), strict=False))
    for centre, width in windows:
        if centre is None or width is None or width <= 0 or (function == "LINEAR" and width <= 1):
            continue
        # An unsigned picture of 8 bits without a rescale of its own: pydicom's window then gives 0..255.
        view = _view(PhotometricInterpretation="MONOCHROME2", BitsStored=8, PixelRepresentation=0,
                     WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)  # fmt: skip
        with np.errstate(over="ignore"):
            yield f"window ({centre:g} / {width:g})", apply_windowing(modality, view)
        return
    if windows:
        centre, width = (str(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
        said.append(f"its window ({centre} / {width}) cannot be used: drawn by its range of values")


def _presented(shown: np.ndarray, dataset: Dataset) -> np.ndarray:
    """0..255 through the header's Presentation LUT, where it has one."""
    from pydicom.pixels.processing import apply_presentation_lut

    lut, _ = _lut(dataset, "PresentationLUTSequence", np.zeros(1, np.int64))
    if lut is None or shown.min() == shown.max():
        return shown
    return apply_presentation_lut(shown, _view(PresentationLUTSequence=[lut.item])) * (255 / lut.full)


# --- what a header says, as plain numbers -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lut:
    item: Dataset
    """For pydicom: as many entries as announced, 16 bits each."""
    n: int
    first: int
    full: int
    """Largest value of as many bits as the entries need: full white."""


def _lut(dataset: Dataset, name: str, of: np.ndarray) -> tuple[_Lut | None, str | None]:
    """The first usable table of a sequence, and what is wrong where there are only unusable ones."""
    sequence = dataset.get(name)
    if not sequence:
        return None, None
    for item in sequence:
        descriptor = _numbers(item, "LUTDescriptor")
        if len(descriptor) == 3 and None not in descriptor:
            n, first, bits = (int(value) for value in descriptor if value is not None)
            n = n or 1 << 16
            # The second value is signed where the pixels are, whatever the file's VR made of it.
            first = first - (1 << 16) if first >= 1 << 15 and of.min() < 0 else first
            entries = _entries(item, n, bits, dataset)
            if entries is not None and n > 0:
                full = (1 << int(entries.max()).bit_length()) - 1  # the bits it announces are often too many
                return _Lut(_table_item(entries, first), n, first, max(1, full)), None
    return None, f"its {_LUTS[name]} cannot be used"


def _entries(item: Dataset, n: int, bits: int, dataset: Dataset) -> np.ndarray | None:
    """uint16 [n], from numbers or from bytes of 8 or 16 bits an entry; None where there are fewer than announced."""
    value = item.get("LUTData")
    big = dataset.file_meta.TransferSyntaxUID in ("1.2.840.10008.1.2.2",)
    if isinstance(value, bytes):
        if len(value) >= 2 * n:
            return np.frombuffer(value, ">u2" if big else "<u2", n).astype(np.uint16)
        return np.frombuffer(value, np.uint8, n).astype(np.uint16) if len(value) >= n else None
    if value is None or not hasattr(value, "__len__") or isinstance(value, str):
        return None
    numbers = np.asarray(value, dtype=np.int64).astype(np.uint16)
    if len(numbers) < n and bits <= 8 and 2 * len(numbers) >= n:  # two entries a word
        numbers = numbers.astype(">u2" if big else "<u2").view(np.uint8).astype(np.uint16)
    return numbers[:n] if len(numbers) >= n else None


def _table_item(entries: np.ndarray, first: int) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    # 16 bits whatever the entries need: pydicom wraps indices of tables of 8 bits, and knows no 12.
    item.add_new("LUTDescriptor", "SL", [len(entries) % (1 << 16), first, 16])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def _view(**fields: Any) -> Dataset:
    """A dataset of nothing but `fields`, for pydicom's functions."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian
    from pydicom.valuerep import DSfloat

    view = Dataset()
    view.file_meta = FileMetaDataset()
    view.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name, value in fields.items():
        setattr(view, name, DSfloat(value) if isinstance(value, float) else value)
    return view


def _numbers(dataset: Dataset, name: str) -> list[float | None]:
    """The values of a header field as finite numbers (None where one is not); [] where it is absent or empty.

    Text is read with a decimal comma too; values may be apart by backslashes that a wrong VR left in.
    """
    value = dataset.get(name)
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, str):
        value = value.strip(" \0").split("\\") if value.strip(" \0") else []
    if value is None:
        return []
    return [_number(one) for one in (value if hasattr(value, "__iter__") else [value])]


def _number(value: Any) -> float | None:
    try:
        number = float(str(value).strip(" \0").replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(dataset: Dataset, name: str) -> int | None:
    """The first value of a header field as a whole number, or None."""
    value = dataset.get(name)
    if isinstance(value, bytes) and len(value) == 2:  # US or SS that no other field decided
        return int.from_bytes(value, "little")
    number = next(iter(_numbers(dataset, name)), None)
    return None if number is None else int(number)


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [""])[0]
    return line.split(" - ")[0][:200] or type(error).__name__
