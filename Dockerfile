# The image of workers, relay and HTTP API, with its kernels compiled: a container is ready in
# seconds. Kernels are made for a kind of processor; by default all x86-64 ones since 2013-15. For
# others: docker build --build-arg CPU_NAME=neoverse-n1 .   (or CPU_NAME= for the building machine's)
FROM python:3.11-slim
ARG CPU_NAME=x86-64-v3
ENV NUMBA_CPU_NAME=$CPU_NAME NUMBA_CPU_FEATURES= SOMA_KERNELS_DIR=/var/lib/soma/kernels
RUN useradd --create-home soma && install --directory --owner=soma --mode=0700 $SOMA_KERNELS_DIR
WORKDIR /app
COPY requirements.txt pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY agents agents
COPY avro avro
COPY migrations migrations
COPY ops ops
COPY stores stores
COPY topics topics
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
USER soma
RUN soma warm
ENTRYPOINT ["soma"]
