# The node in a container, for three kinds of machine; docs/container.md says more:
#   docker build --target cpu    -t seg_node .        any CPU, amd64 or arm64
#   docker build --target gpu    -t seg_node:gpu .    NVIDIA cards, drivers from r580 on
#   docker build --target jetson -t seg_node:jetson . JetPack 7, on the Jetson itself
#   docker run --rm --net=host --ipc=host -v seg_node:/var/cache/seg_node seg_node
# or, with the shipped drive as its camera: docker compose up
#
# Host network and IPC: camera images reach the node through shared memory. The volume keeps what
# was compiled and built for this machine, engines of TensorRT included.
#
# BASE is any image with ROS 2, colcon and rosdep. It runs as user UID, who has to be the one of
# the camera drivers outside, or they cannot share memory: --build-arg UID=$(id -u).
ARG BASE=ros:jazzy-ros-base

# ---- The node on a CPU.
FROM ${BASE} AS cpu
ARG UID=1000
# Twice as fast on CPUs with bfloat16; empty: without it, 180 MB less.
ARG OPENVINO=openvino
# What is compiled for the processor, and what was compared with ONNX Runtime on it, lies in one
# place: a volume there keeps it from run to run.
ENV SEG_NODE_CACHE=/var/cache/seg_node NUMBA_CACHE_DIR=/var/cache/seg_node/numba
ENV HOME=/home/seg_node PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
# Ubuntu wants packages from PyPI in a virtual environment (PEP 668); here the container is that.
ENV PIP_BREAK_SYSTEM_PACKAGES=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /ws

# The lists alone first: the dependencies stay in Docker's cache while the code changes. OpenCV
# comes from PyPI, where its video codecs are LGPL; Ubuntu's brings x264 and x265, which are GPL.
# PyAV, which also has them, is not installed: only the tools that read videos could use it. NumPy
# stays Ubuntu's: its Numba, and ROS's packages, are compiled for that one.
COPY package.xml src/seg_node/
COPY requirements src/seg_node/requirements
# hadolint ignore=DL3008,DL3013
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && rosdep update --rosdistro "${ROS_DISTRO}" \
    && rosdep install --from-paths src --ignore-src -y --rosdistro "${ROS_DISTRO}" \
        --dependency-types exec \
        --skip-keys "python3-opencv python3-onnxruntime-pip python3-rosbags-pip \
            python3-simplejpeg-pip python3-av" \
    && python3 -c "import numpy; print('numpy==' + numpy.__version__)" > /ws/numpy.txt \
    && python3 -m pip install -c numpy.txt -r src/seg_node/requirements/container.txt \
        ${OPENVINO} \
    && rm -rf /var/lib/apt/lists/*

COPY . src/seg_node
RUN . "/opt/ros/${ROS_DISTRO}/setup.sh" \
    && colcon build --merge-install --packages-select seg_node \
    && rm -rf build log \
    && mkdir -p "${SEG_NODE_CACHE}" "${HOME}" \
    && chown -R "${UID}:${UID}" "${SEG_NODE_CACHE}" "${HOME}"

# hadolint ignore=DL3066
USER ${UID}:${UID}
# What the node says of itself; a camera that is missing is not the container's fault.
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s --retries=3 \
    CMD ["/bin/bash", "-c", ". /ws/install/setup.bash && exec ros2 run seg_node healthcheck"]
ENTRYPOINT ["/bin/bash", "-c", ". /ws/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "seg_node", "segmentation.launch.py"]

# ---- What a GPU needs besides: nvcc, TensorRT, PyCUDA.
FROM cpu AS with-cuda
ARG UID
# TENSORRT: empty where the base image has it. TOOLKIT: likewise CUDA's nvcc and headers.
ARG TENSORRT=tensorrt-cu13
ARG TOOLKIT=requirements/cuda13.txt
USER 0
WORKDIR /ws/src/seg_node
# hadolint ignore=DL3008,DL3013,DL3042
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3-dev \
    && python3 -m pip install -c /ws/numpy.txt ${TOOLKIT:+-r} ${TOOLKIT} ${TENSORRT} onnx \
    && python3 scripts/install_pycuda.py \
    && rm -rf /var/lib/apt/lists/*
# Where NVIDIA's container runtime looks which parts of the driver are wanted.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /ws
# hadolint ignore=DL3066
USER ${UID}:${UID}

# docker run --gpus all ...
FROM with-cuda AS gpu

# docker run --runtime nvidia --gpus all ... The same packages are made for arm64. JetPack 6 needs
# a BASE of its own and both arguments empty, see docs/container.md.
FROM with-cuda AS jetson

# What `docker build .` without a target makes.
FROM cpu
