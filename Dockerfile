# Training and tests:   docker build -t mmkeras . && docker run --rm mmkeras make quickstart
# With a GPU:           docker build -t mmkeras:gpu --build-arg EXTRA=gpu .
FROM python:3.12-slim AS train
ARG EXTRA=plot
RUN apt-get update && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/mmkeras
COPY setup.py pyproject.toml Makefile README.md ./
COPY mmkeras mmkeras
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir -e ".[$EXTRA]" \
    && touch .venv/.installed
COPY .ci .ci
COPY CHANGELOG.md CONTRIBUTING.md ./
COPY experiments experiments
COPY tests tests
ENV PATH="/opt/mmkeras/.venv/bin:$PATH" TF_CPP_MIN_LOG_LEVEL=3
CMD ["make", "quickstart"]

# Serving an export:    docker build -t vqa --target serve --build-arg MODEL=runs/quickstart/serving .
#                       docker run --rm -p 8501:8501 vqa
# Not tested on this image; exports are tested through TensorFlow's session loader, which it uses.
FROM tensorflow/serving:2.19.1 AS serve
ARG MODEL=runs/quickstart/serving
COPY ${MODEL} /models/model
ENV MODEL_NAME=model
