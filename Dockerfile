# MedSAE Explorer in a container: app, steps and naming from one image. See docs/how-to/containers.md.
#   docker build -t medsae .                              # torch as the package index gives it
#   docker build -t medsae --build-arg TORCH_INDEX=URL .  # URL: the index of torch's builds for CPUs; 2 GB less
FROM python:3.11.14-slim-bookworm

# An index of packages that is asked besides the usual one (torch's site names those of its builds for CPUs and for CUDA).
ARG TORCH_INDEX=""

WORKDIR /app
RUN useradd --system --uid 10001 --create-home medsae && install -d -o medsae -m 700 /data

# The exact set of versions that the tests ran with; a change of the code alone builds on this layer.
COPY requirements.txt requirements-nodeps.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
        -r requirements.txt && \
    pip install --no-cache-dir --disable-pip-version-check --no-deps -r requirements-nodeps.txt && \
    pip install --no-cache-dir --disable-pip-version-check -c requirements.txt Authlib==1.9.10 httpx==0.28.1 s3fs==2026.9.0

COPY app.py web.py LICENSE ./
COPY .streamlit .streamlit
COPY pages pages
COPY medsae medsae

# Weights are fetched by hand into /data/cache, never by themselves. In a container 127.0.0.1 is the container's own:
# publish the port to where a proxy with TLS stands (compose.yaml), not to the world.
ENV MEDSAE_DATA=/data \
    HF_HUB_OFFLINE=1 \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_SERVER_HEADLESS=true \
    PYTHONDONTWRITEBYTECODE=1
USER medsae
VOLUME /data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["python", "-m", "medsae", "app", "--port", "8501"]
