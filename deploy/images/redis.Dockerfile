# Stands in for the public image of the same tag where that cannot be pulled.
FROM debian:bookworm-slim

# The ids of the public image, so that mounted folders have the same owner.
RUN groupadd -r -g 999 redis && useradd -r -g redis -u 999 -d /data redis \
 && apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server redis-sentinel \
 && rm -rf /var/lib/apt/lists/* /etc/redis /var/lib/redis \
 && mkdir /data && chown redis:redis /data

COPY redis-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
VOLUME /data
WORKDIR /data
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 6379
CMD ["redis-server"]
