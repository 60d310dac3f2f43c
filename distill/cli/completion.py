"""`distill completion bash|zsh|fish`: a script that completes verbs, options, recipes and keys."""

from collections.abc import Sequence

from distill.cli.candidates import candidates
from distill.cli.parser import VerbParser

_ANSWER = "--answer"  # what the scripts call: the words after `distill`, the one at the cursor last
_MORE = """
bash: echo 'eval "$(distill completion bash)"' >> ~/.bashrc

zsh, after compinit: echo 'eval "$(distill completion zsh)"' >> ~/.zshrc

fish: distill completion fish > ~/.config/fish/completions/distill.fish
"""
_SCRIPTS = {
    "bash": """\
_distill() {
    local IFS=$'\\n'
    COMPREPLY=($("$1" completion --answer "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *. ]]; then compopt -o nospace; fi
}
complete -o default -F _distill distill
""",
    "zsh": """\
#compdef distill
_distill() {
    local -a found
    found=(${(f)"$("$words[1]" completion --answer "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ! $#found )); then _files; return; fi
    compadd -- ${found:#*.}
    compadd -S '' -- ${(M)found:#*.}
}
compdef _distill distill
""",
    "fish": """\
function __distill_candidates
    set -l before (commandline -opc)
    set -l word (commandline -ct)
    set -l found (distill completion --answer $before[2..-1] "$word" 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path "$word"
    end
end
complete -c distill -f -a '(__distill_candidates)'
""",
}


def run(words: list[str]) -> None:
    """Runs `distill completion bash|zsh|fish`."""
    if words[1:2] == [_ANSWER]:
        for word in answer(words[2:]):
            print(word)
    else:
        print(_SCRIPTS[parser().parse_args(words[1:]).shell], end="")


def parser() -> VerbParser:
    """The parser of the command line."""
    whole = VerbParser("distill completion", description=__doc__, epilog=_MORE)
    whole.add_argument("shell", choices=_SCRIPTS)
    return whole


def answer(parts: Sequence[str]) -> list[str]:
    """What may stand for the last part of a command line, as a shell replaces it.

    Args:
        parts: The line after `distill` up to the cursor. Bash makes three parts of `--key=value`, and replaces the
            last of them.
    """
    words: list[str] = []
    joined = False
    for part in parts:
        if words and (joined or part == "="):
            words[-1] += part
            joined = part == "="
        else:
            words.append(part)
    split = "=" in parts[-2:] and len(parts) > 1
    word = words[-1] if words else ""
    found = candidates(words[:-1], word)
    return [one.partition("=")[2] for one in found] if split and "=" in word else found
