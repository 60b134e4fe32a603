# shellcheck shell=bash
# What the other scripts source to give curl a header whose value is secret.

# Prints a header as a line for `curl --config -`, in which quotes and backslashes mean themselves.
# Fails where the value has a line break, behind which curl would read options.
curl_header() { # name, value
    local value=$2
    case $value in
        *[$'\r\n']*) return 1 ;;
    esac
    value=${value//\\/\\\\}
    value=${value//\"/\\\"}
    printf 'header = "%s: %s"\n' "$1" "$value"
}
