#!/usr/bin/env bash
# Makes an RS256 key pair for development: the gateway checks tokens with the public half,
# whoever signs tokens (your back end, scripts/ws_client.py) holds the private half.
set -euo pipefail

readonly BITS=2048

usage() {
    cat <<'USAGE'
Usage: gen_dev_keys.sh [--force] [DIR]

Writes DIR/private.pem (readable by you only) and DIR/public.pem, an RSA key pair for RS256
tokens. DIR defaults to "keys" and is created when missing, with a .gitignore that keeps
the keys out of version control.

Options:
  --force   replace keys that are already there
  --help    show this text

For development only: in production the private key stays with the system that signs tokens.
USAGE
}

fail() {
    printf 'gen_dev_keys.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

force=false
dir=''
while (($#)); do
    case $1 in
        --force) force=true ;;
        -h | --help)
            usage
            exit 0
            ;;
        --)
            shift
            if (( $# > 1 )) || [[ -n $dir ]]; then fail 'only one directory can be given, see --help' 2; fi
            dir=${1-}
            break
            ;;
        -*) fail "unknown option $1, see --help" 2 ;;
        *)
            [[ -z $dir ]] || fail 'only one directory can be given, see --help' 2
            dir=$1
            ;;
    esac
    shift
done
dir=${dir:-keys}
# A name such as -x would be read as an option by every command below.
[[ $dir != -* ]] || dir=./$dir

command -v openssl >/dev/null || fail 'openssl is needed and was not found in PATH'

private=$dir/private.pem
public=$dir/public.pem
if ! $force; then
    for file in "$private" "$public"; do
        [[ ! -e $file ]] || fail "$file is already there; use --force to replace the pair"
    done
fi

if [[ ! -d $dir ]]; then
    mkdir -p "$dir" || fail "cannot create the directory $dir"
    printf '*\n' >"$dir/.gitignore"
fi

# Made aside and moved into place, so that an interrupted run never leaves half a pair; the
# umask comes first, so that the private key is at no moment readable by others.
umask 077
work=$(mktemp -d "$dir/.new.XXXXXX") || fail "cannot write to the directory $dir"
trap 'rm -rf -- "$work"' EXIT
openssl genpkey -quiet -algorithm RSA -pkeyopt "rsa_keygen_bits:$BITS" -out "$work/private.pem" 2>"$work/log" ||
    openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:$BITS" -out "$work/private.pem" 2>"$work/log" ||
    fail "openssl could not make a key: $(tail -n 1 "$work/log")"
openssl pkey -in "$work/private.pem" -pubout -out "$work/public.pem" 2>"$work/log" ||
    fail "openssl could not derive the public key: $(tail -n 1 "$work/log")"
chmod 600 "$work/private.pem"
chmod 644 "$work/public.pem"
mv -f -- "$work/private.pem" "$private"
mv -f -- "$work/public.pem" "$public"

# Quoted, so that the lines can be pasted even when the path has spaces.
private_q=$(printf '%q' "$private")
public_q=$(printf '%q' "$public")
cat <<NEXT
Wrote $private (secret) and $public.

Next, start the gateway with the public key:

  JWT_PUBLIC_KEY_FILE=$public_q wsgw run pipelines/terminator.yaml

and connect to it with a token signed by the private key:

  pip install -r scripts/requirements.txt
  JWT_PRIVATE_KEY_FILE=$private_q WS_SEND_MESSAGE='{"type":"ping"}' python3 scripts/ws_client.py
NEXT
