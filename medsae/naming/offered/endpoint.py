"""Any server that speaks the OpenAI chat API."""

from medsae.plugins import Backend, backends

backends.register(Backend(
    name="endpoint", label="server", load="medsae.naming.backends.endpoint:make",
    help="a server with the OpenAI chat API and vision: vLLM, llama.cpp, LM Studio, Ollama, transformers serve",
))  # fmt: skip
