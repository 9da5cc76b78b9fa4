"""Who reads, where a team shares one server: Streamlit's own OIDC login (docs/how-to/serve.md). Without the section
[auth] in the server's secrets there is no login, and the server listens on this machine only."""

from __future__ import annotations

import streamlit as st

from medsae.ui import look


def required() -> None:
    """Where a login is set up, nothing of a study is drawn for who has not signed in or is not on the list of readers;
    ends the run for them. Otherwise the reader's name and the way out stand in the sidebar."""
    if "is_logged_in" not in st.user:
        return
    if not st.user["is_logged_in"]:
        look.heading("MedSAE Explorer")
        look.empty("Sign in", "This server is shared by a team; its studies are for those who sign in.")
        if st.button("Sign in", type="primary"):
            st.login()
        _end()
    if not allowed(_texts("email"), st.user.get("email_verified"), _readers()):
        look.heading("MedSAE Explorer")
        look.empty(
            "Not on the list of readers", f"{name()} has signed in, but may not read the studies of this server."
        )
        if st.button("Sign out"):
            st.logout()
        _end()
    with st.sidebar, st.container(horizontal=True, vertical_alignment="center"):
        st.caption(look.literal(f"Signed in as {name()}"))
        if st.button("Sign out", type="tertiary"):
            st.logout()


def name() -> str:
    """The reader's name for what people write down; "" where there is no login."""
    if "is_logged_in" not in st.user or not st.user["is_logged_in"]:
        return ""
    return (_texts("name") or _texts("email") or _texts("sub"))[:100]


def allowed(email: str, verified: object, readers: tuple[str, ...]) -> bool:
    """Whether an address is on the list: `a@x.org`, or `@x.org` for everybody there; an empty list is everybody that
    the provider lets in. An address that the provider calls not verified is on no list."""
    if not readers:
        return True
    email = email.lower()
    _, at, domain = email.rpartition("@")
    return bool(at) and verified is not False and (email in readers or f"@{domain}" in readers)


def _readers() -> tuple[str, ...]:
    found = st.secrets["medsae"].get("readers", ()) if "medsae" in st.secrets else ()
    return tuple(str(reader).strip().lower() for reader in ([found] if isinstance(found, str) else found))


def _texts(claim: str) -> str:
    value = st.user.get(claim)
    return value if isinstance(value, str) else ""


def _end() -> None:
    look.footer()
    st.stop()
