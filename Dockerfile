# One file, two images: `gpu` (the default target) and `cpu`; docs/deployment.md explains how to build and run them.
# Neither contains a compiler, an installer or torch. `make images` builds and tries both without a Docker engine.
# Python is 3.11, the version that the tests run on.
# Extras of pyproject.toml that both images contain: the database that replicas share, and labelling in shards.
ARG EXTRAS="postgres bulk"

FROM debian:bookworm-slim AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/*

# The secret `ca` is optional: certificate authorities to trust during the build, for a proxy with its own.
FROM python AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    python3 -m venv /uv && /uv/bin/pip install --no-cache-dir uv==0.13.9 && python3 -m venv --without-pip /app
ENV PATH=/uv/bin:$PATH VIRTUAL_ENV=/app UV_SYSTEM_CERTS=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
WORKDIR /src
COPY pyproject.toml constraints.txt ./

# The dependencies are a layer of their own, rebuilt only when the two files above change.
FROM build AS packages-cpu
ARG EXTRAS
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    uv pip install --require-hashes --only-binary :all: --constraint constraints.txt -r pyproject.toml --extra cpu \
    ${EXTRAS:+$(printf ' --extra %s' $EXTRAS)}

# The CUDA libraries come with onnxruntime-gpu from the package registry; no CUDA base image is needed.
FROM build AS packages-gpu
ARG EXTRAS
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    uv pip install --require-hashes --only-binary :all: --constraint constraints.txt -r pyproject.toml --extra gpu \
    ${EXTRAS:+$(printf ' --extra %s' $EXTRAS)}

FROM build AS project
COPY README.md LICENSE ./
COPY service service
COPY model_export model_export
COPY weights weights
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    uv pip install --no-deps --build-constraint constraints.txt .

FROM python AS runtime
LABEL org.opencontainers.image.title="ahse" \
    org.opencontainers.image.description="Which of these names fits this clip best? Audio-visual zero-shot classification with AHSE." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="0.2.0.dev0"
RUN useradd --system --uid 10001 --create-home ahse && install --directory --owner=ahse /data
ENV PATH=/app/bin:$PATH AHSE_HOST=0.0.0.0 AHSE_PORT=8000 AHSE_DATA_DIR=/data AHSE_LOG_FORMAT=json
# onnxruntime reads the first when it is imported. The libpq of psycopg's wheel would look for the system's authorities
# (sslrootcert=system) where there are none.
ENV ORT_DISABLE_TELEMETRY=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
VOLUME /data
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python3", "-c", \
    "import os, ssl, urllib.request as r; c = ssl.create_default_context(); c.check_hostname = False; \
    c.verify_mode = ssl.CERT_NONE; s = 's' * bool(os.environ.get('AHSE_TLS_CERT')); \
    r.urlopen(f'http{s}://127.0.0.1:{os.environ[\"AHSE_PORT\"]}/v2/health/ready', timeout=4, context=c)"]
# The first process of a container inherits the children of those that were killed, and has to collect them.
ENTRYPOINT ["tini", "--"]
CMD ["ahse", "serve"]

FROM runtime AS cpu
COPY --from=packages-cpu /app /app
COPY --from=project /app /app

FROM runtime AS gpu
# NVIDIA's older container runtime goes by these: which GPUs (all), and for what (CUDA and nvidia-smi).
ENV AHSE_DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /app /app
COPY --from=project /app /app
