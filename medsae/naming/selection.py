"""Which pictures a name is made from, and which it is tested on.

`strict`: one picture a patient, near-duplicates collapsed, naming and detection patients disjoint by a hash of the
patient. `paper`: the published choice (the same pictures name and test).
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

NAMING_TOP, NAMING_LOWER = 10, 6
"""strict: the strongest naming pictures, and how many more from lower quantiles of the firing ones."""
CONTRAST = 6
"""strict, against hard: silent pictures shown beside the naming ones."""
NAMING_LEAST = 5
"""strict: fewer firing naming patients than this do not make a name."""
NAMING_SHARE = 1 / 3
"""strict: share of patients that may only name; the others may only test."""
PAPER_TOP, PAPER_MIDDLE, PAPER_LEAST = 15, 15, 60
"""paper: top pictures, pictures around a middle rank, and the firing pictures that a neuron must exceed."""
SAME_BITS = 10
"""Two thumbnails whose 256-bit difference hashes differ in so few bits are the same picture (docs/decisions/062)."""


def firing_least(protocol: str, pictures: int) -> int:
    """Scored pictures on which a neuron must fire to be worth a try: with fewer, the test or the name lacks pictures
    (strict: after the split by patient, on average)."""
    return max(PAPER_LEAST + 1, pictures) if protocol == "paper" else math.ceil(pictures / (1 - NAMING_SHARE))


Hash = Callable[[int], int | None]
"""image -> difference hash of its thumbnail, or None where there is none."""


@dataclass(frozen=True)
class Activity:
    """What one neuron did on the scored images.

    images, values: the pictures where it is known to fire, strongest first; silent: pictures where it is known not to.
    """

    images: np.ndarray
    values: np.ndarray
    silent: np.ndarray


@dataclass(frozen=True)
class Tested:
    """One picture that a name is tested on."""

    image: int
    fires: bool
    value: float
    """Activation; 0 for a silent picture of an SAE neuron."""
    quantile: int | None
    """1 (strongest) .. of the firing pictures; None for a silent one."""
    hard: bool = False
    """A silent picture that carries the neuron's own label."""
    patient: int | None = None
    """Equal for pictures of one patient; None: unknown."""


@dataclass(frozen=True)
class Plan:
    """What to show for one neuron; `status` other than "ok" says why nothing can be asked, `note` says it in words."""

    neuron: int
    status: str = "ok"
    note: str = ""
    naming: tuple[int, ...] = ()
    top: int = 0
    """How many of `naming` are the strongest."""
    contrast: tuple[int, ...] = ()
    """Silent pictures with the neuron's own label that are shown against `naming`."""
    tested: tuple[Tested, ...] = ()
    firing: int = 0
    """Pictures (strict: patients) on which the neuron fires."""
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Patients:
    """Whose picture is whose, by image number.

    code_n: int, equal for pictures of one patient; names_n: bool, the patient may only name (else only test).
    """

    code_n: np.ndarray
    names_n: np.ndarray

    @classmethod
    def of(cls, patient_n: Sequence[str], seed: int) -> Patients:
        """The split by patient: a patient's side depends on nothing but the patient and the seed."""
        known = {patient: code for code, patient in enumerate(dict.fromkeys(patient_n))}
        names = np.array([_names(patient, seed) for patient in known], dtype=bool)
        code_n = np.array([known[patient] for patient in patient_n], dtype=np.int64)
        return cls(code_n, names[code_n] if len(code_n) else np.zeros(0, dtype=bool))


def _names(patient: str, seed: int) -> bool:
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < NAMING_SHARE


def difference_hash(webp: bytes) -> int:
    """256 bits of a picture: is each cell of a 16 x 16 grid brighter than its left neighbour? Robust to size, exposure
    and recompression; two radiographs of different people differ in tens of bits."""
    with Image.open(io.BytesIO(webp)) as image:
        grey = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BILINEAR), dtype=np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


class Distinct:
    """Takes pictures one by one and refuses a second one of a patient and near-duplicates of those taken."""

    def __init__(self, code_n: np.ndarray, hash_of: Hash):
        self.code_n, self.hash_of = code_n, hash_of
        self.patients: set[int] = set()
        self.hashes: list[int] = []
        self.duplicates = 0

    def take(self, image: int) -> bool:
        """True when the picture is new; it then counts as taken."""
        patient = int(self.code_n[image])
        if patient in self.patients:
            return False
        code = self.hash_of(image)
        if code is not None and any((code ^ other).bit_count() <= SAME_BITS for other in self.hashes):
            self.duplicates += 1
            return False
        self.patients.add(patient)
        if code is not None:
            self.hashes.append(code)
        return True

    def first(self, images: Iterable[int], n: int) -> list[int]:
        """The first n pictures of `images` that are new."""
        taken: list[int] = []
        for image in images:
            if len(taken) == n:
                break
            if self.take(image):
                taken.append(image)
        return taken


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What pictures are asked for."""

    pictures: int
    """Positives and negatives each."""
    hard: float = 0.0
    """Share of the negatives with the neuron's own label."""
    seed: int = 0
    against: bool = False
    """Silent pictures of naming patients are shown beside the naming ones."""


def choose_strict(
    neuron: int, activity: Activity, patients: Patients, hash_of: Hash, own_label_n: np.ndarray, wish: Wish
) -> Plan:
    """The strict choice for one neuron.

    own_label_n: bool by image number, carries the neuron's own label (for hard negatives). Positives are spread over
    five quantiles of the firing detection patients, each patient's strongest picture standing for the patient;
    negatives are drawn among silent pictures of patients on whom the neuron never fires, a share `hard` of them with
    the own label where there are so many. against: silent pictures of naming patients, with the own label where there
    are such, are shown beside the naming ones.
    """
    if len(activity.images) == 0:
        return Plan(neuron, "dead", "the neuron fires on none of the scored images: there is nothing to name")
    pictures, hard, against = wish.pictures, wish.hard, wish.against
    order = np.random.default_rng([wish.seed, neuron])
    value = dict(zip(activity.images.tolist(), activity.values.tolist(), strict=True))
    _, first = np.unique(patients.code_n[activity.images], return_index=True)
    strongest = activity.images[np.sort(first)]
    names, tests = strongest[patients.names_n[strongest]].tolist(), strongest[~patients.names_n[strongest]].tolist()
    distinct = Distinct(patients.code_n, hash_of)
    naming_top = distinct.first(names, NAMING_TOP)
    rest = [i for i in names if int(patients.code_n[i]) not in distinct.patients]
    naming = naming_top + _spread(rest, NAMING_LOWER, distinct, order)

    positives, quantile_of = _positives(tests, pictures, distinct, order)
    fires = np.zeros(int(patients.code_n.max()) + 1, dtype=bool)
    fires[patients.code_n[strongest]] = True
    silent = activity.silent[~patients.names_n[activity.silent] & ~fires[patients.code_n[activity.silent]]]
    silent = order.permutation(silent)
    hard_ones = distinct.first(silent[own_label_n[silent]].tolist(), round(hard * pictures))
    negatives = hard_ones + distinct.first(silent.tolist(), pictures - len(hard_ones))

    facts = {"naming_patients": len(names), "detection_patients": len(tests),
             "duplicates": distinct.duplicates, "hard": len(hard_ones)}  # fmt: skip
    missing = []
    if len(naming) < NAMING_LEAST:
        missing.append(f"{NAMING_LEAST} to name it (there are {len(naming)})")
    if len(positives) < pictures:
        missing.append(f"{pictures} to test it (there are {len(positives)})")
    if missing:
        note = (
            f"fires on {len(strongest)} patients: too few. Needed, after the split by patient: {' and '.join(missing)}"
        )
        if len(naming) >= NAMING_LEAST and len(positives) >= 5:
            note += f"; --pictures {len(positives)} would do"
        return Plan(neuron, "too few", note, firing=len(strongest), facts=facts)
    if len(negatives) < pictures:
        note = f"only {len(negatives)} of {pictures} silent pictures of other patients: the neuron fires too often"
        return Plan(neuron, "too few silent", note, firing=len(strongest), facts=facts)
    code = patients.code_n
    tested = [Tested(i, True, value[i], quantile_of[i], patient=int(code[i])) for i in positives]
    tested += [Tested(i, False, 0.0, None, bool(own_label_n[i]), int(code[i])) for i in negatives]
    tested = [tested[j] for j in order.permutation(len(tested))]
    contrast = _contrast(activity, patients, hash_of, own_label_n, fires, [wish.seed, neuron, 4]) if against else ()
    facts["contrast_with_label"] = int(sum(own_label_n[list(contrast)]))
    return Plan(
        neuron,
        naming=tuple(naming),
        top=len(naming_top),
        contrast=contrast,
        tested=tuple(tested),
        firing=len(strongest),
        facts=facts,
    )


def _contrast(
    activity: Activity, patients: Patients, hash_of: Hash, own_label_n: np.ndarray, fires: np.ndarray, seed: list[int]
) -> tuple[int, ...]:
    """Silent pictures of naming patients on whom the neuron never fires, those with its own label first."""
    silent = activity.silent[patients.names_n[activity.silent] & ~fires[patients.code_n[activity.silent]]]
    silent = np.random.default_rng(seed).permutation(silent)
    with_label = own_label_n[silent]
    ordered = np.concatenate([silent[with_label], silent[~with_label]]).tolist()
    return tuple(Distinct(patients.code_n, hash_of).first(ordered, CONTRAST))


def choose_paper(
    neuron: int, activity: Activity, *, pictures: int, seed: int, patients: Patients | None = None
) -> Plan:
    """The published choice: the top 15 and 15 around rank min(100, 2/3 of those that fire) name; the top `pictures`
    and as many random silent ones test, shuffled. Naming and detection share pictures and patients."""
    firing = activity.images.tolist()
    if not firing:
        return Plan(neuron, "dead", "the neuron fires on none of the scored images: there is nothing to name")
    if len(firing) <= PAPER_LEAST or len(firing) < pictures:
        note = f"fires on {len(firing)} pictures; the published way needs more than {max(PAPER_LEAST, pictures - 1)}"
        return Plan(neuron, "too few", note, firing=len(firing))
    if len(activity.silent) < pictures:
        note = f"only {len(activity.silent)} of {pictures} silent pictures: the neuron fires too often"
        return Plan(neuron, "too few silent", note, firing=len(firing))
    order = np.random.default_rng([seed, neuron])
    middle = min(100, len(firing) * 2 // 3)
    start = max(PAPER_TOP, min(middle - PAPER_MIDDLE // 2, len(firing) - PAPER_MIDDLE))
    naming = firing[:PAPER_TOP] + firing[start : start + PAPER_MIDDLE]
    tested = [Tested(i, True, float(v), 1) for i, v in zip(firing[:pictures], activity.values, strict=False)]
    tested += [Tested(int(i), False, 0.0, None) for i in order.choice(activity.silent, pictures, replace=False)]
    if patients is not None:
        tested = [replace(t, patient=int(patients.code_n[t.image])) for t in tested]
    tested = [tested[j] for j in order.permutation(len(tested))]
    return Plan(neuron, naming=tuple(naming), top=PAPER_TOP, tested=tuple(tested), firing=len(firing))


def _spread(images: list[int], n: int, distinct: Distinct, order: np.random.Generator) -> list[int]:
    """n new pictures spread over thirds of `images` (strongest first), in that order."""
    thirds = [list(part) for part in np.array_split(np.array(images, dtype=int), 3)]
    taken: list[int] = []
    for k, third in enumerate(thirds):
        wanted = (n * (k + 1)) // 3 - len(taken)
        taken += distinct.first((int(third[j]) for j in order.permutation(len(third))), wanted)
    rank = {image: r for r, image in enumerate(images)}
    return sorted(taken, key=rank.__getitem__)


def _positives(
    images: list[int], n: int, distinct: Distinct, order: np.random.Generator
) -> tuple[list[int], dict[int, int]]:
    """n new pictures, as even as they last over five quantiles of `images` (strongest first); and image -> quantile."""
    fifths = [part.tolist() for part in np.array_split(np.array(images, dtype=int), 5)]
    quantile_of = {image: q for q, part in enumerate(fifths, 1) for image in part}
    queues = [[part[j] for j in order.permutation(len(part))] for part in fifths]
    taken: list[int] = []
    while len(taken) < n and any(queues):
        for queue in queues:
            while queue and len(taken) < n:
                if distinct.take(image := queue.pop()):
                    taken.append(image)
                    break
    return taken, quantile_of
