# The node in a container:
#   docker build -t seg_node .
#   docker run --rm --net=host --ipc=host seg_node
#   docker run --rm --net=host --ipc=host seg_node \
#       ros2 launch seg_node segmentation.launch.py cameras:=front model:=bisenetv2_camvid
# Host network and IPC: camera images reach it through shared memory. An image that was built on
# another processor compiles for seconds at its start; -v seg_node:/var/cache/seg_node keeps that.
#
# BASE is any image with ROS 2, colcon and rosdep: ros:jazzy-ros-base and ros:lyrical-ros-base run
# on amd64 and arm64 CPUs. For an NVIDIA GPU take NVIDIA's CUDA image (on a Jetson: JetPack's) for
# the same Ubuntu with ROS 2 added from its apt source, build with
#   --build-arg BASE=... --build-arg ONNXRUNTIME=onnxruntime-gpu
# and run with --gpus all (Jetson: --runtime nvidia) and providers: [CUDAExecutionProvider].
ARG BASE=ros:jazzy-ros-base
FROM ${BASE}

ARG ONNXRUNTIME=onnxruntime
# Twice as fast on CPUs with bfloat16; empty: without it, 180 MB less.
ARG OPENVINO=openvino
# What is compiled for the processor, and what was compared with ONNX Runtime on it, lies in one
# place: a volume there keeps it from run to run.
ENV SEG_NODE_CACHE=/var/cache/seg_node NUMBA_CACHE_DIR=/var/cache/seg_node/numba
# Ubuntu wants packages from PyPI in a virtual environment (PEP 668); here the container is that.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

# The manifest alone first: the dependencies stay in Docker's cache while the code changes.
WORKDIR /ws
COPY package.xml src/seg_node/
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip \
    && rosdep update --rosdistro "${ROS_DISTRO}" \
    && rosdep install --from-paths src --ignore-src -y --rosdistro "${ROS_DISTRO}" \
        --dependency-types exec --skip-keys python3-onnxruntime-pip \
    && pip install "${ONNXRUNTIME}" ${OPENVINO} \
    && rm -rf /var/lib/apt/lists/*

COPY . src/seg_node
RUN . "/opt/ros/${ROS_DISTRO}/setup.sh" \
    && colcon build --merge-install --packages-select seg_node \
    && chmod -R a+rwX "${NUMBA_CACHE_DIR}" \
    && rm -rf build log

ENTRYPOINT ["/bin/bash", "-c", ". /ws/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "seg_node", "segmentation.launch.py"]
