# An image of your own worker, from the folder of its Cargo project or workspace:
#   docker build -f worker.Dockerfile --build-arg PACKAGE=letters -t letters .
# BUILD_IMAGE names another image to compile in, where crates need more than a compiler of C.
ARG BUILD_IMAGE=rust:1-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
ARG PACKAGE
# Its program, where that has another name.
ARG BIN
WORKDIR /src
COPY . .
RUN if [ -z "$PACKAGE" ]; then echo "Name the package of the worker: --build-arg PACKAGE=name" >&2; exit 2; fi \
 && cargo build --release $(if [ -f Cargo.lock ]; then echo --locked; fi) --target-dir /target --package "$PACKAGE" --bin "${BIN:-$PACKAGE}" \
 && mkdir /out && cp "/target/release/${BIN:-$PACKAGE}" /out/worker && rm -rf /target

FROM ${BASE_IMAGE}
# For Redis over TLS with a certificate of a public authority.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/worker /usr/local/bin/worker
# Neither a name nor a home: a worker needs none, and writes no files of its own.
USER 65532:65532
# `docker stop` kills after 10 s what has not ended: hand back before.
ENV STEPFLEET_HEALTH=0.0.0.0:9000 STEPFLEET_DRAIN_SECONDS=8
EXPOSE 9000
STOPSIGNAL SIGTERM
# For restarts: whether the process lives, whatever Redis does. /readyz says whether it is at work.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${STEPFLEET_HEALTH##*:} && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ code _ <&3 && [ \"$code\" = 200 ]"]
ENTRYPOINT ["worker"]
