"""MedGemma, or another Gemma 3 with vision, in this process."""

from medsae.plugins import Backend, backends

backends.register(Backend(
    name="medgemma", label="MedGemma here", load="medsae.naming.backends.medgemma:make",
    help="a Gemma 3 with vision in this process: google/medgemma-4b-it, a folder, or simgemma (small, part of the "
    "program, for simulated radiographs)",
    knows=(("simgemma", "simulated"),), first=True,
))  # fmt: skip
