# The image of the team stack: kdflow, MLflow with logins, Prefect, and the drivers for PostgreSQL and S3.
FROM python:3.11.14-slim-trixie AS build

ENV VIRTUAL_ENV=/opt/kdflow PATH=/opt/kdflow/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY requirements.lock .
RUN python -m venv "$VIRTUAL_ENV" \
    && awk '/^[^ ]/ { keep = /^uv==/ } keep' requirements.lock > uv.lock \
    && pip install --no-cache-dir --require-hashes --only-binary :all: -r uv.lock \
    && uv pip sync --no-cache --compile-bytecode --require-hashes --only-binary :all: requirements.lock
COPY . .
RUN uv pip install --no-cache --no-deps --no-build-isolation .

FROM python:3.11.14-slim-trixie

RUN groupadd --gid 10001 kd \
    && useradd --uid 10001 --gid kd --create-home kd \
    && install --directory --owner kd --group kd /project
COPY --from=build /opt/kdflow /opt/kdflow
ENV PATH=/opt/kdflow/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /home/kd
CMD ["kd", "--help"]
