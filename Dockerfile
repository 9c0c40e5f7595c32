# The binary on a small Debian, as a user that owns nothing but its state.
#   docker build --build-arg STEPGATE_COMMIT=$(git rev-parse HEAD) -t stepgate .
#   docker run --rm stepgate --help

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# What `stepgate --version` says; the checkout itself is not in the build's context.
ARG STEPGATE_COMMIT=
ENV STEPGATE_COMMIT=${STEPGATE_COMMIT}
# The caches live with the builder, not in a layer; the binary is copied out before they go.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin stepgate \
    && install -D target/release/stepgate /out/stepgate

FROM debian:bookworm-slim
# The CA list is for apps and databases that speak TLS.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/stepgate --shell /usr/sbin/nologin stepgate \
    && install -d -o stepgate -g stepgate -m 0700 /var/lib/stepgate
COPY --from=build /out/stepgate /usr/local/bin/stepgate
USER stepgate
ENV STEPGATE_CONFIG=/etc/stepgate/stepgate.yaml
VOLUME ["/var/lib/stepgate"]
EXPOSE 8080 8443
# SIGTERM drains: open requests may end.
STOPSIGNAL SIGTERM
# Ready means: the file is good, the store answers, the keys are there. The ops listener stays on
# loopback, so the question is asked from inside.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD \
    ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9901 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["/usr/local/bin/stepgate"]
CMD ["serve"]
