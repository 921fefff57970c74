
# `cargo kbench …` is completed as `cargo-kbench …`; everything else by what completed cargo before.
_cargo_before_kbench() {
    local loader
    for loader in '' _comp_load __load_completion _completion_loader; do
        [[ -z $loader ]] || { declare -F "$loader" >/dev/null && "$loader" cargo; }
        if [[ $(complete -p cargo 2>/dev/null) =~ \ -F\ ([^ ]+)\  && ${BASH_REMATCH[1]} != _cargo_with_kbench ]]; then
            _CARGO_BEFORE_KBENCH=${BASH_REMATCH[1]}
            return
        fi
    done
}

_cargo_with_kbench() {
    local at=1
    [[ ${COMP_WORDS[1]} == +* ]] && at=2
    if [[ ${COMP_WORDS[at]} == kbench && $COMP_CWORD -gt $at ]]; then
        local words=(cargo-kbench "${COMP_WORDS[@]:at+1}")
        local COMP_CWORD=$((COMP_CWORD - at))
        local COMP_WORDS=("${words[@]}")
        _kbench cargo-kbench "$2" "$3"
        return
    fi
    [[ -z ${_CARGO_BEFORE_KBENCH:-} ]] || "$_CARGO_BEFORE_KBENCH" "$@"
    if [[ $COMP_CWORD -eq $at && -n $2 && kbench == "$2"* && " ${COMPREPLY[*]} " != *' kbench '* ]]; then
        COMPREPLY+=(kbench)
    fi
}

_cargo_before_kbench
complete -F _cargo_with_kbench -o bashdefault -o default cargo
complete -r kbench
complete -F _kbench -o bashdefault -o default cargo-kbench
