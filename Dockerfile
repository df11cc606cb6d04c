# cuts3d_mm, with nothing compiled. TORCH is cpu, or the CUDA of the torch in requirements/onedl.txt.
#   docker build -t cuts3d .
#   docker build -t cuts3d:cuda --build-arg TORCH=cu130 .
#   docker run --rm --ipc=host --user "$(id -u):$(id -g)" -v "$PWD:/data" cuts3d generate CONFIG IMAGES OUT
FROM debian:bookworm-slim AS build
ARG TORCH=cpu
COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /usr/local/bin/uv
ENV UV_PYTHON_INSTALL_DIR=/opt/python VIRTUAL_ENV=/opt/cuts3d UV_LINK_MODE=copy UV_NO_CACHE=1 \
    UV_TORCH_BACKEND=${TORCH} \
    UV_CONSTRAINT=/src/requirements/onedl.txt UV_OVERRIDE=/src/requirements/overrides.txt
WORKDIR /src
COPY requirements/onedl.txt requirements/overrides.txt requirements/
# In a layer of its own, which is kept when the code changes.
RUN uv venv --python 3.11 /opt/cuts3d && uv pip install torch torchvision
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
