
# `cargo kbench …` is completed as `cargo-kbench …`, beside what completes the rest of cargo.
function __fish_cargo_kbench_words
    set -l words (commandline -opc)[2..-1]
    string match -q -- '+*' $words[1]; and set -e words[1]
    test "$words[1]" = kbench; and printf '%s\n' cargo-kbench $words[2..-1]
end

function __fish_cargo_kbench_complete
    complete -C (string join ' ' -- (string escape -- (__fish_cargo_kbench_words)) (commandline -ct))
end

complete -c cargo -n 'set -l words (__fish_cargo_kbench_words); test -n "$words"' -f -a '(__fish_cargo_kbench_complete)'
complete -c cargo -n __fish_use_subcommand -f -a kbench -d 'Compile, gate and autotune kernels'
