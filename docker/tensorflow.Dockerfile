# TensorFlow with its Keras, on the CPU.
#   python docker/build.py tensorflow-current
# Every image of matrix.toml with this framework comes from this file; the arguments say which. BUILD_BASE may hold what
# pip needs to reach an index (docker/README.md); nothing of it is in the image that is kept.
ARG BASE=python:3.11-slim
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
LABEL porting-check.stage="build"
ARG LOCK=locks/tensorflow-2.21.txt
ARG INDEX=
ARG SOURCE_DATE_EPOCH=1577836800
ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY ${LOCK} /lock.txt
# The few old packages that PyPI has as sources only are built with the setuptools that Python brings, not with today's.
# Tests, headers and static libraries are needed to build on a framework, not to run it. Files have
# the same time in every build.
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --quiet --no-compile --no-build-isolation --require-hashes -r /lock.txt \
        ${INDEX:+--extra-index-url "$INDEX"} \
 && for tool in setuptools wheel pip; do \
        grep -q "^$tool==" /lock.txt || /opt/venv/bin/python -m pip uninstall --quiet --yes $tool; done \
 && cd /opt/venv/lib/python3*/site-packages \
 && rm -rf tensorflow/include tensorflow_core/include \
 && find . -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -r {} + \
 && find . -name '*.a' -delete \
 && find /opt/venv -exec touch --no-dereference --date=@${SOURCE_DATE_EPOCH} {} +

FROM ${BASE}
ARG SOURCE_DATE_EPOCH=1577836800
ARG VERSION=
ARG PYTHON=
ARG LOCK=locks/tensorflow-2.21.txt
LABEL org.opencontainers.image.title="porting-check/tensorflow" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="TensorFlow, Keras and the recorder of porting-check" \
      porting-check.framework="tensorflow" \
      porting-check.python="${PYTHON}" \
      porting-check.lock="${LOCK}"
RUN printf 'porter:x:10001:10001::/tmp:/bin/sh\n' >> /etc/passwd && printf 'porter:x:10001:\n' >> /etc/group \
 && mkdir -m 1777 /recordings
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL=3
# What an import compiles is kept, because a container's root is read-only: a start takes a quarter of the time. Times are fixed.
RUN touch /tmp/start && PYTHONDONTWRITEBYTECODE= python -c "import numpy, tensorflow" \
 && find /opt/venv /usr/local -newer /tmp/start -exec touch --no-dereference --date=@${SOURCE_DATE_EPOCH} {} + \
 && find /tmp -mindepth 1 -delete
# The recorder is one file and comes last: a new one changes this layer only. porting-check mounts its own over or beside it, so
# that both sides of a comparison are of one version; the copy is for those who have the image alone, and for the health check.
COPY context/porting-check-recorder.pyz /opt/porting-check-recorder.pyz
USER 10001:10001
WORKDIR /tmp
HEALTHCHECK --interval=5m --timeout=2m --retries=1 \
    CMD ["python", "/opt/porting-check-recorder.pyz", "info", "--framework", "tensorflow"]
CMD ["python"]
