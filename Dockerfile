# The image of the app: the program, compiled with the same Debian as the base, and what starts it (rootfs/).
#
# The default is equal to build.yaml: a Supervisor since 2026.04 that finds no build.yaml passes no BUILD_FROM.
ARG BUILD_FROM=ghcr.io/home-assistant/base-debian:trixie

FROM docker.io/library/rust:1.95-slim-trixie AS program
RUN apt-get update \
    && apt-get install -y --no-install-recommends libssl-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# What was downloaded and compiled before is in the two caches; neither gets into the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin ha-ingestor \
    && cp target/release/ha-ingestor /ha-ingestor

# hadolint ignore=DL3006
FROM ${BUILD_FROM}
COPY --from=program /ha-ingestor /usr/bin/ha-ingestor
COPY rootfs /
# Whatever is left when the program has ended need not be waited for.
ENV HA_INGESTOR_CONTAINER=1 \
    S6_KILL_GRACETIME=200
VOLUME /data
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/bin/ha-ingestor", "healthcheck"]
LABEL io.hass.type="app" \
      io.hass.name="HA Ingestor" \
      org.opencontainers.image.title="HA Ingestor" \
      org.opencontainers.image.description="Streams Home Assistant events to InfluxDB and accounts for every one" \
      org.opencontainers.image.licenses="MIT"
