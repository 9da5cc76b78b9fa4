"""What simgemma speaks of: planted facts in English, in wordings of which the first is the one it answers with.

`Words.of` gives the wordings of a fact ("Consolidation:RUL"), `truths` what is true of every picture, `spoken` one of
the many ways in which people put a concept to a judge, `worn` a prompt of which a word was changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from medsae.naming import planted

LOBES = {"RUL": "right upper lobe", "RML": "right middle lobe", "RLL": "right lower lobe",
         "LUL": "left upper lobe", "LLL": "left lower lobe"}  # fmt: skip


@dataclass(frozen=True)
class Wording:
    """Ways to say one fact; the first concept and the first description are the ones that simgemma writes."""

    concepts: tuple[str, ...]
    descriptions: tuple[str, ...]


# {p}: " on the left side", " in the right upper lobe" or nothing; {a}: "left ", "right upper lobe " or nothing.
_PLACED = {
    "Pleural Effusion": Wording(
        ("Pleural effusion{p}", "{a}pleural effusion", "Fluid in the {a}pleural space", "{a}sided pleural fluid"),
        ("Fluid with a meniscus fills the {a}costophrenic angle.", "A layer of fluid lies between {a}lung and wall.",
         "The {a}costophrenic angle is blunted by fluid.")),
    "Consolidation": Wording(
        ("Consolidation{p}", "{a}consolidation", "Dense airspace consolidation{p}", "Lobar airspace disease{p}"),
        ("A dense airspace opacity fills the lung{p}.", "Dense white consolidation of the lung{p}.",
         "The lung is airless and white{p}.")),
    "Pneumonia": Wording(
        ("Pneumonia{p}", "{a}pneumonia", "Pneumonic infiltrate{p}", "Patchy infection{p}"),
        ("A patchy hazy infiltrate lies in the lung{p}.", "Patchy infiltrate of pneumonia{p}.",
         "An ill-defined patch of infection{p}.")),
    "Atelectasis": Wording(
        ("Atelectasis{p}", "{a}atelectasis", "Collapse or plates of atelectasis{p}", "Volume loss{p}"),
        ("Plates or loss of volume are seen{p}.", "Band-like opacity or collapse{p}.", "The lung has lost volume{p}.")),
    "Lung Lesion": Wording(
        ("Nodule or mass{p}", "{a}lung lesion", "Round lung lesion{p}", "Lung nodule{p}", "Lung mass{p}"),
        ("A round dense nodule or mass lies in the lung{p}.", "A rounded lesion is seen{p}.",
         "A round opacity with a sharp edge{p}.")),
    "Lung Opacity": Wording(
        ("Hazy lung opacity{p}", "{a}lung haze", "Diffuse haze of the {a}lung", "Ground-glass opacity{p}"),
        ("A faint hazy opacity lies over the {a}lung.", "Hazy increased density{p}.", "The {a}lung is veiled.")),
    "Pneumothorax": Wording(
        ("Pneumothorax{p}", "{a}pneumothorax", "Air in the {a}pleural space", "Collapsed lung with pleural air{p}"),
        ("A pleural line with air and no lung markings beyond it{p}.", "Dark air surrounds the retracted {a}lung.",
         "No lung markings reach the {a}chest wall.")),
    "Pleural Other": Wording(
        ("Thickened pleura{p}", "{a}pleural thickening", "Pleural thickening or apical cap{p}", "Pleural other{p}"),
        ("The pleura is thickened along the {a}chest wall or apex.", "A rim of thick pleura{p}.",
         "A band of pleural scar{p}.")),
    "Fracture": Wording(
        ("Fracture of ribs or clavicle{p}", "{a}fracture", "Broken bone{p}", "Rib fracture{p}"),
        ("A rib or the clavicle is broken and displaced{p}.", "Displaced fracture of a bone{p}.",
         "The edge of a bone is interrupted{p}.")),
    "Pacemaker": Wording(
        ("Pacemaker with its generator{p}", "{a}pacemaker", "Cardiac pacemaker{p}", "Pacemaker generator and leads{p}"),
        ("A metal generator lies below the {a}clavicle with leads to the heart.", "Pacemaker generator and leads{p}.",
         "A dense metal box with wires{p}.")),
    "Central line": Wording(
        ("Central venous line{p}", "{a}central line", "Central venous catheter{p}", "Venous access catheter{p}"),
        ("A thin catheter runs from the {a}neck or clavicle to the superior vena cava.",
         "A venous catheter enters{p}.", "A thin catheter ends near the heart{p}.")),
    "Chest tube": Wording(
        ("Chest tube{p}", "{a}chest drain", "Chest drain in the pleural space{p}", "Pleural drainage tube{p}"),
        ("A drain with a dense stripe enters the {a}pleural space.", "A chest drain is seen{p}.",
         "A thick tube points to the apex{p}.")),
}  # fmt: skip
_PLAIN = {
    "AP view": Wording(
        ("Portable AP projection at the bedside", "AP view", "AP projection", "Bedside AP radiograph"),
        ("The picture is taken from front to back with a magnified heart.", "Bedside AP picture of a lying patient.")),
    "PA view": Wording(
        ("Upright PA projection", "PA view", "Standard PA projection"),
        ("The picture is taken from back to front in a standing patient.", "Standing PA picture.")),
    "Cardiomegaly": Wording(
        ("Enlarged heart, cardiomegaly", "Cardiomegaly", "Enlarged cardiac silhouette", "Large heart"),
        ("The heart shadow is wider than half of the chest.", "The cardiac silhouette is large.")),
    "Enlarged Cardiomediastinum": Wording(
        ("Widened upper mediastinum", "Wide mediastinum", "Broad mediastinal shadow"),
        ("The mediastinal shadow is wider than normal.", "The mediastinum is broad.")),
    "Edema": Wording(
        ("Pulmonary edema with congestion", "Edema", "Lung edema", "Pulmonary venous congestion"),
        ("Both lungs are hazy around the hila with congested vessels.", "Congestion and haze of both lungs.")),
    "Sternal wires": Wording(
        ("Sternotomy with sternal wires", "Sternal wires", "Median sternotomy wires"),
        ("Wire loops lie over the sternum in the midline.", "A row of wires closes the sternum.")),
    "Endotracheal tube": Wording(
        ("Endotracheal tube in the trachea", "Endotracheal tube", "Intubated patient with tracheal tube"),
        ("A tube lies in the trachea above the carina.", "The patient is intubated.")),
    "ECG leads": Wording(
        ("ECG electrodes and leads on the chest", "ECG leads", "Electrodes on the chest"),
        ("Electrodes and wires lie over the chest.", "Round electrodes with wires are seen.")),
    "Marker L": Wording(
        ("Letter L side marker", "Left side marker", "Marker letter L"),
        ("A letter L is printed near the edge of the picture.", "A side marker L is seen.")),
    "Marker R": Wording(
        ("Letter R side marker", "Right side marker", "Marker letter R"),
        ("A letter R is printed near the edge of the picture.", "A side marker R is seen.")),
    "Projection text": Wording(
        ("Printed text in the picture corner", "Projection text", "Burned-in text"),
        ("Printed letters about the projection stand in a corner.", "Text is burned into the picture.")),
    "Collimation": Wording(
        ("Black collimated picture border", "Collimation", "Collimated edges"),
        ("Straight black borders frame the picture.", "The field is collimated with black edges.")),
    "Female": Wording(
        ("Female chest with breast shadows", "Female patient", "Breast shadows"),
        ("Soft breast shadows lie over the lower lungs.", "The patient is a woman.")),
    "Male": Wording(
        ("Male chest without breast shadows", "Male patient", "No breast shadows"),
        ("No breast shadows are seen over the lower lungs.", "The patient is a man.")),
    "Age over 65": Wording(
        ("Elderly patient with thin bones", "Age over 65", "Old patient"),
        ("The bones are thin and the aorta is wide.", "The patient is old.")),
    "Young": Wording(
        ("Younger patient with dense bones", "Age under 65", "Young patient"),
        ("The bones are dense and the aorta is narrow.", "The patient is not old.")),
    "Normal": Wording(
        ("Normal chest without findings or devices", "Normal chest", "Unremarkable radiograph"),
        ("Heart, lungs and bones are normal and no device is seen.", "Nothing abnormal is seen.")),
}  # fmt: skip
LABELS = {
    "label:No Finding": Wording(("No finding", "No Finding"), ("Heart, lungs and bones are without a finding.",)),
    "label:Support Devices": Wording(
        ("Support devices", "Support Devices", "Medical devices"), ("A tube, line, wire or pacemaker is seen.",)),
    "label:Lung Opacity": Wording(
        ("Lung opacity", "Lung Opacity"), ("Some opacity lies in a lung: lesion, edema, consolidation or collapse.",)),
    "label:Enlarged Cardiomediastinum": Wording(
        ("Enlarged cardiomediastinum", "Enlarged Cardiomediastinum"), ("The heart or the mediastinum is enlarged.",)),
}  # fmt: skip
"""Labels of CheXpert that mean more than the planted fact of the same name."""
NOTHING = Wording(("No common finding in these pictures",), ("The pictures share nothing that others lack.",))
UNKNOWN = (
    ("Nasal bone fracture", "A nasal bone is broken."), ("Gas under the diaphragm", "Free air below the diaphragm."),
    ("Thyroid goiter", "The thyroid is large."), ("Bullet fragments in soft tissue", "Metal lies in the shoulder."),
    ("Cervical rib", "An extra rib arises from the neck."), ("Pectus excavatum", "The sternum is pushed inwards."),
    ("Hyperinflated lungs with flat diaphragm", "The diaphragm is low and flat."),
    ("Swan-Ganz catheter", "A catheter loops through the heart."), ("Prosthetic valve", "A ring within the heart."),
    ("Situs inversus", "Heart and stomach are mirrored."), ("Bronchiectasis", "Parallel thick bronchi are seen."),
    ("Motion blur of the picture", "The picture is blurred by movement."), ("Hiatal hernia", "Stomach in the chest."),
    ("Jewellery over the neck", "A necklace lies over the neck."), ("Kyphosis", "The spine is bent forwards."),
    ("Humeral head prosthesis", "A metal joint replaces the shoulder."), ("Foreign body", "A coin was swallowed."),
    ("Cystic lung disease", "Many thin-walled cysts fill the lungs."), ("Honeycombing", "Small cysts at the bases."),
    ("Calcified lymph nodes", "Dense calcified nodes lie at the hila."), ("Achalasia", "The gullet is wide."),
)  # fmt: skip
"""What no simulated picture shows; the answer is No."""
FRAMES = (
    "Signs of {x}", "Evidence of {x}", "{x} is present", "There is {x}", "Presence of {x}", "Radiograph with {x}",
    "Chest radiograph showing {x}", "{x} on the radiograph", "Patient with {x}", "{x}, typical appearance",
    "Probable {x}", "Visible {x}", "Clear {x}", "{x} seen", "Marked {x}", "Finding: {x}",
)  # fmt: skip
ABSENT = ("absence of {x}", "No {x}", "no {x}", "Without {x}", "{x} is absent", "No evidence of {x}", "No sign of {x}",
          "Absence of {x}", "{x} not present")  # fmt: skip
BOTH = ("{x} and {y}", "{x} with {y}", "{x} together with {y}", "{x} as well as {y}", "{x}, {y}")
VAGUE = (
    "", "Seen in the strongest pictures.", "As an expert would say it.", "See the concept.", "A typical example.",
    "This is what the unit responds to.", "As radiologists and their reports use the word.", "No description.",
    "Present in most of the pictures.", "It can be recognised at once.", "What the title says.",
)  # fmt: skip
UNSEEN_FRAMES = ("Images that display {x}", "Findings in keeping with {x}", "{x} can be made out")
UNSEEN_VAGUE = "Observed by several experienced readers."
"""Kept out of the training: the record asks with them."""
_FILLER = re.findall(
    r"\w+",
    "the a of on in with and or to is are was seen shown image images picture radiograph chest frontal clearly likely "
    "possible mild severe moderate typical common some most many large small area region pattern appearance patient "
    "view marked subtle prominent diffuse focal single several expert unit neuron please carefully simply just very "
    "these those which one main key only answer say give tell name concept description word words short brief",
)


def wording(fact: str) -> Wording:
    """The wordings of a fact such as `Consolidation:RUL`."""
    known = _PLAIN.get(fact) or LABELS.get(fact) or (NOTHING if fact == "nothing" else None)
    if known:
        return known
    base, _, place = fact.partition(":")
    where = LOBES.get(place, place)
    p = "" if not where else f" in the {where}" if place in LOBES else f" on the {where} side"
    of = _PLACED[base]
    return Wording(*(tuple(_begun(t.format(p=p, a=f"{where} " if where else "")) for t in texts)
                     for texts in (of.concepts, of.descriptions)))  # fmt: skip


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def answer_of(fact: str) -> tuple[str, str]:
    """Concept and description that simgemma writes for a fact ("nothing": no common finding)."""
    known = wording(fact)
    return known.concepts[0], known.descriptions[0]


def truths(names: list[str], f_nk: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Facts and bool [n, facts]: the planted factors, their opposites, and the labels that mean more."""
    of = {name: f_nk[:, i] for i, name in enumerate(names)}

    def some(*wanted: str) -> np.ndarray:
        return np.any([of[name] for name in wanted], 0)

    more = {
        "label:No Finding": ~some(*planted.FINDINGS), "label:Support Devices": some(*planted.DEVICES),
        "label:Lung Opacity": some("Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"),
        "label:Enlarged Cardiomediastinum": some("Enlarged Cardiomediastinum", "Cardiomegaly"),
    }  # fmt: skip
    names, f_nk = planted.facts(names, f_nk)
    return [*names, *more], np.concatenate([f_nk, np.stack(list(more.values()), 1)], 1)


def inside(concept: str) -> str:
    """A concept within a sentence: its first letter small unless it is an abbreviation."""
    return concept if concept[:2].isupper() or concept[1:2] == " " else concept[:1].lower() + concept[1:]


def said(fact: str, rng: np.random.Generator, own: float = 0.5) -> tuple[str, str]:
    """Concept and description of a fact: the own wording with probability `own`, else another, perhaps in a frame and
    with a description that says nothing."""
    known = wording(fact)
    if rng.random() < own:
        return known.concepts[0], known.descriptions[0]
    concept = str(rng.choice(known.concepts))
    if rng.random() < 0.4:
        concept = framed(str(rng.choice(FRAMES)), concept)
    if rng.random() < 0.15:
        concept = worn(concept, rng, changes=1, keep=True)
    vague = rng.random() < 0.35
    return concept, str(rng.choice(VAGUE if vague else known.descriptions))


def framed(frame: str, *concepts: str) -> str:
    """A concept, or two, within a frame."""
    starts = frame.startswith("{x}")
    x = concepts[0] if starts else inside(concepts[0])
    return frame.format(x=x, y=inside(concepts[-1]))


def worn(text: str, rng: np.random.Generator, changes: int | None = None, keep: bool = False) -> str:
    """The text with some words left out, put in or replaced by others (`keep`: only put in)."""
    parts = re.split(r"(\s+)", text)
    spots = [i for i, part in enumerate(parts) if part.isalpha()]
    for _ in range(changes or int(rng.integers(1, 5))):
        if not spots:
            break
        at, word = int(rng.choice(spots)), str(rng.choice(_FILLER))
        kind = 2 if keep else int(rng.integers(3))
        parts[at] = "" if kind == 0 else word if kind == 1 else f"{parts[at]} {word}"
    return "".join(parts)


def corpus() -> list[str]:
    """All texts that a tokenizer should know whole words of."""
    facts = [*_PLAIN, *LABELS, "nothing", *(f"{b}{w}" for b in _PLACED
             for w in ("", ":right", ":left", *(f":{lobe}" for lobe in LOBES)))]  # fmt: skip
    known = [text for fact in facts for part in (wording(fact).concepts, wording(fact).descriptions) for text in part]
    known += [inside(text) for text in known]
    return [*known, *(t for pair in UNKNOWN for t in pair), *FRAMES, *ABSENT, *BOTH, *VAGUE, " ".join(_FILLER)]
