# Read by `sh` from standard input on a worker's machine. The lines before this one set `hash`, `size`, `machine`, `nonce` and `failed`,
# and the positional parameters: a tool before the worker, if there is one. Standard output has the answers to the driver.
umask 077
fail() {
    echo "$1" >&2
    exit "$failed"
}
[ "$(uname -sm)" = "$machine" ] ||
    fail "that machine is $(uname -sm), this build of cargo-kbench is for $machine: install one there, and name it in \`path\`"

# Whether a folder belongs to this user alone and programs run from it.
is_usable() {
    {
        mkdir -p "$1" && [ ! -L "$1" ] && [ -O "$1" ] && chmod 700 "$1" &&
            echo '#!/bin/sh' >"$1/$nonce" && chmod 700 "$1/$nonce" && "$1/$nonce"
    } 2>/dev/null
    usable=$?
    rm -f "$1/$nonce"
    return $usable
}
folder=
for each in "${XDG_CACHE_HOME:+$XDG_CACHE_HOME/cargo-kbench}" "${HOME:+$HOME/.cache/cargo-kbench}" "${TMPDIR:-/tmp}/cargo-kbench-$(id -u)"; do
    [ -z "$folder" ] && [ -n "$each" ] && is_usable "$each" && folder=$each
done
[ -n "$folder" ] || fail "no folder there takes cargo-kbench: set TMPDIR to one from which programs run, or install it and name it in \`path\`"

file=$folder/cargo-kbench-$hash
if [ ! -x "$file" ]; then
    part=$folder/$nonce
    trap 'rm -f "$part"' EXIT
    trap 'exit "$failed"' HUP INT TERM
    echo '{"ship":"send"}'
    head -c "$size" >"$part"
    [ "$(wc -c <"$part")" -eq "$size" ] || fail "cargo-kbench did not arrive whole in $folder: is there space, and is \`head\` there?"
    chmod 700 "$part"
    said=$("$part" --version 2>&1 </dev/null) ||
        fail "cargo-kbench does not run there: $said; build one there, and name it in \`path\`"
    mv "$part" "$file"
    trap - EXIT
    find "$folder" -type f -name 'cargo-kbench-*' -mtime +30 -exec rm -f {} + 2>/dev/null
fi
echo '{"ship":"there"}'
exec "$@" "$file" kbench worker
