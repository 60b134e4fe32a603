# shellcheck shell=bash
# What the other scripts source to reach the compose stack of this machine (docker-compose.local.yaml), with --compose.

# The value of a setting: of the environment, else of .env, else the given one.
compose_setting() { # name, value
    local value=${!1:-}
    [ -n "$value" ] || [ ! -r .env ] || value=$(sed -n "s/^$1=//p" .env | tail -n 1)
    printf '%s' "${value:-$2}"
}

# Sets what the scripts read, where it is not set, to what the stack listens on and was given as secrets.
compose_settings() {
    local web gateway redis rabbitmq user password
    web=$(compose_setting LOCAL_WEB_PORT 8180)
    gateway=$(compose_setting LOCAL_GATEWAY_PORT 8000)
    redis=$(compose_setting LOCAL_REDIS_PORT 6379)
    rabbitmq=$(compose_setting LOCAL_RABBITMQ_PORT 5672)
    user=$(compose_setting RABBITMQ_USER wsgw)
    password=$(compose_setting RABBITMQ_PASSWORD '')
    GATEWAY_API_KEY=$(compose_setting GATEWAY_API_KEY '')
    DEMO_API_KEY=$(compose_setting DEMO_API_KEY '')
    export GATEWAY_API_KEY DEMO_API_KEY
    export APP_URL=${APP_URL:-http://localhost:$web}
    export WS_URL=${WS_URL:-ws://localhost:$web/ws}
    export WS_GATEWAY_BASE_URL=${WS_GATEWAY_BASE_URL:-http://localhost:$gateway}
    # .env has these as containers need them.
    export REDIS_DSN=${REDIS_DSN:-redis://localhost:$redis/0}
    export RABBITMQ_DSN=${RABBITMQ_DSN:-amqp://$user:$password@localhost:$rabbitmq/%2f}
}
