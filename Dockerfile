# The image of workers, relay and HTTP API, with its kernels compiled: a container is ready in
# seconds. Kernels are made for a kind of processor; by default all x86-64 ones since 2013-15. For
# others: docker build --build-arg CPU_NAME=neoverse-n1 .   (or CPU_NAME= for the building machine's)
FROM python:3.11-slim AS build
WORKDIR /app
RUN python -m venv /opt/soma
COPY requirements-run.txt ./
RUN /opt/soma/bin/pip install --no-cache-dir --require-hashes -r requirements-run.txt
COPY pyproject.toml README.md LICENSE ./
COPY agents agents
COPY avro avro
COPY migrations migrations
COPY ops ops
COPY stores stores
COPY topics topics
RUN /opt/soma/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
# What runs needs neither what installs, nor the tests of what is installed.
RUN /opt/soma/bin/pip uninstall --quiet --yes setuptools pip
RUN find /opt/soma -type d -name tests -prune -exec rm -r {} +

FROM python:3.11-slim
ARG CPU_NAME=x86-64-v3
ENV PATH=/opt/soma/bin:$PATH NUMBA_CPU_NAME=$CPU_NAME NUMBA_CPU_FEATURES= \
    SOMA_KERNELS_DIR=/var/lib/soma/kernels
RUN useradd --create-home soma && install --directory --owner=soma --mode=0700 $SOMA_KERNELS_DIR
COPY --from=build /opt/soma /opt/soma
USER soma
WORKDIR /home/soma
RUN soma warm
ENTRYPOINT ["soma"]
