"""Links: every choice that changes what is seen stands in the URL, and the URL is the only place it stands.

A widget made with `choose` shows what the URL says and writes the URL when it is used; the browser's back button and
a copied link therefore give the same view. Links between pages are plain anchors (a middle click opens a tab); the
`router` component turns a plain click into a change of page without reloading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import urlencode

import streamlit as st
from streamlit.components.v2 import component
from streamlit.runtime.scriptrunner import get_script_run_ctx

from medsae.store.filter import LEAST, SORTS, Filter, Show, Sort

STUDY = ("scores", "versus", "unit", "patients", "map", "least")
"""Parameters of the sidebar: every link carries them."""
DEFAULT_SORT: Sort = "q"
"""Most selective first: the lowest entropies belong to neurons that fire on one picture."""
FILTER = ("show", "label", "lo", "hi", "dlo", "dhi", "rho", "q", "area", "sort")
"""Parameters of a filter of neurons: links to a neuron carry them, so that previous and next stay within it."""

LARGEST = 2**31 - 1
"""The largest number that an image, a neuron or a page can have: columns of the tables are 32 bits wide."""
_LONGEST = 300
_TOLD = 20
"""Addresses told to the browser that a request may still come from."""

_router = component("medsae_router", js=Path(__file__).with_name("router.js").read_text(), isolate_styles=False)
_address = component("medsae_address", js=Path(__file__).with_name("address.js").read_text(), isolate_styles=False)


def found(**values: object) -> None:
    """What this run shows where the address said nothing: links carry it, and `whole_address` writes it there.

    An address that leaves open which scores are meant would show others as soon as others are made.
    """
    known = {name: str(value) for name, value in values.items() if value is not None}
    st.session_state["_found"] = {**st.session_state.get("_found", {}), **known}


def forget() -> None:
    """Begin a run: nothing is found yet, and no control has taken a parameter."""
    st.session_state["_found"], st.session_state["_taken"] = {}, {}
    told: list[dict[str, str]] = st.session_state.get("_told", [])
    if told and told[-1] != st.query_params.to_dict():
        told.clear()  # Back, or a link: the reader went there


def _take(label: str, *parameters: str) -> None:
    """A control takes its parameters of the address; AssertionError where another control of this page has one: both
    would move whenever one is used. Panels that stand on a page only sometimes meet only sometimes."""
    context = get_script_run_ctx()
    if context is not None and context.fragment_ids_this_run:
        return  # a part of a page runs again, with what it took before
    taken: dict[str, str] = st.session_state.setdefault("_taken", {})
    for parameter in parameters:
        other = taken.get(parameter)
        assert other is None, f"{label!r} and {other!r} of one page ask for the parameter {parameter!r} of the address"
        taken[parameter] = label


def whole_address() -> None:
    """Make the browser's address say all that this page shows; once a run, at its end."""
    given = st.query_params.to_dict()
    missing = {name: value for name, value in st.session_state.get("_found", {}).items() if name not in given}
    _address(key="address", data={"missing": missing, "given": urlencode(given)}, height="content")


def router() -> None:
    """Mount the component that makes anchors with `data-go` (and keys with `data-key`) work; once a run, in app.py."""
    gone = st.session_state.pop("_go", None)
    if gone is not None:
        st.session_state["_go_count"] = st.session_state.get("_go_count", 0) + 1
    nonce = st.session_state.get("_go_count", 0)
    _router(key="router", data={"go": gone, "nonce": nonce}, height="content", on_scale_change=lambda: None)


def first_page_by_name(path: str) -> None:
    """An address that names the first page (`/overview`) shows it, as one that names none does; Streamlit would say
    that there is no such page. Before `st.navigation`."""
    context = get_script_run_ctx()
    if context is not None and context.pages_manager.intended_page_name == path:
        context.pages_manager.set_script_intent("", "")


def sound() -> None:
    """Leave out, and name, parameters of the URL that no link of this program holds: very long ones and control
    characters. Every other value is judged by the widget it belongs to. Once a run, first of all."""
    for name, value in st.query_params.to_dict().items():
        if len(name) + len(value) > _LONGEST or not (name + value).isprintable():
            st.query_params.pop(name, None)
            st.warning(f"The link's value of {name[:40]!r} cannot be used ({len(value):,} characters): it is left out.")


def scale() -> float:
    """How much larger than usual the browser shows text: 1 below 2,200 px of width, 1.6 on a 4K screen."""
    value = getattr(st.session_state.get("router"), "scale", None)
    return value if isinstance(value, int | float) and 0.5 <= value <= 4 else 1.0


def clicks() -> int:
    """Clicks in charts that were followed: part of a clickable chart's key, so that one comes back to a fresh chart."""
    return st.session_state.get("_clicks", 0)


def go(href: str) -> None:
    """Let the browser go to `href` as if a link had been clicked (used where a chart was clicked); ends this run."""
    st.session_state["_go"] = href
    st.session_state["_clicks"] = clicks() + 1
    st.rerun()


def parameters(*names: str) -> dict[str, str]:
    """The parameters of the current URL, or of what it left open, among `names`."""
    # Asking the proxy name by name is slow, and a page has hundreds of links.
    given = st.session_state.get("_found", {}) | st.query_params.to_dict()
    return {n: given[n] for n in names if n in given}


def url(to: str, keep: Sequence[str] = STUDY, /, **values: Any) -> str:
    """A link to a page that keeps some parameters of this one; a value of None removes its parameter.

    Overview is the page at the root of the address, so its link is the root: Streamlit knows no other path to it.
    """
    to = "./" if to == "overview" else to
    given = {**parameters(*keep), **{k: v for k, v in values.items()}}
    query = urlencode({k: v for k, v in given.items() if v is not None and v != ""})
    return f"{to}?{query}" if query else to


def neuron_url(neuron: int, **values: Any) -> str:
    """A link to a neuron that keeps the study and the filter."""
    return url("neuron", (*STUDY, *FILTER, "which", "one"), neuron=neuron, **values)


def pair_url(neuron: int, other: int) -> str:
    """A link to two neurons side by side."""
    return url("pair", (*STUDY, *FILTER), neuron=neuron, other=other)


def put(**values: Any) -> None:
    """Write parameters into the URL; None removes.

    Who uses a second control before the first one's answer has come asks from an address that the browser has had
    since changed: it is one of those that were told to it since the last Back or link, and the newest is meant.
    """
    given = st.query_params.to_dict()
    told: list[dict[str, str]] = st.session_state.setdefault("_told", [])
    if given not in told:
        told[:] = [given]
    wanted = told[-1] | {name: str(value) for name, value in values.items() if value is not None and value != ""}
    for name in [name for name, value in values.items() if value is None or value == ""]:
        wanted.pop(name, None)
    st.query_params.from_dict(wanted)
    told[:] = [*told[-_TOLD:], wanted]


def _hold(key: str, value: object, *shape: object) -> None:
    """Give a control the value that the address names, unless it has it.

    What a script gives to a control moves it in the browser when the answer arrives, and a reader who presses fast is
    further by then: that step would be lost. `shape` says what else makes the control another one.
    """
    context = get_script_run_ctx()
    drawn: dict[str, object] = st.session_state.setdefault("_drawn", {})
    mine = (context.page_script_hash if context is not None else "", *shape)
    if drawn.get(key) != mine or key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value
    drawn[key] = mine


def choose(
    widget: Callable[..., Any],
    label: str,
    parameter: str,
    options: Sequence[str] | Mapping[str, str],
    default: str,
    resets: Sequence[str] = (),
    **more: Any,
) -> str:
    """A selectbox, slider over words, segmented control, pills or radio whose value lives in the URL, by a short name.

    options: names, or name -> what is shown. An unknown name in the URL is named on the page and replaced by the
    default. `resets`: parameters that a change removes (a page number, say).
    """
    _take(label, parameter)
    shown = options if isinstance(options, Mapping) else {o: o for o in options}
    value = st.query_params.get(parameter, default)
    if value not in shown:
        st.warning(f"The link asks for {parameter} = {value!r}, which there is not; showing {shown[default]}.")
        value = default
    key = f"_{parameter}"
    _hold(key, value, label, *shown)

    def changed() -> None:
        chosen = st.session_state[key]
        put(**{parameter: None if chosen == default else chosen}, **dict.fromkeys(resets))

    if widget not in (st.selectbox, st.select_slider):
        more = {"required": True, **more}
    more = _wide(more)
    return widget(label, list(shown), key=key, on_change=changed, format_func=lambda o: shown.get(o, str(o)), **more)


def _wide(more: dict[str, Any]) -> dict[str, Any]:
    """A width in pixels grows with the text of the browser."""
    width = more.get("width")
    return {**more, "width": round(width * scale())} if isinstance(width, int) else more


def several(
    widget: Callable[..., Any], label: str, parameter: str, options: Sequence[str], default: Sequence[str] = (),
    resets: Sequence[str] = (), **more: Any,
) -> list[str]:  # fmt: skip
    """A multiselect whose value lives in the URL, separated by commas, or by | where an option has a comma in it ("-":
    none); unknown words are named and left out."""
    _take(label, parameter)
    text, between = st.query_params.get(parameter), "|" if any("," in option for option in options) else ","
    words = list(default) if text is None else [w for w in text.split(between) if w and w != "-"]
    strange = [w for w in words if w not in options]
    if strange:
        st.warning(f"The link asks for {parameter} = {', '.join(strange)[:80]!r}, which there is not: it is left out.")
    key = f"_{parameter}"
    _hold(key, [w for w in words if w in options], label, *options)

    def changed() -> None:
        chosen = st.session_state[key]
        text = None if list(chosen) == list(default) else between.join(chosen) or "-"
        put(**{parameter: text}, **dict.fromkeys(resets))

    return widget(label, list(options), key=key, on_change=changed, **_wide(more))


def switch(label: str, parameter: str, default: bool, **more: Any) -> bool:
    """A toggle whose value lives in the URL as 1 or 0."""
    _take(label, parameter)
    key = f"_{parameter}"
    _hold(key, st.query_params.get(parameter, str(int(default))) == "1", label)

    def changed() -> None:
        chosen = st.session_state[key]
        put(**{parameter: None if chosen == default else int(chosen)})

    return st.toggle(label, key=key, on_change=changed, **more)


def whole(parameter: str, default: int | None = None, low: int = 0, high: int | None = None) -> int | None:
    """A whole number of the URL; what is not one (or out of range) is named on the page and the default taken."""
    text = st.query_params.get(parameter)
    if text is None:
        return default
    most = LARGEST if high is None else high
    if text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= most:
        return int(text)
    st.warning(
        f"The link asks for {parameter} = {text!r}; it must be a whole number from {low}"
        + (f" to {high:,}." if high is not None else ".")
    )
    return default


def real(parameter: str) -> float | None:
    """A number of the URL, or None."""
    text = st.query_params.get(parameter)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        st.warning(f"The link asks for {parameter} = {text!r}, which is not a number.")
        return None
    return value if value == value and abs(value) < 1e12 else None


LEASTS = {"1": "1", "5": "5", "10": "10", "20": "20", "50": "50"}
"""How many images a label needs on its scarcer side to lead a list; the reader chooses."""


def least() -> int:
    """The minimum that the address asks for."""
    text = st.query_params.get("least", str(LEAST))
    return int(text) if text in LEASTS else LEAST


def filter_of_url() -> Filter:
    """The filter of neurons that the URL describes; unknown words are named and left out."""
    show = st.query_params.get("show", "all")
    sort = st.query_params.get("sort", DEFAULT_SORT)
    if show not in get_args(Show):
        st.warning(f"The link asks for show = {show!r}, which there is not.")
        show = "all"
    if sort not in SORTS:
        st.warning(f"The link asks for sort = {sort!r}, which there is not.")
        sort = DEFAULT_SORT
    return Filter(
        show=cast(Show, show),
        label=st.query_params.get("label"),
        low=real("lo"),
        high=real("hi"),
        density_low=real("dlo"),
        density_high=real("dhi"),
        rho=real("rho"),
        search=st.query_params.get("q", ""),
        sort=cast(Sort, sort),
        least=least(),
    )


def pager(pages: int) -> None:
    """Page numbers whose value lives in the URL; nothing where there is one page."""
    _take("pages", "page")
    if pages <= 1:
        return
    current = min(pages, whole("page", 1, 1) or 1)
    key = f"_page{current}"

    def changed() -> None:
        chosen = st.session_state[key]
        put(page=None if chosen == 1 else chosen)

    st.pagination(pages, default=current, key=key, on_change=changed)


def text(label: str, parameter: str, placeholder: str, resets: Sequence[str] = (), **more: Any) -> str:
    """A search field whose value lives in the URL."""
    _take(label, parameter)
    key = f"_{parameter}"
    _hold(key, st.query_params.get(parameter, ""), label)

    def changed() -> None:
        put(**{parameter: st.session_state[key].strip()[:200]}, **dict.fromkeys(resets))

    return st.text_input(label, key=key, placeholder=placeholder, on_change=changed, type="search", **_wide(more)) or ""


def bounds(
    label: str, low: str, high: str, least: float, most: float, scale: float = 1.0, resets: Sequence[str] = ()
) -> None:
    """A slider with two ends, in units of `scale` times what the two URL parameters hold."""
    _take(label, low, high)
    key = f"_{low}-{high}-{scale:.6f}"
    given = (real(low), real(high))
    ends = (least if given[0] is None else given[0] * scale, most if given[1] is None else given[1] * scale)
    _hold(key, tuple(sorted(round(min(most, max(least, e)), 2) for e in ends)), label, least, most)

    def changed() -> None:
        a, b = st.session_state[key]
        put(**{low: None if a <= least else f"{a / scale:.4f}", high: None if b >= most else f"{b / scale:.4f}"},
            **dict.fromkeys(resets))  # fmt: skip

    st.slider(label, least, most, step=0.01, key=key, on_change=changed)
