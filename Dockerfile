# Training and tests:   docker build -t mmkeras --target train . && docker run --rm mmkeras make quickstart
# With a GPU:           docker build -t mmkeras:gpu --target train --build-arg EXTRA=gpu .
FROM python:3.12-slim AS train
ARG EXTRA=plot
RUN apt-get update && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/mmkeras
COPY setup.py pyproject.toml Makefile README.md ./
COPY mmkeras mmkeras
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir -e ".[serving,$EXTRA]" \
    && touch .venv/.installed
COPY .ci .ci
COPY CHANGELOG.md CONTRIBUTING.md RESULTS.md ./
COPY docs docs
COPY benchmarks benchmarks
COPY experiments experiments
COPY tests tests
ENV PATH="/opt/mmkeras/.venv/bin:$PATH" TF_CPP_MIN_LOG_LEVEL=3
CMD ["make", "quickstart"]

# Serving what mk.export.publish has written (a folder with models.config and a folder per model):
#   docker build -t vqa --target serve --build-arg SERVING=runs/quickstart/serving .
#   docker run --rm -p 8500:8500 -p 8501:8501 vqa
# The server's minor version is TensorFlow's that writes the models. Not run where mmkeras is tested;
# what is published there is loaded through TensorFlow's session loader, which the server uses.
FROM tensorflow/serving:2.21.0 AS serve
ARG SERVING=runs/quickstart/serving
COPY ${SERVING} /models
# Arguments of tensorflow_model_server, which the image's entry point starts with ports 8500, 8501.
# Where all inputs have a fixed size, add --enable_batching=true and
# --batching_parameters_file=/models/batching_parameters.txt (see mk.export.publish).
CMD ["--model_config_file=/models/models.config", \
     "--monitoring_config_file=/models/monitoring.config"]
