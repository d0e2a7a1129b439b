# One file, two images: `gpu` (the default target) and `cpu`. Neither holds a compiler or torch.
#   docker build -t ahse .                  docker run --gpus all -p 8000:8000 ahse
#   docker build -t ahse:cpu --target cpu . docker run -p 8000:8000 ahse:cpu
FROM debian:trixie-slim AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home ahse

FROM base AS build
WORKDIR /src
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir uv==0.13.9 && python3 -m venv --without-pip /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY service service
COPY model_export model_export
COPY weights/demo weights/demo
RUN /uv/bin/uv pip install --no-cache --compile-bytecode --python /app/bin/python \
    --constraint constraints.txt '.[cpu]'

FROM build AS build-gpu
RUN /uv/bin/uv pip uninstall --python /app/bin/python onnxruntime \
    && /uv/bin/uv pip install --no-cache --compile-bytecode --python /app/bin/python \
        --constraint constraints.txt '.[gpu]'

FROM base AS runtime
ENV PATH=/app/bin:$PATH AHSE_HOST=0.0.0.0 AHSE_DATA_DIR=/data AHSE_LOG_FORMAT=json
RUN install --directory --owner=ahse /data
VOLUME /data
USER ahse
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
CMD ["ahse", "serve"]

FROM runtime AS cpu
COPY --from=build /app /app

# The CUDA libraries come with onnxruntime-gpu from the package registry; no CUDA base image is needed.
FROM runtime AS gpu
ENV AHSE_DEVICE=cuda
COPY --from=build-gpu /app /app
