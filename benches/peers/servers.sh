#!/usr/bin/env bash
# Starts PostgreSQL and Redis for the comparison, from Debian's packages (installed if they are missing
# and this runs as root), on loopback ports of their own, in a directory of their own; and stops them.
#   benches/peers/servers.sh start | stop
set -euo pipefail
cd "$(dirname "$0")/../.."
directory=${PEERS_SERVERS:-$PWD/${CARGO_TARGET_DIR:-target}/peers/servers}
case $directory in /*) ;; *) directory=$PWD/$directory ;; esac
postgres_port=15432 redis_port=16379

as_postgres() { # PostgreSQL does not run as root
    if [ "$(id -u)" -eq 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

install() {
    command -v redis-server >/dev/null && ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && return
    [ "$(id -u)" -eq 0 ] || { echo "install the packages postgresql and redis-server first"; exit 1; }
    apt-get update -qq
    # Nothing of theirs is to start by itself.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql redis-server >/dev/null
    rm -f /usr/sbin/policy-rc.d
}

start() {
    install
    stop
    mkdir -p "$directory/redis"
    redis-server --port $redis_port --bind 127.0.0.1 --dir "$directory/redis" --daemonize yes \
        --pidfile "$directory/redis.pid" --appendonly yes --appendfsync always --save '' \
        --logfile "$directory/redis.log"

    # The server's user must be able to reach its directory.
    data=$(mktemp -d "${TMPDIR:-/var/tmp}/firstclaim-peers-XXXXXX")
    echo "$data" >"$directory/postgres.where"
    [ "$(id -u)" -ne 0 ] || chown postgres "$data"
    bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
    cd "$data"
    as_postgres "$bin/initdb" --pgdata="$data/data" --username=peers --auth=trust --encoding=UTF8 >/dev/null
    as_postgres "$bin/pg_ctl" --pgdata="$data/data" --log="$data/log" --wait start \
        -o "-p $postgres_port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$data" >/dev/null
    as_postgres "$bin/createdb" --host=127.0.0.1 --port=$postgres_port --username=peers peers
    head -1 "$data/data/postmaster.pid" >"$directory/postgres.pid"
    echo "PostgreSQL on 127.0.0.1:$postgres_port, Redis on 127.0.0.1:$redis_port"
}

stop() {
    if [ -f "$directory/redis.pid" ]; then
        kill "$(cat "$directory/redis.pid")" 2>/dev/null || true
        rm -f "$directory/redis.pid"
    fi
    if [ -f "$directory/postgres.where" ]; then
        data=$(cat "$directory/postgres.where")
        bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
        (cd "$data" && as_postgres "$bin/pg_ctl" --pgdata="$data/data" --mode=fast --wait stop) >/dev/null 2>&1 || true
        rm -rf "$data" "$directory/postgres.where" "$directory/postgres.pid"
    fi
    rm -rf "$directory/redis"
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) echo "usage: $0 start | stop" && exit 2 ;;
esac
