"""Jobs in words: what runs, what a service does, what came of a job that was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

import streamlit as st

from medsae.jobs import Job, Jobs
from medsae.store.artifacts import Store
from medsae.store.requests import service_state
from medsae.ui import format, links, look


def jobs() -> Jobs:
    """The jobs of this data folder."""
    return Jobs(Store().data)


def begin(start: Callable[[], Job]) -> None:
    """Start a job and go to it; what keeps it from starting is told."""
    begun: list[Job] = []
    if look.done(lambda: begun.append(start())):
        links.go(links.url("runs", tab="jobs", job=begun[0].id))


def show_job(job: Job) -> None:
    """One running job as a bar with what it does and the time left."""
    state = job.progress
    done, total = state.get("done"), state.get("total")
    what = state.get("what", "starting")
    if serves(job):
        st.caption(look.literal(_state_of_service(job)))
        return
    text = what if what == job.step else f"{job.step}: {what}"
    if total and done != total:
        text += f" · {done:,} of {total:,} {state.get('unit', '')}"
    if total and done == total:
        text += " · going on"  # a full bar is of one part; the next has said nothing yet
    elif state.get("seconds_left") is not None:
        text += f" · {format.duration(state['seconds_left'])} left"
    st.progress(min(1.0, done / total) if total and done else 0.0, text=text)


def _state_of_service(job: Job) -> str:
    """What a service does, in words: it has no end, so neither a bar nor a time that is left."""
    state = service_state(Store().data, job.step, job.id, job.command)
    if state.get("phase") == "loading":
        return "A service: its model is being loaded."
    done, total = job.progress.get("done"), job.progress.get("total")
    if not total or done == total:
        return "A service: the model is loaded and waits for questions from the pages; it ends by itself when idle."
    unit = job.progress.get("unit") or ""
    return f"A service, at work: {job.progress.get('what', '')}, {done or 0:,} of {total:,} {unit}".rstrip()


def stop(job: Job) -> None:
    """Send a job its Ctrl-C, and remember to say what came of it (`say_stopped`)."""
    jobs().cancel(job.id)
    st.session_state["_stopped"] = st.session_state.get("_stopped", {}) | {job.id: time.monotonic()}


_SAID_SECONDS = 20.0
"""How long it is said that a job was stopped."""


def say_stopped() -> None:
    """What came of the jobs that this reader stopped a moment ago."""
    asked = st.session_state.get("_stopped", {})
    for job in [j for j in jobs().list() if j.id in asked] if asked else []:
        who = "The service" if serves(job) else f"The job {job.step}"
        if job.state == "running":
            st.info(f"{who} is being stopped: it ends what cannot be left half done.")
        elif time.time() - (job.ended or time.time()) > _SAID_SECONDS:
            asked.pop(job.id)
        elif job.state == "cancelled":
            st.success(f"{who} was stopped. What it had finished stays.")
        else:
            st.success(f"{who} had ended before it could be stopped.")


def state_in_words(job: Job) -> str:
    """The state of a job as lists say it: a service has no end, so who cancels it has stopped it."""
    return "stopped" if serves(job) and job.state == "cancelled" else job.state


def serves(job: Job) -> bool:
    """Whether a job has no end of its own: it answers questions while somebody asks."""
    return "--watch" in job.command
