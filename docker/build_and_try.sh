#!/usr/bin/env bash
# Builds both images of the Dockerfile and tries them, without a Docker engine and without a GPU.
#
# Each image has to start as its own user on a read-only file system, find the class of an example clip, pass its own
# health check, and contain no installer, compiler or torch. The measured sizes and times are printed.
# Needs root, buildah, debootstrap, curl and python3. The base, layers and images stay in build/images for the next run.
# The base image's packages come from the mirror that this Debian system uses itself, or from DEBIAN_MIRROR.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=bookworm
base=docker.io/library/debian:$suite-slim
authorities=/etc/ssl/certs/ca-certificates.crt
dir=$(realpath -m "${IMAGES_DIR:-build/images}")
log=$dir/service.log
service_pid=
key=$(python3 -c 'import secrets; print(secrets.token_hex(32))')

fail() {
    echo "build_and_try: $*" >&2
    exit 1
}

images() { # buildah with a storage of its own
    TMPDIR=$dir BUILDAH_ISOLATION=chroot buildah --root "$dir/storage" --runroot "$dir/run" "$@"
}

clean_up() {
    [[ -z $service_pid ]] || kill "$service_pid" 2>/dev/null || true
    images rm --all >/dev/null || true # containers; the images stay
}

system_mirror() { # the archive from which this Debian system takes its own release; nothing on another system
    local codename
    codename=$(. /etc/os-release && [[ ${ID:-} == debian ]] && echo "${VERSION_CODENAME:-}") || return 0
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$codename" '$1 == release && $2 ~ /^(http|https|file):/ && !found++ { print $2 }'
}

make_base() { # a stand-in for the base image: the same Debian, without what its slim variant leaves out
    images inspect --type image "$base" >/dev/null 2>&1 && return
    local container root mirror
    mirror=${DEBIAN_MIRROR:-$(system_mirror)}
    [[ -n $mirror ]] || fail "no Debian mirror in this system's package sources; set DEBIAN_MIRROR to the URL of one"
    container=$(images from scratch)
    root=$(images mount "$container")
    debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$dir/debootstrap.log" || fail "see $dir/debootstrap.log"
    echo 'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' >"$root/etc/apt/apt.conf.d/no-caches"
    printf 'path-exclude /usr/share/%s/*\n' doc man locale info >"$root/etc/dpkg/dpkg.cfg.d/slim"
    rm -rf "$root"/usr/share/{doc,man,locale,info}/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
    images commit --quiet --rm "$container" "$base"
}

build() { # build cpu|gpu
    images build --quiet --layers --pull=never --format docker --secret "id=ca,src=$authorities" \
        --target "$1" --tag "ahse:$1" . >"$dir/build-$1.log" 2>&1 || fail "see $dir/build-$1.log"
}

config() { # config IMAGE TEMPLATE: lines of an image's configuration
    images inspect --type image --format "{{range .Docker.Config.$2}}{{println .}}{{end}}" "$1" | sed '/^$/d'
}

inside() { # inside IMAGE ROOT [VAR=VALUE ...] COMMAND: as the image's user; only /tmp and the volume are writable
    local image=$1 root=$2 user
    shift 2
    user=$(images inspect --type image --format '{{.Docker.Config.User}}' "$image")
    mapfile -t environment < <(config "$image" Env)
    exec unshare --mount bash -euc '
        root=$1 user=$2; shift 2
        mount --bind "$root/data" "$root/data"
        mount --rbind "$root" "$root"
        mount -o remount,bind,ro "$root"
        mount --rbind /dev "$root/dev"
        mount -t proc proc "$root/proc"
        mount -t tmpfs tmpfs "$root/tmp"
        exec chroot --userspec="$user:$user" "$root" env -i "$@"
    ' inside "$root" "$user" "${environment[@]}" "$@"
}

start() { # start IMAGE ROOT PORT: by the image's own command; returns when the service is ready to answer
    local begin bundles command # the demo bundle too, whose answers are known
    mapfile -t command < <(config "$1" Entrypoint && config "$1" Cmd)
    bundles=$(inside "$1" "$2" python3 -c 'from service.settings import *; print(EVERYDAY_BUNDLE, DEMO_BUNDLE, sep=",")')
    begin=$EPOCHREALTIME
    inside "$1" "$2" AHSE_DEVICE=cpu "AHSE_PORT=$3" "AHSE_API_KEY=$key" "AHSE_BUNDLES=$bundles" "${command[@]}" >"$log" 2>&1 &
    service_pid=$!
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$3/v2/health/ready"; do
        kill -0 "$service_pid" 2>/dev/null || fail "the service of $1 ended: $(cat "$log")"
        ((${EPOCHREALTIME%.*} - ${begin%.*} < 60)) || fail "the service of $1 is not ready after 60 s, see $log"
        sleep 0.05
    done
    echo "  ready after $(((${EPOCHREALTIME/./} - ${begin/./}) / 1000)) ms"
}

classify() { # classify PORT: the class of one example clip, among four names that the head was not trained on
    local top
    top=$(curl --silent --show-error --fail-with-body "http://127.0.0.1:$1/v1/classify" \
        -H "Authorization: Bearer $key" -F file=@examples/bead-with-a-harp.mp4 -F bundle=demo \
        -F 'labels=bead with a harp' -F 'labels=bead with a bell' -F 'labels=star with an ember' \
        -F 'labels=disc with a horn' | python3 -c 'import json, sys; answer = json.load(sys.stdin); print(answer["predictions"][0]["label"] if "predictions" in answer else answer)')
    [[ $top == "bead with a harp" ]] || fail "a bead with a harp was taken for: $top"
    echo "  examples/bead-with-a-harp.mp4 is: $top"
}

check_health() { # check_health IMAGE ROOT PORT STATUS: the image's own health check, without its leading word CMD
    local test
    mapfile -t test < <(config "$1" Healthcheck.Test | tail -n +2)
    local status=0
    (inside "$1" "$2" "AHSE_PORT=$3" "${test[@]}") >>"$log" 2>&1 || status=$?
    [[ $status == "$4" ]] || fail "the health check of $1 ended with $status, not $4"
}

check_contents() { # check_contents IMAGE ROOT RUNTIME: the packages and tools inside an image
    (inside "$1" "$2" python3 -c '
import importlib, importlib.metadata as packages, platform, shutil, sys
names = {package.name for package in packages.distributions()}
runtimes = names & {"onnxruntime", "onnxruntime-gpu"}
unwanted = names & {"torch", "pip", "uv", "setuptools", "hatchling"}
unwanted |= {tool for tool in ("gcc", "cc", "pip", "uv", "ld") if shutil.which(tool)}
for module in ("alembic", "fsspec", "psycopg", "pyarrow.parquet", "sqlalchemy"):  # of the extras postgres and bulk
    importlib.import_module(module)
if unwanted or runtimes != {sys.argv[1]}:
    sys.exit(f"unwanted: {sorted(unwanted)}, runtimes: {sorted(runtimes)}")
print(f"  Python {platform.python_version()}, {sys.argv[1]} {packages.version(sys.argv[1])}, {len(names)} packages")
' "$3") || fail "$1 has missing or unwanted contents"
    (inside "$1" "$2" sh -c 'id -u; ! touch /app/written 2>/dev/null') | grep -qx 10001 || fail "$1 can write to /app"
}

check_no_key() { # check_no_key IMAGE ROOT PORT: without a key nothing listens on all addresses
    (inside "$1" "$2" "AHSE_PORT=$3" ahse serve) >"$log" 2>&1 && fail "$1 started without an API key"
    grep -q "AHSE_API_KEY" "$log" || fail "$1 does not say that it needs an API key: $(cat "$log")"
}

check_refusal() { # check_refusal IMAGE ROOT PORT: the gpu image without a GPU says what is wrong
    (inside "$1" "$2" "AHSE_PORT=$3" "AHSE_API_KEY=$key" ahse serve) >"$log" 2>&1 && fail "$1 started without a GPU"
    grep -q "device cuda was asked for" "$log" || fail "$1 does not say that there is no GPU: $(cat "$log")"
    echo "  without a GPU and with AHSE_DEVICE=cuda: $(grep -o 'device cuda was asked for.*' "$log" | head -1)"
}

list_contents() { # list_contents cpu|gpu ROOT: the bill of materials, where `make sbom` has installed the tools for it
    [[ -x .venv/bin/cyclonedx-py ]] || return 0
    .venv/bin/python -m supply_chain sbom "$1" --root "$2" --out "build/ahse-$1.cdx.json" || fail "no bill of materials of $1"
}

try() { # try cpu|gpu
    local image=ahse:$1 runtime=onnxruntime container root port
    [[ $1 == cpu ]] || runtime=onnxruntime-gpu
    container=$(images from --pull-never "$image")
    root=$(images mount "$container")
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    echo "$image"
    echo "  $(images images --format '{{.Size}}' "$image"), $(($(du -sb "$root/app" | cut -f1) / 1000000)) MB of it packages"
    check_contents "$image" "$root" "$runtime"
    list_contents "$1" "$root"
    check_no_key "$image" "$root" "$port"
    start "$image" "$root" "$port"
    classify "$port"
    check_health "$image" "$root" "$port" 0
    kill "$service_pid" && wait "$service_pid" || true
    service_pid=
    check_health "$image" "$root" "$port" 1
    [[ $1 != gpu ]] || check_refusal "$image" "$root" "$port"
    images rm "$container" >/dev/null
}

mkdir -p "$dir"
trap clean_up EXIT
make_base
for target in cpu gpu; do
    build "$target"
    try "$target"
done
