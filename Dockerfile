# The gateway on nothing but what it loads: its program, the C library, the certificates of public authorities.
#
#   docker build -t wsgw --build-arg WSGW_COMMIT="$(git rev-parse --short=12 HEAD)" .
#
# docs/docker.md says how it is run.

FROM rust:1-bookworm AS build
WORKDIR /src
# The commit that `wsgw --version` and wsgw_build_info name; the sources come without their history.
ARG WSGW_COMMIT=
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY benches benches
COPY migrations migrations
COPY pipelines pipelines
COPY schemas schemas
COPY src src
# What was compiled stays in the cache of the builder, so that only what changed is compiled again; one for each
# architecture, and for one build at a time, as the program is copied out of it. Kernels of arm64 may have pages of 64 KiB,
# and the allocator runs where they are at most as large as it was told (2 to the power of 16).
ARG TARGETARCH
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=wsgw-target-${TARGETARCH},target=/src/target,sharing=locked \
    if [ "$TARGETARCH" = arm64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi && \
    CARGO_INCREMENTAL=0 cargo build --locked --profile dist && \
    install -D target/dist/wsgw /image/wsgw
# The libraries that the program names, each where the program looks for it.
RUN ldd /image/wsgw | grep -o '/[^ ]*' | xargs -I {} install -D {} /image{} && \
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt && \
    install -d -m 755 /image/etc/wsgw && \
    cp -r pipelines schemas /image/etc/wsgw/ && \
    printf 'wsgw:x:65532:65532:wsgw:/data:/nonexistent\n' >/image/etc/passwd && \
    printf 'wsgw:x:65532:\n' >/image/etc/group && \
    printf 'hosts: files dns\n' >/image/etc/nsswitch.conf && \
    install -d -o 65532 -g 65532 -m 700 /image/data

FROM scratch
ARG WSGW_COMMIT=
LABEL org.opencontainers.image.title="wsgw" \
      org.opencontainers.image.description="A WebSocket gateway for PHP and Symfony back ends" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${WSGW_COMMIT}"
COPY --from=build /image /
# What the gateway writes, dead letters and the archive, goes where it runs: to a volume. All else may be read-only.
WORKDIR /data
VOLUME /data
ENV WSGW_PIPELINES=/etc/wsgw/pipelines \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s --retries=3 CMD ["/wsgw", "health"]
ENTRYPOINT ["/wsgw"]
CMD ["run"]
