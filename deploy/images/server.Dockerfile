# Stands in for a public image of Redis or Valkey where that cannot be pulled: see stand-ins.txt.
ARG FROM=debian:bookworm-slim
FROM ${FROM}
ARG PACKAGES="redis-server redis-sentinel"

# The ids of the public images, so that mounted folders have the same owner.
RUN name=${PACKAGES%%-*} \
 && groupadd -r -g 999 "$name" && useradd -r -g "$name" -u 999 -d /data "$name" \
 && apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $PACKAGES \
 && rm -rf /var/lib/apt/lists/* /etc/redis /etc/valkey /var/lib/redis /var/lib/valkey \
 && for tool in server cli sentinel; do \
      [ -e "/usr/bin/redis-$tool" ] || ln -s "$name-$tool" "/usr/bin/redis-$tool"; \
    done \
 && mkdir /data && chown "$name:$name" /data

COPY server-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
VOLUME /data
WORKDIR /data
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 6379
CMD ["redis-server"]
