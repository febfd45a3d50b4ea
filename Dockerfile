# The image of a worker: Beam's SDK harness with dac-tokenize in it. Torch's wheels bring CUDA; the
# driver comes from the machine. Build it with Python and Beam as where the pipeline is started:
#   docker build -t worker:beam-2.77.0 .
ARG BEAM_VERSION=2.77.0
FROM apache/beam_python3.11_sdk:${BEAM_VERSION}
ARG BEAM_VERSION

RUN apt-get update \
 && apt-get install --yes --no-install-recommends libsndfile1 \
 && rm -rf /var/lib/apt/lists/*

COPY . /tmp/dac-tokenize
RUN pip install --no-cache-dir "apache-beam[gcp]==${BEAM_VERSION}" "/tmp/dac-tokenize[s3,gcs]" \
 && rm -rf /tmp/dac-tokenize \
 && python -c "import dac_tokenize.beam"

ENTRYPOINT ["/opt/apache/beam/boot"]
