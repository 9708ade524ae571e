# What compares recordings: porting-check with numpy and onnx, and no framework.
#   python docker/build.py compare
# build.py puts the wheel of this checkout into context/. BUILD_BASE may hold what pip needs to reach an index (docker/README.md);
# nothing of it is in the image that is kept.
ARG BASE=python:3.11-slim
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
LABEL porting-check.stage="build"
ARG LOCK=locks/compare-0.1.txt
ARG INDEX=
ARG SOURCE_DATE_EPOCH=1577836800
ENV PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY ${LOCK} /lock.txt
# Tests, headers and static libraries are needed to build on a framework, not to run it. Files have
# the same time in every build.
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --quiet --no-compile --no-build-isolation --require-hashes -r /lock.txt \
        ${INDEX:+--extra-index-url "$INDEX"}
COPY context/porting_check-*.whl /tmp/
RUN /opt/venv/bin/pip install --quiet --no-compile --no-deps /tmp/porting_check-*.whl \
 && for tool in setuptools wheel pip; do \
        grep -q "^$tool==" /lock.txt || /opt/venv/bin/python -m pip uninstall --quiet --yes $tool; done \
 && cd /opt/venv/lib/python3*/site-packages \
 && rm -rf onnx/backend/test \
 && find . -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -r {} + \
 && find . -name '*.a' -delete \
 && find /opt/venv -exec touch --no-dereference --date=@${SOURCE_DATE_EPOCH} {} +

FROM ${BASE}
ARG SOURCE_DATE_EPOCH=1577836800
ARG VERSION=
ARG PYTHON=
ARG LOCK=locks/compare-0.1.txt
LABEL org.opencontainers.image.title="porting-check/compare" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="porting-check without any framework: compares recordings" \
      porting-check.framework="" \
      porting-check.python="${PYTHON}" \
      porting-check.lock="${LOCK}"
RUN printf 'porter:x:10001:10001::/tmp:/bin/sh\n' >> /etc/passwd && printf 'porter:x:10001:\n' >> /etc/group \
 && mkdir -m 1777 /recordings
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# What an import compiles is kept, because a container's root is read-only: a start takes a quarter of the time. Times are fixed.
RUN touch /tmp/start && PYTHONDONTWRITEBYTECODE= python -c "import porting_check.cli, porting_check.comparison, onnx, scipy.stats, rich, jinja2" \
 && find /opt/venv /usr/local -newer /tmp/start -exec touch --no-dereference --date=@${SOURCE_DATE_EPOCH} {} + \
 && find /tmp -mindepth 1 -delete
USER 10001:10001
WORKDIR /tmp
HEALTHCHECK --interval=5m --timeout=2m --retries=1 \
    CMD ["porting-check", "recorder", "build", "--out", "/tmp/health.pyz"]
CMD ["porting-check", "--help"]
