#!/bin/sh
# A RabbitMQ server of a test program's own, in one directory, on private ports.
#
#   rabbitmq.sh DIR AMQP_PORT DIST_PORT EPMD_PORT           runs it until standard input closes, then removes DIR;
#                                                           reads `kill` (-9) and `start` meanwhile
#   rabbitmq.sh DIR AMQP_PORT DIST_PORT EPMD_PORT ctl ...   runs rabbitmqctl against it
#
# Standard input closes however the test program ends, so nothing is left behind.
set -u
directory=$1 port=$2
export HOME="$directory"
export RABBITMQ_NODENAME="t$port@localhost"
export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1
export RABBITMQ_NODE_PORT="$port"
export RABBITMQ_DIST_PORT="$3"
export ERL_EPMD_PORT="$4"
export ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_MNESIA_BASE="$directory/mnesia"
export RABBITMQ_LOG_BASE="$directory/log"
export RABBITMQ_GENERATED_CONFIG_DIR="$directory/generated"
export RABBITMQ_SCHEMA_DIR="$directory/schema"
export RABBITMQ_CONFIG_FILE="$directory/rabbitmq.conf"
export RABBITMQ_ADVANCED_CONFIG_FILE="$directory/advanced.config"
export RABBITMQ_CONF_ENV_FILE="$directory/none.conf"
export RABBITMQ_ENABLED_PLUGINS_FILE="$directory/enabled_plugins"
export RABBITMQ_PID_FILE="$directory/rabbit.pid"
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}"
# The one in PATH may be a wrapper that changes the user.
programs=/usr/lib/rabbitmq/bin

if [ "${5:-}" = ctl ]; then
    shift 5
    exec "$programs/rabbitmqctl" --quiet "$@"
fi

trap '' INT TERM HUP
# A node of a cluster uses the first one's.
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" </dev/null >/dev/null 2>&1 &
epmd=$!

start() {
    # A process group of its own, so that its end is the end of all it started.
    setsid "$programs/rabbitmq-server" </dev/null >"$directory/out" 2>&1 &
    server=$!
}

finish() {
    kill -9 "-$server" 2>/dev/null
    wait "$server" 2>/dev/null
    # Until then its port is taken.
    while kill -0 "-$server" 2>/dev/null; do sleep 0.05; done
}

start
while read -r command; do
    case $command in
        kill) finish; echo done ;;
        start) start; echo done ;;
    esac
done
finish
kill -9 "$epmd" 2>/dev/null
rm -rf "$directory"
