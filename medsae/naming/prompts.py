"""Every word that is put to a model, in one file. Change a word, raise VERSION: answers are kept by version.

Pictures come first and the concept last, so that a server can reuse what it computed for the picture.
Text that a model wrote goes into a prompt only through `quote`.
"""

from __future__ import annotations

import re

VERSION = "1"

SYSTEM = "You are an expert radiologist."

EXPLAIN_STRICT = """\
These {pictures} chest radiographs all excite the same unit of an image model. The first {top} excite it most, strongest
first; the others excite it more weakly. What do they have in common that an ordinary chest radiograph lacks? It may be
a finding, its side or its severity, the anatomy, the projection or positioning, a device, or a fault of the picture.
Name only what you see in most of them.
Answer in English with JSON and nothing else:
{{"concept": "5 to 10 words", "description": "one or two sentences that let a colleague recognise it"}}"""

EXPLAIN_PAPER = """\
Here are {pictures} chest X-rays that activate one neuron of a vision model: the first {top} most strongly, the others
moderately. Identify the visual or medical concept that they share.
Answer in English with JSON and nothing else:
{{"concept": "5 to 10 words", "description": "a description of the concept"}}"""

REPAIR_EXPLAIN = """\
{prompt}

Your last answer could not be used ({reason}). Answer with the JSON object alone: the two keys "concept" and
"description", both plain English text."""

IN_WORDS = """\
A unit of an image model responds to some chest radiographs. Without a look at them this was found:
{concept}. {description}
Put into a radiologist's words what these radiographs most likely have in common. Say nothing that was not found.
Answer in English with JSON and nothing else:
{{"concept": "5 to 10 words", "description": "one or two sentences that let a colleague recognise it"}}"""

JUDGE_STRICT = """\
Concept: {concept}
Description: {description}
Does this radiograph show this concept? Answer with one word, Yes or No."""

REPAIR_JUDGE = """\
{prompt}
Your last answer could not be used. Answer with JSON and nothing else: {{"answer": "Yes"}} or {{"answer": "No"}}."""

EXPLAIN_AGAINST = """\
These {pictures} chest radiographs all excite the same unit of an image model, the first {top} most, strongest first.
The last {contrast} radiographs do not excite it, although their reports say the same finding. What do the first
{pictures} have in common that the last {contrast} lack? It may be a finding, its side or its severity, the anatomy, the
projection or positioning, a device, or a fault of the picture. Name only what you see in most of the first {pictures}.
Answer in English with JSON and nothing else:
{{"concept": "5 to 10 words", "description": "one or two sentences that let a colleague recognise it"}}"""

INTRUDER = """\
Four of these {pictures} chest radiographs have something in common, one does not belong with them. Which one? Answer
with JSON and nothing else, the number of the radiograph in the order shown, 1 to {pictures}: {{"answer": 1}}"""

RANK = """\
A unit of an image model responds to this concept.
Concept: {concept}
Description: {description}
Which of the {pictures} chest radiographs above shows it most? Answer with JSON and nothing else, the number of the
radiograph in the order shown, 1 to {pictures}: {{"answer": 1}}"""

REPAIR_CHOICE = """\
{prompt}
Your last answer could not be used. Answer with JSON and nothing else: {{"answer": N}}, N from 1 to {pictures}."""

JUDGE_PAPER = """\
A neuron of a vision model has this interpretation.
Concept: {concept}
Description: {description}
For each of the {pictures} chest X-rays above, in their order, say whether it matches: 1 if it does, 0 if not.
Answer with a JSON list of {pictures} numbers and nothing else, for example {example}."""

REPAIR_JUDGE_PAPER = """\
{prompt}
Your last answer could not be used. Answer with a JSON list of exactly {pictures} numbers, each 0 or 1."""

EXPLAIN_SCHEMA = {
    "type": "object",
    "properties": {"concept": {"type": "string"}, "description": {"type": "string"}},
    "required": ["concept", "description"],
    "additionalProperties": False,
}
ANSWER_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["Yes", "No"]}},
    "required": ["answer"],
    "additionalProperties": False,
}

RANDOM_CONCEPTS = (
    ("Large hiatus hernia behind the heart", "A rounded retrocardiac shadow with an air-fluid level."),
    ("Dextrocardia with the apex to the right", "The heart's apex points to the right side of the chest."),
    ("Calcified pleural plaques on both sides", "Dense, sharply outlined plaques along the pleura."),
    ("Scoliosis of the thoracic spine", "The thoracic spine is curved to one side."),
    ("Sternal wires after median sternotomy", "A column of wire loops lies over the midline."),
    ("Elevated right hemidiaphragm", "The right hemidiaphragm stands clearly higher than usual."),
    ("Calcified aortic arch", "A thin bright arc outlines the aortic knob."),
    ("Miliary nodules in all lung fields", "Countless tiny nodules are spread evenly over both lungs."),
    ("Breast implants projected over the lower chest", "Two smooth rounded shadows lie over the lower zones."),
    ("Old healed rib fractures on the left", "Callus and deformity of several left ribs."),
    ("Underexposed picture with a white mediastinum", "The whole picture is too bright to see the spine."),
    ("Patient rotated to the left", "The clavicles are not symmetric about the spine."),
    ("Azygos lobe fissure at the right apex", "A fine curved line crosses the right upper zone."),
    ("Surgical clips in the axilla", "Several small metal clips are seen near the armpit."),
    ("Cavity with an air-fluid level in the upper lobe", "A ring shadow with a level lies in an upper zone."),
    ("Nasogastric tube with its tip in the stomach", "A thin tube runs down the midline below the diaphragm."),
    ("Bilateral hilar lymph node enlargement", "Both hila are enlarged and lobulated."),
    ("Child's chest with a wide thymus", "A broad upper mediastinum with a sail-like edge."),
    ("Subcutaneous air along the chest wall", "Streaks of dark air lie in the soft tissues."),
    ("Tracheal deviation to the right", "The air column of the trachea is pulled to the right."),
    ("Chin and jaw projected over the lung apices", "The lower face covers the upper edge of the picture."),
    ("Gas-filled bowel under the diaphragm", "Loops of bowel with gas lie right below the diaphragm."),
    ("Osteoporotic vertebral collapse", "One or more vertebral bodies have lost height."),
    ("Skin fold imitating a pleural line", "A broad edge crosses the lung and leaves the chest."),
)
"""Descriptions that have nothing to do with the neuron: what a judge scores on them is chance."""

_FILLER = "a an and at by for from in into is of on or possible likely significant the to with"
_STOP = frozenset(_FILLER.split())


def quote(text: str, limit: int = 600) -> str:
    """Untrusted text as one line that cannot carry a control token or end a field: no line break, no angle bracket."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat.replace("<", "(").replace(">", ")")[:limit]


def group_key(concept: str) -> str:
    """A key that near-identical concepts share: its words in lower case without filler, singular, sorted, each once.

    "Right-sided pleural effusion" and "Significant pleural effusions, right sided" have one key. Empty for no letters.
    """
    words = re.findall(r"[^\W\d_]+", concept.lower())
    stems = {w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith(("ss", "us", "is")) else w for w in words}
    return " ".join(sorted(stems - _STOP))


def explain(protocol: str, pictures: int, top: int, contrast: int = 0) -> str:
    """The question for a name: `pictures` that excite the unit, the first `top` the strongest, then `contrast` that do
    not."""
    if contrast:
        return EXPLAIN_AGAINST.format(pictures=pictures, top=top, contrast=contrast)
    return (EXPLAIN_STRICT if protocol == "strict" else EXPLAIN_PAPER).format(pictures=pictures, top=top)


def in_words(concept: str, description: str) -> str:
    """The question for a name in words, of what is known without the pictures."""
    return IN_WORDS.format(concept=quote(concept, 200), description=quote(description))


def rank(concept: str, description: str, pictures: int) -> str:
    """The question which of `pictures` shows the concept most."""
    return RANK.format(concept=quote(concept, 200), description=quote(description), pictures=pictures)


def judge(protocol: str, concept: str, description: str, pictures: int = 1) -> str:
    """The question whether each of `pictures` shows the concept."""
    words = {"concept": quote(concept, 200), "description": quote(description)}
    if protocol == "strict":
        return JUDGE_STRICT.format(**words)
    example = str([1, 0, 0, 1, 0, 1, 1, 0, 1, 0][:pictures])
    return JUDGE_PAPER.format(**words, pictures=pictures, example=example)
