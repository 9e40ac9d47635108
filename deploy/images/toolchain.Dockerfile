# Stands in for the public image of Rust where that cannot be pulled: see stand-ins.txt. The context is the toolchain of this machine.
ARG FROM=debian:bookworm-slim
FROM ${FROM}
ARG PACKAGES="gcc libc6-dev ca-certificates"
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $PACKAGES \
 && rm -rf /var/lib/apt/lists/*
COPY toolchain/ /usr/local/
# What this machine trusts, and where its cargo looks for crates.
COPY host/ /
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
