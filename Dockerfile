# cuts3d_mm with mmcv compiled. DEVICE is cpu or cuda.
#   docker build -t cuts3d .
#   docker build -t cuts3d:cuda --build-arg DEVICE=cuda .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" cuts3d generate CONFIG IMAGES OUT
ARG DEVICE=cpu
# The major version is that of the torch in requirements/onedl.txt.
ARG CUDA=13.0.1
FROM debian:bookworm-slim AS build-cpu
ENV UV_TORCH_BACKEND=cpu

# Its glibc is not newer than that of the last stage, which runs what is compiled here.
FROM nvidia/cuda:${CUDA}-devel-ubuntu22.04 AS build-cuda
ENV UV_TORCH_BACKEND=cu130 FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="7.5;8.0;8.6;8.9;9.0;12.0+PTX"

# hadolint ignore=DL3006
FROM build-${DEVICE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /usr/local/bin/uv
ENV UV_PYTHON_INSTALL_DIR=/opt/python VIRTUAL_ENV=/opt/cuts3d UV_LINK_MODE=copy UV_NO_CACHE=1 \
    UV_CONSTRAINT=/src/requirements/onedl.txt UV_OVERRIDE=/src/requirements/overrides.txt
WORKDIR /src
COPY requirements/onedl.txt requirements/overrides.txt requirements/
RUN uv venv --python 3.11 /opt/cuts3d \
    && uv pip install torch torchvision setuptools wheel ninja psutil
# About 20 minutes on 2 cores, much longer for CUDA. In a layer of its own, since it is kept.
# hadolint ignore=DL3059
RUN MMCV_WITH_OPS=1 uv pip install --no-build-isolation onedl-mmcv
COPY . .
RUN uv pip install '.[onedl,depth,hub,timm,app,demo]' opencv-python-headless

FROM debian:bookworm-slim
COPY --from=build /opt /opt
# Weights and compiled functions are kept in HOME, which every user may write.
ENV PATH=/opt/cuts3d/bin:$PATH HOME=/home/cuts3d
RUN mkdir -m 1777 /home/cuts3d
USER 1000
WORKDIR /data
ENTRYPOINT ["cuts3d"]
CMD ["--help"]
